"""SpanTransform: what TFX's Transform makes of ingested examples, learned in columns.

This module has no deferred annotations: TFX reads those of a component function at run time.
"""

import shutil
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from urllib.parse import quote

import apache_beam as beam
import numpy as np
import pyarrow as pa
import tensorflow_transform as tft
import tensorflow_transform.beam as tft_beam
from apache_beam.options.pipeline_options import PipelineOptions
from numpy.typing import NDArray
from tensorflow_metadata.proto.v0 import schema_pb2
from tfx.dsl.component.experimental.annotations import (
    BeamComponentParameter,
    InputArtifact,
    OutputArtifact,
    Parameter,
)
from tfx.dsl.component.experimental.decorators import component
from tfx.types import standard_artifacts
from tfx.utils import io_utils

from tfx_distill.components.value_counts import ValueCounts
from tfx_distill.datasets.example_shards import read_shard
from tfx_distill.schema.config import CategoricalFeature, FeaturesConfig
from tfx_distill.trainer.features import Learned, preprocessing_fn

MOMENTS = "moments.npy"
NO_TEXT, NO_INTEGER = b"49d0cd50-04bb-48c0-bc6f-5b575dce351a", b"-1"
"""TFT's one value of a vocabulary without values: TensorFlow refuses tables of none."""


@component(use_beam=True)
def SpanTransform(  # noqa: N802
    examples: InputArtifact[standard_artifacts.Examples],
    schema: InputArtifact[standard_artifacts.Schema],
    transform_graph: OutputArtifact[standard_artifacts.TransformGraph],
    features: Parameter[str],
    data: Parameter[str],
    beam_pipeline: BeamComponentParameter[beam.Pipeline] = None,
) -> None:
    """Makes the Transform graph that TFX's Transform makes of the same `preprocessing_fn`.

    Transform's analysers are Beam steps by the hundred around TensorFlow graphs, traced and saved
    for each phase of the analysis. Here the Beam element is an example shard, read in record
    batches, and what was learned is known when TFT traces the graph. Memory grows with the distinct
    values of the features with a vocabulary.

    Args:
      examples: From SpanExampleGen; the train split is analysed.
      schema: Of all columns.
      transform_graph: Output, as of Transform.
      features: The features section of the run config as JSON.
      data: Fingerprint of the data.
      beam_pipeline: Given by TFX.

    Example:
      SpanTransform(
          examples=example_gen.outputs["examples"],
          schema=schema_gen.outputs["schema"],
          features=run_config.features.model_dump_json(),
          data=logs.fingerprint(run_config.data, spans),
      ).with_id("Transform")
    """
    config = FeaturesConfig.model_validate_json(features)
    types = io_utils.SchemaReader().read(io_utils.get_only_uri_in_dir(schema.uri))
    shards = sorted((Path(examples.uri) / "Split-train").glob("*.parquet"))
    learned = Path(transform_graph.uri) / "learned"
    with beam_pipeline as pipeline:
        _ = (
            pipeline
            | "Shards" >> beam.Create([str(shard) for shard in shards], reshuffle=False)
            | "Learn" >> beam.CombineGlobally(_Learning(config))
            | "Write" >> beam.Map(partial(_write, learned, config, types))
        )
    custom = {"features": features, "data": data}
    _write_graph(transform_graph.uri, types, custom, _read(learned, config))
    shutil.rmtree(learned)


class _Analysis:
    """What some shards say: moments of the numeric features, counts by vocabulary."""

    def __init__(self, features: FeaturesConfig) -> None:
        self._numeric = features.numeric
        self.moments = np.zeros((3, len(features.numeric)))
        self.counts = {feature.name: ValueCounts() for feature in _with_vocabulary(features)}

    def add(self, batch: pa.RecordBatch) -> None:
        """Adds the rows of an example shard."""
        for place, feature in enumerate(self._numeric):
            values = _first_values(batch.column(feature.name))
            if feature.transform == "log1p":
                values = np.log1p(np.maximum(values, 0.0))
            self.moments[:, place] += np.array([len(values), values.sum(), values @ values])
        for name, counts in self.counts.items():
            counts.add(batch.column(name).flatten())

    def merge(self, other: "_Analysis") -> None:
        """Adds the rows of another one."""
        self.moments += other.moments
        for name, counts in self.counts.items():
            counts.merge(other.counts[name])


