"""What must be known of whole slices before their sums over queries can be taken."""

from __future__ import annotations

from collections import defaultdict

import numpy as np

from tfx_distill.components.area_under_curve import ScoreCounts
from tfx_distill.components.auc_placements import Placements
from tfx_distill.components.task_rows import Part, TaskRows

Served = tuple[str, str]
"""A model and a task that it serves."""


class SliceSurvey:
    """Gathers, partition by partition, the score counts of each slice, and what is not finite."""

    def __init__(self) -> None:
        self._broken: dict[Part, set[Served]] = defaultdict(set)
        self._counts: dict[Part, dict[Served, ScoreCounts]] = defaultdict(dict)

    def add(self, task: TaskRows) -> None:
        """Takes in the rows of a partition."""
        for column in task.codes:
            for part, rows in task.parts(column):
                counted = self._counts[part]
                for model, prediction in task.prediction.items():
                    served, score = (model, task.name), prediction[rows]
                    if not np.isfinite(score).all():
                        self._broken[part].add(served)
                    elif task.kind == "binary":
                        counts = ScoreCounts.of(score, task.positive[rows], task.negative[rows])
                        before = counted.get(served)
                        counted[served] = counts if before is None else before.merged(counts)

    def broken(self, part: Part) -> set[Served]:
        """Models and tasks with a prediction in the slice that is not finite."""
        return self._broken[part]

    def placements(self, part: Part, served: Served) -> Placements | None:
        """Placements among all examples of the slice; None if no partition was finite."""
        counts = self._counts[part].get(served)
        return None if counts is None else Placements(counts)

    def areas(self, part: Part) -> dict[Served, float]:
        """The AUC of each model and binary task on the slice, where it is not broken."""
        return {
            served: counts.area()
            for served, counts in self._counts[part].items()
            if served not in self._broken[part]
        }
