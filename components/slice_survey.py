"""What must be known of whole slices before their sums over queries can be taken."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

import numpy as np

from tfx_distill.components.area_under_curve import ScoreCounts
from tfx_distill.components.auc_placements import Placements
from tfx_distill.components.task_rows import Part, TaskRows

Served = tuple[str, str]
"""A model and a task that it serves."""


class SliceSurvey:
    """By slice, what is not finite, and the AUC placements of what is.

    Attributes:
      broken: Models and tasks with a prediction in the slice that is not finite.
      placements: Of the other models, for each binary task.
    """

    def __init__(self, tasks: Iterable[TaskRows]) -> None:
        """Takes in the rows of all tasks and partitions, one after the other."""
        self.broken: dict[Part, set[Served]] = defaultdict(set)
        self.placements: dict[Part, dict[Served, Placements]] = defaultdict(dict)
        counts: dict[tuple[Part, Served], ScoreCounts] = {}
        for task in tasks:
            for column in task.codes:
                for part, rows in task.parts(column):
                    for model, prediction in task.prediction.items():
                        served, score = (model, task.name), prediction[rows]
                        if not np.isfinite(score).all():
                            self.broken[part].add(served)
                        elif task.kind == "binary":
                            new = ScoreCounts.of(score, task.positive[rows], task.negative[rows])
                            before = counts.get((part, served))
                            counts[part, served] = new if before is None else before.merged(new)
        while counts:
            # Placements take as much memory as the counts that they replace.
            (part, served), counted = counts.popitem()
            if served not in self.broken[part]:
                self.placements[part][served] = Placements(counted)
