"""Transforming the shards of ingested examples: the work of the FeatureMaterializer."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tfx_distill.components.shard_work import Note, Shard, ShardWork
from tfx_distill.datasets.example_shards import read_shard
from tfx_distill.schema.config import FeaturesConfig, TaskConfig
from tfx_distill.trainer import feature_table
from tfx_distill.trainer.materialize import Materializer


@dataclass(frozen=True)
class FeatureShards(ShardWork):
    """Writes a shard of the feature table for each shard of examples.

    Attributes:
      transform_graph: Path of the Transform output.
      features: The features section of the run config.
      tasks: Whose hard labels to take along.
      into: Folder of the feature table.
    """

    transform_graph: str
    features: FeaturesConfig
    tasks: tuple[TaskConfig, ...]
    into: str

    def do(self, shard: Shard) -> Note:
        """Transforms a shard.

        Raises:
          DataError: The shard is damaged.
        """
        graph = Materializer(self.transform_graph, self.features, self.tasks)
        file = Path(self.into) / f"Split-{shard.split}" / f"{shard.name}{feature_table.SUFFIX}"
        rows = 0
        with feature_table.Writer(file) as writer:
            for batch in graph.rows(read_shard(shard.source)):
                writer.write(batch)
                rows += batch.num_rows
        size = file.stat().st_size if rows else 0
        return Note(shard.split, shard.name, str(file) if rows else "", rows, size, {})