class _Learning(beam.CombineFn):
    """The analysis of all shards."""

    def __init__(self, features: FeaturesConfig) -> None:
        self._features = features
        numeric = [feature.name for feature in features.numeric]
        counted = [feature.name for feature in _with_vocabulary(features)]
        self._names = list(dict.fromkeys(numeric + counted))

    def create_accumulator(self) -> _Analysis:
        """Of no shard."""
        return _Analysis(self._features)

    def add_input(self, accumulator: _Analysis, shard: str) -> _Analysis:
        """Adds a shard, batch by batch."""
        for batch in read_shard(shard, self._names):
            accumulator.add(batch)
        return accumulator

    def merge_accumulators(self, accumulators: Iterable[_Analysis]) -> _Analysis:
        """Adds up."""
        first, *others = accumulators
        for other in others:
            first.merge(other)
        return first

    def compact(self, accumulator: _Analysis) -> _Analysis:
        """Makes it smaller, before it is sent."""
        for counts in accumulator.counts.values():
            counts.compact()
        return accumulator

    def extract_output(self, accumulator: _Analysis) -> _Analysis:
        """As it is."""
        return accumulator


def _with_vocabulary(features: FeaturesConfig) -> list[CategoricalFeature]:
    every = (*features.categorical, *features.multivalent)
    return [feature for feature in every if feature.vocab is not None]


def _first_values(column: pa.Array) -> NDArray[np.float64]:
    """Of the rows that have one; the graph takes no other either."""
    lengths = column.value_lengths().fill_null(0).to_numpy(zero_copy_only=False)
    starts = column.offsets.to_numpy()[:-1]
    values = column.values.to_numpy(zero_copy_only=False)
    return values[starts[lengths > 0]].astype(np.float64)


def _write(
    folder: Path, features: FeaturesConfig, types: schema_pb2.Schema, found: _Analysis
) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    np.save(folder / MOMENTS, found.moments)
    integers = {f.name for f in types.feature if f.type == schema_pb2.INT}
    for feature in _with_vocabulary(features):
        values = found.counts[feature.name].most_frequent()[: feature.vocab].to_pylist()
        if not values:
            values = [NO_INTEGER if feature.name in integers else NO_TEXT]
        Path(_file(folder, feature)).write_bytes(b"".join(value + b"\n" for value in values))


def _read(folder: Path, features: FeaturesConfig) -> Learned:
    files = {feature.name: _file(folder, feature) for feature in _with_vocabulary(features)}
    return Learned(np.load(folder / MOMENTS), files)


def _file(folder: Path, feature: CategoricalFeature) -> str:
    """Of a vocabulary; TensorFlow keeps the name: no two features may have the same."""
    return str(folder / quote(feature.name, safe=""))


def _write_graph(
    target: str, types: schema_pb2.Schema, custom: dict[str, str], learned: Learned
) -> None:
    """Traces and saves, in this process: no example is looked at."""
    metadata = tft.DatasetMetadata(types)
    options = PipelineOptions(["--sdk_container_image=unused", "--no_pipeline_type_check"])
    temporary = f"{target}/temporary"
    with (
        beam.Pipeline("FnApiRunner", options) as pipeline,
        tft_beam.Context(temp_dir=temporary),
    ):
        nothing = pipeline | "Nothing" >> beam.Create([], reshuffle=False)
        analysed = (nothing, metadata) | tft_beam.AnalyzeDataset(
            partial(preprocessing_fn, custom_config=custom, learned=learned)
        )
        _ = analysed | tft_beam.WriteTransformFn(target)
        raw = f"{target}/{tft.TFTransformOutput.RAW_METADATA_DIR}"
        _ = metadata | tft_beam.WriteMetadata(raw, pipeline)
    shutil.rmtree(temporary)
