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

from tfx_distill.components import engines
from tfx_distill.components.feature_shards import FeatureShards
from tfx_distill.components.lineage_properties import TRANSFORM_GRAPH, WATERMARK
from tfx_distill.components.shard_work import Shard
from tfx_distill.schema import columns
from tfx_distill.schema.config import FeaturesConfig, RunConfig, Section, TaskConfig
from tfx_distill.trainer import feature_table


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
    spark: Parameter[str] = "",
    beam_pipeline: BeamComponentParameter[beam.Pipeline] = None,
) -> None:
    """Writes the feature table: transformed features and hard labels of every example.

    An example shard is read, transformed and written in record batches; it is the element of Beam,
    the task of Spark, and the unit of a retry.

    Args:
      examples: From SpanExampleGen.
      transform_graph: From Transform.
      features: Output: `Split-<split>/part-*.arrow`, see `trainer.feature_table`. Keeps the span
        and the `watermark` of the examples, and names its `transform_graph`.
      config: A `MaterializerConfig` as JSON.
      spark: The engine, from `engines.parameter`; Beam if empty.
      beam_pipeline: Given by TFX.

    Example:
      FeatureMaterializer(
          examples=example_gen.outputs["examples"],
          transform_graph=transform.outputs["transform_graph"],
          config=MaterializerConfig.of(run_config).model_dump_json(),
      )
    """
    settings = MaterializerConfig.model_validate_json(config)
    work = FeatureShards(transform_graph.uri, settings.features, settings.tasks, into=features.uri)
    shards = [
        Shard(str(file), split, file.stem)
        for split in columns.SPLITS
        for file in sorted((Path(examples.uri) / f"Split-{split}").glob("*.parquet"))
    ]
    notes = engines.run(
        work,
        shards,
        spark=spark,
        beam_pipeline=beam_pipeline,
        notes=Path(features.uri) / "notes",
    )
    # What a killed attempt left behind: the names and bytes of the table are its identity.
    written = {note.path for note in notes}
    for file in Path(features.uri).rglob("*"):
        if file.is_file() and str(file) not in written:
            file.unlink()
    features.split_names = artifact_utils.encode_split_names(list(columns.SPLITS))
    features.span = examples.span
    features.version = 0
    features.set_string_custom_property("file_format", feature_table.FILE_FORMAT)
    features.set_string_custom_property(TRANSFORM_GRAPH, transform_graph.uri)
    for name in (WATERMARK, "rows_train", "rows_eval"):
        features.set_int_custom_property(name, examples.get_int_custom_property(name))
