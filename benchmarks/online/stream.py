"""A stream as the pipeline cuts it into chunks: logs, Transform graph, feature tables, truth."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import tensorflow_transform as tft
import tensorflow_transform.beam as tft_beam
from tensorflow_transform.tf_metadata import dataset_metadata
from tfx_bsl.tfxio import parquet_tfxio

from benchmarks.online.plan import Setting
from tfx_distill.components.span_example_gen import ingest
from tfx_distill.datasets import logs, simulator
from tfx_distill.datasets.example_shards import read_shard
from tfx_distill.datasets.surfaces import VIDEO
from tfx_distill.schema import columns, tfmd
from tfx_distill.schema import config as run_config
from tfx_distill.schema.config import RunConfig
from tfx_distill.trainer import feature_table, features
from tfx_distill.trainer.materialize import Materializer

if TYPE_CHECKING:
    from numpy.typing import NDArray

Columns = dict[str, "NDArray[Any]"]

CONFIGS = Path(__file__).parents[2] / "configs"
SERVED_POSITION = 6
"""What the video config gives for the position when it serves."""


@dataclass(frozen=True)
class Chunk:
    """What is trained on at once, and the later examples on which it is evaluated.

    Attributes:
      span: The last one.
      table: Folder of the feature table. Its train split holds, from the second chunk on, the eval
        examples of the span before.
      scored: The eval split as a pushed model sees it (serving values filled in), with the hard
        labels, weights and ids; arrays of length [rows] or [rows, width].
      truth: Of simulated examples, by column of the truth; else empty.
    """

    span: int
    table: Path
    scored: Columns
    truth: Columns

    @property
    def train(self) -> Path:
        """Folder of the feature table's train split."""
        return self.table / "Split-train"


