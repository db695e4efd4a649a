"""Examples, their Transform graph and feature table, and how a component is run on them alone."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from tfx.components.schema_gen.import_schema_gen.component import ImportSchemaGen
from tfx.dsl.components.base.base_beam_executor import BaseBeamExecutor
from tfx.orchestration import metadata
from tfx.orchestration.local.local_dag_runner import LocalDagRunner
from tfx.orchestration.pipeline import Pipeline
from tfx.types import artifact, standard_artifacts

from tfx_distill.components.feature_materializer import FeatureMaterializer, MaterializerConfig
from tfx_distill.components.span_example_gen import SpanExampleGen
from tfx_distill.components.span_transform import SpanTransform
from tfx_distill.datasets import logs
from tfx_distill.datasets.logs import LogConfig
from tfx_distill.schema import tfmd
from tfx_distill.schema.config import RunConfig, SparkConfig

BEAM = ["--runner=FnApiRunner", "--sdk_container_image=unused"]
SPAN = 3
ROWS = {"train": 300, "eval": 100}
KNOWN_USERS = {
    # FARM_FINGERPRINT, from the example in BigQuery's reference.
    "1footrue": -1541654101129638711,
    "2applefalse": 2794438866806483259,
    "3true": -4880158226897771312,
}


def logged() -> pl.DataFrame:
    """Every kind of feature, with missing values; the eval split is not like the train split."""
    total = sum(ROWS.values())
    rng = np.random.default_rng(7)
    number = np.arange(total)
    late = number >= ROWS["train"]
    clicked = rng.random(total) < 0.4
    users = [*KNOWN_USERS, *(f"u{i}" for i in range(17))]
    # Ten, five, three and two in twenty: no two words are equally frequent.
    devices = np.array(["phone"] * 10 + ["tv"] * 5 + ["pad"] * 3 + ["watch"] * 2)[number % 20]
    videos = np.array([5] * 7 + [-1] * 5 + [2**40] * 4 + [8, 8, 8, 9])[number % 20]
    return pl.DataFrame(
        {
            "split": np.where(late, "eval", "train"),
            "impression_id": 1000 + number,
            "request_id": number // 10,
            "timestamp": number,
            "age": [
                None if n % 7 == 0 else float("nan") if n % 5 == 0 else value
                for n, value in enumerate((rng.normal(40, 9, total) + 100 * late).tolist())
            ],
            "views": [None if n % 13 == 0 else n * n % 1000 for n in number.tolist()],
            "constant": np.full(total, 0.1),
            "place": (number % 10).astype(float),
            "device": [
                None if n % 11 == 0 else "car" if new and n % 3 == 0 else device
                for n, new, device in zip(number.tolist(), late, devices.tolist(), strict=True)
            ],
            "video": [None if n % 17 == 0 else video for n, video in enumerate(videos.tolist())],
            "user": [users[n % len(users)] for n in number.tolist()],
            "channel": [None if n % 4 == 0 else n % 9 - 4 for n in number.tolist()],
            "topics": [
                None if n % 8 == 0 else [f"t{(n + k) % 6}" for k in range(n % 4)]
                for n in number.tolist()
            ],
            "tags": [[n * k for k in range(n % 6)] for n in number.tolist()],
            "clicked": clicked.astype(int),
            # Some players log seconds without a click.
            "watch_s": [
                seconds if click or n % 10 == 0 else None
                for n, seconds, click in zip(
                    number.tolist(), rng.exponential(30, total).tolist(), clicked, strict=True
                )
            ],
            "mood": rng.normal(size=total),
        }
    )


def run_config(folder: Path) -> RunConfig:
    bounds = [
        {"task": "click", "metric": "auc", "min": 0.0},
        {"task": "watch", "metric": "mse", "max": 1e6},
        {"task": "mood", "metric": "mse", "max": 1e6},
    ]
    return RunConfig.model_validate(
        {
            "name": "tiny",
            "root": str(folder / "runs"),
            "data": {
                "spans": f"{folder}/logs/span-{{SPAN}}/{{split}}-*.parquet",
                "example_id": "impression_id",
                "query_id": "request_id",
                "event_time": "timestamp",
                "shard_rows": 128,
            },
            "features": {
                "numeric": [
                    "age",
                    {"name": "views", "transform": "log1p"},
                    "constant",
                    {"name": "place", "serving_value": 1.0},
                ],
                "categorical": [
                    {"name": "device", "vocab": 2, "oov_buckets": 3},
                    {"name": "video", "vocab": 3},
                    {"name": "user", "buckets": 16},
                    {"name": "channel", "buckets": 8},
                ],
                "multivalent": [
                    {"name": "topics", "vocab": 4, "max_length": 2},
                    {"name": "tags", "buckets": 32, "max_length": 3},
                ],
            },
            "tasks": [
                {"name": "click", "kind": "binary", "label": "clicked"},
                {
                    "name": "watch",
                    "kind": "regression",
                    "label": "watch_s",
                    "transform": "log1p",
                    "applies_when": "clicked",
                },
                {"name": "mood", "kind": "regression", "label": "mood"},
            ],
            "teacher": {"model": {"hidden": 4, "width": 1}},
            "students": [{"name": "small"}],
            "gate": {"students": bounds, "teacher": bounds},
            "push": {"directory": str(folder / "serving")},
        }
    )


def made(kind: type[Any], uri: str | Path, number: int = 1) -> Any:
    """An artifact as ML Metadata would hand it to an executor."""
    out = kind()
    out.uri, out.id = str(uri), number
    return out


def execute(component: Any, scratch: Path, inputs: Any, outputs: Any, **parameters: Any) -> None:
    """Runs a component's executor on real artifacts, with real Beam where it uses Beam."""
    executor = component.EXECUTOR_SPEC.executor_class
    beam = {"beam_pipeline_args": BEAM} if issubclass(executor, BaseBeamExecutor) else {}
    context = executor.Context(tmp_dir=str(scratch), unique_id="1", **beam)
    executor(context).Do(
        {name: [value] for name, value in inputs.items()},
        {name: [value] for name, value in outputs.items()},
        parameters,
    )


