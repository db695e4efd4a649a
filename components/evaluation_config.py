"""The part of the run config that the evaluation of one model depends on."""

from __future__ import annotations

from collections.abc import Iterable

from tfx_distill.schema.config import (
    FeaturesConfig,
    RunConfig,
    Section,
    StudentConfig,
    TaskConfig,
)


class EvaluationConfig(Section):
    """What to measure a model on; what it must reach is in `gate_settings.GateSettings`.

    `tasks` are those that the model serves.
    """

    candidate: str
    features: FeaturesConfig
    tasks: tuple[TaskConfig, ...]
    slices: tuple[str, ...]
    ndcg_at: int

    @classmethod
    def of_student(cls, run: RunConfig, student: StudentConfig) -> EvaluationConfig:
        """For one student, on the tasks that it serves."""
        return cls._of(run, student.name, served(run, student))

    @classmethod
    def of_teacher(cls, run: RunConfig) -> EvaluationConfig:
        """For the teacher, which serves every task."""
        return cls._of(run, "teacher", run.tasks)

    @classmethod
    def _of(cls, run: RunConfig, candidate: str, tasks: Iterable[TaskConfig]) -> EvaluationConfig:
        return cls(
            candidate=candidate,
            features=run.features,
            tasks=tuple(tasks),
            slices=run.gate.slices,
            ndcg_at=run.gate.ndcg_at,
        )


def served(run: RunConfig, student: StudentConfig) -> tuple[TaskConfig, ...]:
    """The tasks that a student serves, in the order of the run config."""
    return tuple(t for t in run.tasks if student.tasks is None or t.name in student.tasks)
