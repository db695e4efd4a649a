"""Students in training on a prepared feature table, for benchmarks of what labels cost them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tfx_distill.labels.join import Coverage
from tfx_distill.schema import columns
from tfx_distill.schema.config import RunConfig, StudentConfig
from tfx_distill.trainer import feature_table
from tfx_distill.trainer.features import Blocks
from tfx_distill.trainer.input import TeacherLabels
from tfx_distill.trainer.job import TrainingJob
from tfx_distill.trainer.loaded_model import LoadedModel
from tfx_distill.trainer.training import Training

if TYPE_CHECKING:
    from numpy.typing import NDArray


def begin(config: RunConfig, student: StudentConfig, *, twin: bool) -> Training:
    """A training with steps of its own, which prints nothing."""
    return _training(TrainingJob.of_student(config, student, twin=twin))


def begin_teacher(config: RunConfig) -> Training:
    """The same for the teacher of a config."""
    return _training(TrainingJob.of_teacher(config))


def _training(job: TrainingJob) -> Training:
    return Training(
        job.title,
        seed=job.seed,
        features=job.features,
        model=job.model,
        heads=job.heads,
        training=job.training,
        whole_queries=job.whole_queries,
        quiet=True,
    )


class TeacherInTheLoop:
    """Teacher labels that are computed whenever they are asked for, as Keras' Distiller does.

    Args:
      model: Folder of the teacher's SavedModel.
      features: Folder of the feature table.
      config: Of the run.
    """

    def __init__(self, model: Path, features: Path, config: RunConfig) -> None:
        self._model = LoadedModel(model)
        self._shards = {f.stem: f for f in feature_table.shards(features, "train")}
        self._blocks = Blocks.of(config.features).spec

    def join(
        self, shard: str, example_id: NDArray[np.int64], /
    ) -> tuple[dict[str, NDArray[np.float32]], NDArray[np.bool_]]:
        """See `trainer.input.TeacherLabels`."""
        import tensorflow as tf

        rows = feature_table.read(self._shards[shard], self._blocks)
        parts: dict[str, list[Any]] = {}
        for start in range(0, len(example_id), 4096):
            batch = {n: tf.constant(values[start : start + 4096]) for n, values in rows.items()}
            for task, found in self._model("logits", batch).items():
                parts.setdefault(task, []).append(found)
        labels = {task: np.concatenate(found) for task, found in parts.items()}
        return labels, np.ones(len(example_id), np.bool_)

    def coverage(self) -> Coverage:
        """All of them."""
        return Coverage(1, 1, 1)

    def require_coverage(self, minimum: float, /) -> None:
        """Always given."""


class LabelsInMemory:
    """Teacher labels that cost nothing to find: joined once, before anything is timed."""

    def __init__(self, labels: TeacherLabels, features: Path) -> None:
        self._coverage = labels.coverage()
        self._found: Mapping[str, Any] = {
            file.stem: labels.join(
                file.stem, feature_table.read(file, [columns.EXAMPLE_ID])[columns.EXAMPLE_ID]
            )
            for file in feature_table.shards(features, "train")
        }

    def join(
        self, shard: str, example_id: NDArray[np.int64], /
    ) -> tuple[dict[str, NDArray[np.float32]], NDArray[np.bool_]]:
        """See `trainer.input.TeacherLabels`."""
        labels, present = self._found[shard]
        return dict(labels), present

    def coverage(self) -> Coverage:
        """Of the labels that were joined."""
        return self._coverage

    def require_coverage(self, minimum: float, /) -> None:
        """Was asked of the labels that were joined."""