@dataclass(frozen=True)
class Prepared:
    """A config, its logs, and what the components made of them."""

    config: RunConfig
    log: pl.DataFrame
    examples: artifact.Artifact
    transform_graph: artifact.Artifact


def prepare(folder: Path) -> Prepared:
    """Ingests the logs and analyses them, with the components that do so in a run."""
    config, log = run_config(folder), logged()
    (folder / f"logs/span-{SPAN}").mkdir(parents=True)
    for (split,), part in log.partition_by("split", as_dict=True).items():
        part.drop("split").write_parquet(folder / f"logs/span-{SPAN}/{split}-0.parquet")
    own = LogConfig.of(config)
    types = logs.column_types(own, logs.files(own.data))
    schema = ImportSchemaGen(
        schema_file=str(tfmd.write(tfmd.tfmd_schema(config, types), folder / "schema"))
    )
    generator = SpanExampleGen(config=own.model_dump_json(), spans=str(SPAN), fingerprint="-")
    transform = SpanTransform(
        examples=generator.outputs["examples"],
        schema=schema.outputs["schema"],
        features=config.features.model_dump_json(),
        data="-",
    ).with_id("Transform")
    connection = metadata.sqlite_metadata_connection_config(str(folder / "metadata.sqlite"))
    LocalDagRunner().run(
        Pipeline(
            pipeline_name="prepared",
            pipeline_root=str(folder / "root"),
            components=[generator, schema, transform],
            metadata_connection_config=connection,
            beam_pipeline_args=BEAM,
        )
    )
    (examples,) = (folder / "root/SpanExampleGen/examples").iterdir()
    (graph,) = (folder / "root/Transform/transform_graph").iterdir()
    ingested = made(standard_artifacts.Examples, examples)
    ingested.span = SPAN
    ingested.set_int_custom_property("watermark", ROWS["train"] - 1)
    for split, rows in ROWS.items():
        ingested.set_int_custom_property(f"rows_{split}", rows)
    return Prepared(config, log, ingested, made(standard_artifacts.TransformGraph, graph, number=2))


def materialize(
    prepared: Prepared, folder: Path, examples: Any = None, spark: SparkConfig | None = None
) -> Any:
    """Runs the FeatureMaterializer, on Beam unless told otherwise; returns its output."""
    features = made(standard_artifacts.Examples, folder / "features", number=3)
    execute(
        FeatureMaterializer,
        folder,
        {"examples": examples or prepared.examples, "transform_graph": prepared.transform_graph},
        {"features": features},
        config=MaterializerConfig.of(prepared.config).model_dump_json(),
        spark="" if spark is None else spark.model_dump_json(),
    )
    return features
