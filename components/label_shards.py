"""Labelling the shards of a feature table: the work of the TeacherLabeler."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from tfx_distill.components.shard_work import Note, Shard, ShardWork
from tfx_distill.datasets.example_shards import read_shard
from tfx_distill.labels.partition import Partition
from tfx_distill.labels.shard import LabelShard, LabelShardWriter
from tfx_distill.schema.config import FeaturesConfig, TaskConfig
from tfx_distill.trainer.materialize import Materializer
from tfx_distill.trainer.process_cache import ProcessCache
from tfx_distill.trainer.teacher import Labelled, Teacher


@dataclass(frozen=True)
class Plan:
    """Which model labels what.

    Attributes:
      model: Folder of the teacher's SavedModel.
      folds: Folders of its fold models, if they are to label.
      graph: The teacher's own Transform graph, where the feature table was made by another one.
      examples: Folder of the ingested examples, for that case.
      fingerprint: Digest of all models that label.
    """

    model: str
    folds: tuple[str, ...]
    graph: str | None
    examples: str | None
    fingerprint: str


@dataclass(frozen=True)
class LabelShards(ShardWork):
    """Writes a label file for each shard of a feature table; nothing is visible before a commit.

    Attributes:
      plan: Which model labels what.
      table: Folder of the label table.
      teacher: Name of the teacher in the table.
      span: Span of the examples.
      features: The features section of the run config.
      tasks: What the teacher labels.
      scored_at: Time of the labelling, the same for all shards.
    """

    plan: Plan
    table: str
    teacher: str
    span: int
    features: FeaturesConfig
    tasks: tuple[TaskConfig, ...]
    scored_at: datetime

    @property
    def kinds(self) -> dict[str, str]:
        """Kind of each task."""
        return {task.name: task.kind for task in self.tasks}

    def do(self, shard: Shard) -> Note:
        """Labels a shard.

        Raises:
          LabelError: The teacher's labels are not finite.
          EnvironmentProblem: The disk is full.
        """
        partition = Partition(self.teacher, self.span, shard.split)
        with LabelShardWriter(
            self.table, partition, shard.name, self.kinds, self.scored_at
        ) as writer:
            for ids, labels, missing in self._labels(shard):
                writer.write(ids, labels, missing)
        done = writer.shard
        return Note(shard.split, shard.name, done.path, done.rows, done.size, done.ranges)

    def label_shard(self, note: Note) -> LabelShard:
        """The label file of a note, as it is committed."""
        return LabelShard(
            partition=Partition(self.teacher, self.span, note.split),
            name=note.name,
            path=note.path,
            rows=note.rows,
            size=note.size,
            kinds=self.kinds,
            ranges=note.ranges,
        )

    def _labels(self, shard: Shard) -> Iterator[Labelled]:
        teacher = _TEACHERS.get(
            (self.plan, self.features),
            lambda: Teacher(self.plan.model, self.features, self.plan.folds),
        )
        if self.plan.graph is None:
            return teacher.label(Path(shard.source))
        graph = Materializer(self.plan.graph, self.features, self.tasks)
        folder = Path(str(self.plan.examples)) / f"Split-{shard.split}"
        return teacher.label_rows(graph.rows(read_shard(folder / f"{shard.name}.parquet")))


_TEACHERS: ProcessCache[tuple[Plan, FeaturesConfig], Teacher] = ProcessCache(2)
