"""The part of the run config that the verdict on one model depends on."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from tfx_distill.components.evaluation_config import served
from tfx_distill.schema.config import Kind, RunConfig, Section, StudentConfig, TaskConfig, Threshold


class GateSettings(Section):
    """What a model must reach, and how sure of it the gate has to be; see `schema.GateConfig`.

    `kinds` are those of the tasks that the model serves; `thresholds` are on these tasks only.
    `slices` and `ndcg_at` are as the model was evaluated with; `seed` is that of the bootstrap.
    """

    candidate: str
    kinds: dict[str, Kind]
    thresholds: tuple[Threshold, ...]
    slices: tuple[str, ...]
    ndcg_at: int
    first: Literal["twin", "accept"]
    confidence: float
    replicates: int
    min_slice_queries: int
    seed: int

    @classmethod
    def of_student(cls, run: RunConfig, student: StudentConfig) -> GateSettings:
        """For one student, on the tasks that it serves."""
        return cls._of(run, student.name, served(run, student), run.gate.students)

    @classmethod
    def of_teacher(cls, run: RunConfig) -> GateSettings:
        """For the teacher, which serves every task."""
        return cls._of(run, "teacher", run.tasks, run.gate.teacher)

    @classmethod
    def _of(
        cls,
        run: RunConfig,
        candidate: str,
        tasks: Iterable[TaskConfig],
        thresholds: Iterable[Threshold],
    ) -> GateSettings:
        kinds = {task.name: task.kind for task in tasks}
        gate = run.gate
        return cls(
            candidate=candidate,
            kinds=kinds,
            thresholds=tuple(t for t in thresholds if t.task in kinds),
            slices=gate.slices,
            ndcg_at=gate.ndcg_at,
            first=gate.first,
            confidence=gate.confidence,
            replicates=gate.replicates,
            min_slice_queries=gate.min_slice_queries,
            seed=run.seed,
        )
