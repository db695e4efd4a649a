"""SpanStatistics: TFDV's statistics of ingested examples, in columns.

This module has no deferred annotations: TFX reads those of a component function at run time.
"""

from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Any

import apache_beam as beam
import tensorflow_data_validation as tfdv
from tensorflow_data_validation.statistics import stats_impl
from tensorflow_metadata.proto.v0 import schema_pb2, statistics_pb2
from tfx.dsl.component.experimental.annotations import (
    BeamComponentParameter,
    InputArtifact,
    OutputArtifact,
)
from tfx.dsl.component.experimental.decorators import component
from tfx.types import artifact_utils, standard_artifacts
from tfx.utils import io_utils

from tfx_distill.datasets.example_shards import read_shard
from tfx_distill.schema import columns

FILE = "FeatureStats.pb"
"""What TFX calls the file of a split."""


@component(use_beam=True)
def SpanStatistics(  # noqa: N802
    examples: InputArtifact[standard_artifacts.Examples],
    schema: InputArtifact[standard_artifacts.Schema],
    statistics: OutputArtifact[standard_artifacts.ExampleStatistics],
    beam_pipeline: BeamComponentParameter[beam.Pipeline] = None,
) -> None:
    """Computes what StatisticsGen does, by the same generators of TFDV.

    StatisticsGen builds a Beam graph with steps for each value of each column, which takes seconds
    however few examples there are. Here the Beam element is an example shard, read in record
    batches. The most frequent values come from sketches: they are exact up to 16,384 different
    values of a column, and so is the number of different ones.

    Args:
      examples: From SpanExampleGen.
      schema: With it, integer categories are counted as categories, not averaged as quantities.
      statistics: Output, as of StatisticsGen.
      beam_pipeline: Given by TFX.

    Example:
      SpanStatistics(
          examples=example_gen.outputs["examples"], schema=schema_gen.outputs["schema"]
      ).with_id("StatisticsGen")
    """
    shards = [
        (split, str(file))
        for split in columns.SPLITS
        for file in sorted((Path(examples.uri) / f"Split-{split}").glob("*.parquet"))
    ]
    types = io_utils.SchemaReader().read(io_utils.get_only_uri_in_dir(schema.uri))
    with beam_pipeline as pipeline:
        _ = (
            pipeline
            | "Shards" >> beam.Create(shards, reshuffle=False)
            | "Summarise" >> beam.CombinePerKey(_Summary(types))
            | "Write" >> beam.MapTuple(partial(_write, statistics.uri))
        )
    statistics.split_names = artifact_utils.encode_split_names(list(columns.SPLITS))
    statistics.span = examples.span


def _write(folder: str, split: str, found: statistics_pb2.DatasetFeatureStatisticsList) -> None:
    target = Path(folder) / f"Split-{split}"
    target.mkdir(parents=True, exist_ok=True)
    (target / FILE).write_bytes(found.SerializeToString())


class _Summary(beam.CombineFn):
    """Statistics of shards; the accumulator holds one of each generator of TFDV."""

    def __init__(self, schema: schema_pb2.Schema) -> None:
        self._schema = schema

    def setup(self) -> None:
        """Makes the generators."""
        options = tfdv.StatsOptions(schema=self._schema)
        self._generators = stats_impl.get_generators(options, in_memory=True)
        for generator in self._generators:
            generator.setup()

    def create_accumulator(self) -> list[Any]:
        """Of no shard."""
        return [generator.create_accumulator() for generator in self._generators]

    def add_input(self, accumulator: list[Any], shard: str) -> list[Any]:
        """Adds a shard, batch by batch."""
        for batch in read_shard(shard):
            accumulator = [
                generator.add_input(part, batch)
                for generator, part in zip(self._generators, accumulator, strict=True)
            ]
        return accumulator

    def merge_accumulators(self, accumulators: Iterable[list[Any]]) -> list[Any]:
        """Adds up."""
        parts = zip(*accumulators, strict=True)
        return [
            generator.merge_accumulators(part)
            for generator, part in zip(self._generators, parts, strict=True)
        ]

    def compact(self, accumulator: list[Any]) -> list[Any]:
        """Makes it smaller, before it is sent."""
        return [
            generator.compact(part)
            for generator, part in zip(self._generators, accumulator, strict=True)
        ]

    def extract_output(self, accumulator: list[Any]) -> statistics_pb2.DatasetFeatureStatisticsList:
        """The message that TFDV shows and validates."""
        return stats_impl.extract_statistics_output(accumulator, self._generators)