class Stream:
    """The chunks of one seed, made at first use and kept in a folder.

    Args:
      setting: What to make.
      seed: Of the simulated stream, and of every model trained on it.
      folder: Where to keep it.
    """

    def __init__(self, setting: Setting, seed: int, folder: Path) -> None:
        self.setting, self.seed, self.folder = setting, seed, folder
        self.config = _config(setting, seed, folder)

    @cached_property
    def chunks(self) -> list[Chunk]:
        """The bootstrap's, then one a span."""
        done = self.folder / "chunks.done"
        if not done.exists():
            shutil.rmtree(self.folder, ignore_errors=True)
            self._make()
            done.touch()
        return [self._chunk(span) for span in range(self.setting.bootstrap - 1, self.setting.spans)]

    def category(self, feature: str, value: str) -> int:
        """The id that the Transform graph gives a value of a feature with a vocabulary."""
        words = tft.TFTransformOutput(str(self.folder / "graph")).vocabulary_by_name(feature)
        return list(words).index(value.encode()) + 1

    def _make(self) -> None:
        if self.setting.data == "video":
            simulated = simulator.SimulatorConfig(
                seed=self.seed, examples_per_span=self.setting.examples, eval_fraction=0.3
            )
            for span in range(self.setting.spans):
                simulator.write_span(self.folder / "data", simulated, VIDEO, span)
        log = logs.LogConfig.of(self.config)
        raw = self.folder / "raw"
        bounds = [(0, self.setting.bootstrap - 1)]
        bounds += [(span, span) for span in range(self.setting.bootstrap, self.setting.spans)]
        for spans in bounds:
            folder = raw / str(spans[1])
            folder.mkdir(parents=True)
            report = ingest(log, spans, folder)
            if spans[0] != spans[1] or len(bounds) == 1:
                self._analyse(folder / "Split-train", report.types)
        materializer = Materializer(
            str(self.folder / "graph"), self.config.features, self.config.tasks
        )
        for first, last in bounds:
            source, target = raw / str(last), self.folder / "tables" / str(last)
            for split in columns.SPLITS:
                for shard in sorted((source / f"Split-{split}").glob("*.parquet")):
                    file = target / f"Split-{split}" / f"{shard.stem}{feature_table.SUFFIX}"
                    _write(file, materializer.rows(read_shard(shard)))
            for shard in sorted((source / "Split-eval").glob("*.parquet")):
                served = (self._served(batch) for batch in read_shard(shard))
                _write(
                    target / "served" / f"{shard.stem}{feature_table.SUFFIX}",
                    materializer.rows(served),
                )
            if last != bounds[0][1]:
                before = self.folder / "tables" / str(first - 1) / "Split-eval"
                for file in before.glob(f"*{feature_table.SUFFIX}"):
                    (target / "Split-train" / f"carried-{file.name}").hardlink_to(file)

    def _analyse(self, train: Path, types: dict[str, pa.DataType]) -> None:
        """What TFX's Transform does with the train split, without its orchestration."""
        schema = tfmd.tfmd_schema(self.config, types)
        examples = parquet_tfxio.ParquetTFXIO(
            f"{train}/*.parquet", column_names=[f.name for f in schema.feature], schema=schema
        )
        custom = {
            "features": self.config.features.model_dump_json(),
            "data": f"{self.folder} {self.seed}",
        }
        graph = str(self.folder / "graph")
        with (
            beam.Pipeline(
                runner="FnApiRunner",
                options=beam.pipeline.PipelineOptions(["--sdk_container_image=unused"]),
            ) as pipeline,
            tft_beam.Context(temp_dir=str(self.folder / "temporary")),
        ):
            raw = pipeline | "Read" >> examples.BeamSource(batch_size=16_384)
            made = (raw, examples.TensorAdapterConfig()) | tft_beam.AnalyzeDataset(
                lambda inputs: features.preprocessing_fn(inputs, custom)
            )
            _ = made | tft_beam.WriteTransformFn(graph)
            _ = dataset_metadata.DatasetMetadata(schema) | tft_beam.WriteMetadata(
                f"{graph}/metadata", pipeline
            )

    def _served(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """The batch with what a pushed model fills in."""
        arrays = dict(zip(batch.schema.names, batch.columns, strict=True))
        given = self.config.features
        for feature in (*given.numeric, *given.categorical):
            if feature.serving_value is not None:
                kind = arrays[feature.name].type
                arrays[feature.name] = pa.array([[feature.serving_value]] * batch.num_rows, kind)
        return pa.RecordBatch.from_arrays(list(arrays.values()), names=list(arrays))

    def _chunk(self, span: int) -> Chunk:
        table = self.folder / "tables" / str(span)
        parts = [feature_table.read(file) for file in sorted((table / "served").iterdir())]
        scored = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
        truth: Columns = {}
        if self.setting.data == "video":
            truth = self._truth(span, scored[columns.EXAMPLE_ID])
        return Chunk(span, table, scored, truth)

    def _truth(self, span: int, ids: NDArray[np.int64]) -> Columns:
        """The truth about these eval examples, had each been shown at the serving position."""
        folder = self.folder / "data"
        truth = pq.read_table(folder / f"truth/video/span-{span}/eval-00000.parquet")
        logged = pq.read_table(
            folder / f"video/span-{span}/eval-00000.parquet", columns=["impression_id", "position"]
        )
        if not np.array_equal(truth["impression_id"].to_numpy(), ids):
            raise ValueError(f"the truth of span {span} is not in the order of its examples")
        # A position k is examined with probability k^-0.5 (ADR 3); examination multiplies the
        # click probability, and the click probability the expected long-term value.
        moved = np.sqrt(logged["position"].to_numpy() / SERVED_POSITION)
        out = {name: truth[name].to_numpy().astype(np.float64) for name in truth.column_names[1:]}
        return {
            "click": np.minimum(out["click_probability"] * moved, 1),
            "satisfaction": out["satisfaction_probability"],
            "ltv": out["expected_ltv"] * moved,
        }


def _write(file: Path, rows: Iterator[pa.RecordBatch]) -> None:
    with feature_table.Writer(file) as writer:
        for batch in rows:
            writer.write(batch)


def _config(setting: Setting, seed: int, folder: Path) -> RunConfig:
    file = CONFIGS / f"{setting.data}.yaml"
    base = run_config.load(file)
    if setting.data == "movielens":
        return run_config.load(file, {"seed": seed})
    given = base.features.model_dump()
    # As roomy for a catalogue this small as the demo's buckets are for its own.
    for feature in given["categorical"]:
        if feature["buckets"]:
            feature["buckets"] = 4096
    spans = f"{folder}/data/video/span-{{SPAN}}/{{split}}-*.parquet"
    return run_config.load(
        file,
        {"seed": seed, "features": given, "data": base.data.model_dump() | {"spans": spans}},
    )
