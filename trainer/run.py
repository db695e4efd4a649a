"""The entry point of TFX's Trainer for every model: teacher, students and twins."""

from __future__ import annotations

import json
import logging
from dataclasses import asdict
from pathlib import Path

from tfx.components.trainer.fn_args_utils import FnArgs

from tfx_distill.labels.join import LabelJoiner
from tfx_distill.labels.snapshot import Snapshot
from tfx_distill.schema.config import (
    FeaturesConfig,
    ModelConfig,
    RunConfig,
    Section,
    StudentConfig,
    TaskConfig,
    TrainingConfig,
)
from tfx_distill.trainer import export, heads, losses
from tfx_distill.trainer.training import train

RUN_FN = "tfx_distill.trainer.run.run_fn"
JOB = "job"
TEACHER_LABELS = "teacher_labels"
"""Keys of `custom_config`: a `TrainingJob` as JSON, and a label table snapshot as JSON."""
RECORD = "training.json"
"""File of the ModelRun artifact that holds a `training.Record`."""


class TrainingJob(Section):
    """All that one training depends on besides its input artifacts.

    `student` is None for a teacher. Thresholds, other students and paths are not part of it, so
    changing them trains nothing anew.
    """

    title: str
    seed: int
    features: FeaturesConfig
    tasks: tuple[TaskConfig, ...]
    model: ModelConfig
    training: TrainingConfig
    student: StudentConfig | None = None
    twin: bool = False
    whole_queries: bool = False
    min_coverage: float = 0.0

    @classmethod
    def of_teacher(cls, run: RunConfig) -> TrainingJob:
        """The teacher's training in a run."""
        return cls(
            title="teacher",
            seed=run.seed,
            features=run.features,
            tasks=run.tasks,
            model=run.teacher.model,
            training=run.teacher.training,
        )

    @classmethod
    def of_student(cls, run: RunConfig, student: StudentConfig, *, twin: bool) -> TrainingJob:
        """A student's training in a run, or that of its undistilled twin."""
        return cls(
            title=f"{student.name} (twin)" if twin else student.name,
            seed=run.seed,
            features=run.features,
            tasks=run.tasks,
            model=student.model,
            training=student.training,
            student=student if not twin else student.model_copy(update={"distill": {}}),
            twin=twin,
            # Asked of the student before its twin forgets the rules: both see the same batches.
            whole_queries=any(rule.loss in losses.LISTWISE for rule in student.distill.values()),
            min_coverage=0.0 if twin else run.labels.min_coverage,
        )

    @property
    def heads(self) -> tuple[heads.Head, ...]:
        """What this model learns."""
        if self.student is None:
            return heads.of_teacher(self.tasks)
        return heads.of_student(self.student, self.tasks, twin=self.twin)


def run_fn(fn_args: FnArgs) -> None:
    """Trains a model and writes it where TFX wants it.

    Raises:
      LabelError: Fewer examples have a teacher label than `labels.min_coverage`.
      ModelError: The loss is not a number.
    """
    job = TrainingJob.model_validate_json(fn_args.custom_config[JOB])
    taught = {head.task.name: head.task.kind for head in job.heads if head.rule is not None}
    labels = None
    if taught:
        snapshot = Snapshot.from_json(fn_args.custom_config[TEACHER_LABELS])
        labels = LabelJoiner(snapshot, "train", taught)
    ranker, record = train(
        job.title,
        # TFX gives a file pattern, `<artifact>/Split-train/*`.
        examples=Path(fn_args.train_files[0]).parent.parent,
        features=job.features,
        model=job.model,
        training=job.training,
        heads=job.heads,
        whole_queries=job.whole_queries,
        labels=labels,
        min_coverage=job.min_coverage,
        seed=job.seed,
        log_dir=fn_args.model_run_dir,
    )
    Path(fn_args.model_run_dir, RECORD).write_text(json.dumps(asdict(record)))
    served = tuple(head.task for head in job.heads if head.served)
    logging.getLogger(__name__).info("Saving %s to %s", job.title, fn_args.serving_model_dir)
    export.save(
        ranker.served(),
        fn_args.serving_model_dir,
        job.features,
        served,
        fn_args.transform_graph_path,
    )
