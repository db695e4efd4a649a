"""The part of the run config that the evaluation of one model depends on."""

from __future__ import annotations

from collections.abc import Iterable

from tfx_distill.schema.config import (
    FeaturesConfig,
    RunConfig,
    Section,
    StudentConfig,
    TaskConfig,
    Threshold,
)


class EvaluationConfig(Section):
    """What to evaluate a model on, and what it must reach.

    `tasks` are those that the model serves; `thresholds` are on these tasks only.
    """

    candidate: str
    features: FeaturesConfig
    tasks: tuple[TaskConfig, ...]
    thresholds: tuple[Threshold, ...]
    slices: tuple[str, ...] = ()
    ndcg_at: int = 10

    @classmethod
    def of_student(cls, run: RunConfig, student: StudentConfig) -> EvaluationConfig:
        """For one student, on the tasks that it serves."""
        served = student.tasks or [task.name for task in run.tasks]
        return cls._of(run, student.name, served, run.gate.students)

    @classmethod
    def of_teacher(cls, run: RunConfig) -> EvaluationConfig:
        """For the teacher, which serves every task."""
        return cls._of(run, "teacher", [task.name for task in run.tasks], run.gate.teacher)

    @classmethod
    def _of(
        cls,
        run: RunConfig,
        candidate: str,
        served: Iterable[str],
        thresholds: Iterable[Threshold],
    ) -> EvaluationConfig:
        names = set(served)
        return cls(
            candidate=candidate,
            features=run.features,
            tasks=tuple(task for task in run.tasks if task.name in names),
            thresholds=tuple(t for t in thresholds if t.task in names),
            slices=run.gate.slices,
            ndcg_at=run.gate.ndcg_at,
        )
