"""What one model's training depends on: the part of the run config that concerns it."""

from __future__ import annotations

from tfx_distill.schema.config import (
    Device,
    FeaturesConfig,
    ModelConfig,
    RunConfig,
    Section,
    SparkConfig,
    StudentConfig,
    TaskConfig,
    TrainingConfig,
)
from tfx_distill.trainer import heads, losses
from tfx_distill.trainer.training import Training, kept
from tfx_distill.trainer.workers import ALONE, Workers


class TrainingJob(Section):
    """All that one training depends on besides its input artifacts.

    `student` is None for a teacher. `online_epochs` are the passes over each chunk after the first
    one. `folds` is how many fold models are trained beside a teacher, for cross-fitting. `workers`
    processes train together, launched by `spark` if it is given.
    Thresholds, other students and paths are not part of it, so changing them trains nothing anew.
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
    online_epochs: int = 1
    device: Device = "auto"
    workers: int = 1
    spark: SparkConfig | None = None
    folds: int | None = None

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
            online_epochs=1 if run.stream is None else run.stream.epochs,
            device=run.trainer.device,
            workers=run.trainer.workers,
            spark=_launcher(run),
            folds=run.labels.cross_fit,
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
            online_epochs=1 if run.stream is None else run.stream.epochs,
            device=run.trainer.device,
            workers=run.trainer.workers,
            spark=_launcher(run),
        )

    @property
    def heads(self) -> tuple[heads.Head, ...]:
        """What this model learns."""
        if self.student is None:
            return heads.of_teacher(self.tasks)
        return heads.of_student(self.student, self.tasks, twin=self.twin)

    @property
    def served(self) -> tuple[TaskConfig, ...]:
        """Tasks of the model that is exported."""
        return tuple(head.task for head in self.heads if head.served)

    @property
    def taught(self) -> dict[str, str]:
        """Kind of each task that is learned from teacher labels."""
        return {head.task.name: head.task.kind for head in self.heads if head.rule is not None}

    def begin(self, workers: Workers = ALONE) -> Training:
        """The training in its first state; see `training.kept`."""
        return kept(
            self.title,
            self.seed,
            features=self.features,
            model=self.model,
            heads=self.heads,
            training=self.training,
            whole_queries=self.whole_queries,
            min_coverage=self.min_coverage,
            quiet=workers.number > 0,
            workers=workers,
        )


def _launcher(run: RunConfig) -> SparkConfig | None:
    return run.spark if run.trainer.workers > 1 and run.trainer.launch == "spark" else None
