"""FeatureMaterializer: applies the Transform graph once, for all models of the run.

This module has no deferred annotations: TFX reads those of a component function at run time.
"""

from pathlib import Path

import apache_beam as beam
from tfx.dsl.component.experimental.annotations import (
    BeamComponentParameter,
    InputArtifact,
    OutputArtifact,
    Parameter,
)
from tfx.dsl.component.experimental.decorators import component
from tfx.types import artifact_utils, standard_artifacts

from tfx_distill.components.lineage_properties import TRANSFORM_GRAPH, WATERMARK
from tfx_distill.datasets.example_shards import read_shard
from tfx_distill.schema import columns
from tfx_distill.schema.config import FeaturesConfig, RunConfig, Section, TaskConfig
from tfx_distill.trainer import feature_table
from tfx_distill.trainer.materialize import Materializer


class MaterializerConfig(Section):
    """The parts of a run config that shape the feature table."""

    features: FeaturesConfig
    tasks: tuple[TaskConfig, ...]

    @classmethod
    def of(cls, run: RunConfig) -> "MaterializerConfig":
        """The parts of this run."""
        return cls(features=run.features, tasks=run.tasks)


@component(use_beam=True)
def FeatureMaterializer(  # noqa: N802
    examples: InputArtifact[standard_artifacts.Examples],
    transform_graph: InputArtifact[standard_artifacts.TransformGraph],
    features: OutputArtifact[standard_artifacts.Examples],
    config: Parameter[str],
    beam_pipeline: BeamComponentParameter[beam.Pipeline] = None,
) -> None:
    """Writes the feature table: transformed features and hard labels of every example.

    The Beam element is an example shard: it is read, transformed and written in record batches,
    and is the unit of a retry.

    Args:
      examples: From SpanExampleGen.
      transform_graph: From Transform.
      features: Output: `Split-<split>/part-*.arrow`, see `trainer.feature_table`. Keeps the span
        and the `watermark` of the examples, and names its `transform_graph`.
      config: A `MaterializerConfig` as JSON.
      beam_pipeline: Given by TFX.

    Example:
      FeatureMaterializer(
          examples=example_gen.outputs["examples"],
          transform_graph=transform.outputs["transform_graph"],
          config=MaterializerConfig.of(run_config).model_dump_json(),
      )
    """
    shards = [
        (
            str(file),
            str(Path(features.uri) / f"Split-{split}" / f"{file.stem}{feature_table.SUFFIX}"),
        )
        for split in columns.SPLITS
        for file in sorted((Path(examples.uri) / f"Split-{split}").glob("*.parquet"))
    ]
    with beam_pipeline as pipeline:
        _ = (
            pipeline
            | "Shards" >> beam.Create(shards, reshuffle=False)
            | "Materialize" >> beam.ParDo(_MaterializeShard(transform_graph.uri, config))
        )
    features.split_names = artifact_utils.encode_split_names(list(columns.SPLITS))
    features.span = examples.span
    features.version = 0
    features.set_string_custom_property("file_format", feature_table.FILE_FORMAT)
    features.set_string_custom_property(TRANSFORM_GRAPH, transform_graph.uri)
    for name in (WATERMARK, "rows_train", "rows_eval"):
        features.set_int_custom_property(name, examples.get_int_custom_property(name))


class _MaterializeShard(beam.DoFn):
    """Reads one example shard and writes one shard of the feature table."""

    def __init__(self, transform_graph: str, config: str) -> None:
        self._transform_graph, self._config = transform_graph, config

    def setup(self) -> None:
        """Loads the Transform graph once per worker."""
        config = MaterializerConfig.model_validate_json(self._config)
        self._materializer = Materializer(self._transform_graph, config.features, config.tasks)

    def process(self, shard: tuple[str, str]) -> None:
        """Transforms one shard."""
        source, target = shard
        with feature_table.Writer(Path(target)) as writer:
            for batch in self._materializer.rows(read_shard(source)):
                writer.write(batch)
