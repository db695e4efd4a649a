"""AUC: the area under the ROC curve, from counts per distinct score."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from tfx_distill.components.column_metric import ColumnMetric, ScoredColumns

if TYPE_CHECKING:
    from numpy.typing import NDArray

MAX_SCORES = 1 << 16
"""Distinct scores that are kept apart; up to here the AUC is exact."""


@dataclass(frozen=True)
class ScoreCounts:
    """Weights of both classes at each distinct score: arrays of shape [scores], scores rising."""

    score: NDArray[np.float32]
    positive: NDArray[np.float64]
    negative: NDArray[np.float64]

    @classmethod
    def of(
        cls,
        score: NDArray[np.float32],
        positive: NDArray[np.float64],
        negative: NDArray[np.float64],
        limit: int = MAX_SCORES,
    ) -> ScoreCounts:
        """Counts of at most `limit` scores, which must be finite.

        Beyond that the lowest bits of the scores are dropped. This moves no score past another, so
        only pairs that end up equal change, from a win or a loss to one half.
        """
        order = np.argsort(score, kind="stable")
        score, positive, negative = score[order], positive[order], negative[order]
        dropped = 0
        while True:
            new = np.r_[True, score[1:] != score[:-1]]
            if np.count_nonzero(new) <= limit:
                break
            dropped += 1
            keep = np.int32(-1) << np.int32(dropped)
            score = (score.view(np.int32) & keep).view(np.float32)
        starts = np.flatnonzero(new)
        return cls(
            score[starts], np.add.reduceat(positive, starts), np.add.reduceat(negative, starts)
        )

    def merged(self, other: ScoreCounts, limit: int = MAX_SCORES) -> ScoreCounts:
        """The counts of both."""
        return ScoreCounts.of(
            np.concatenate([self.score, other.score]),
            np.concatenate([self.positive, other.positive]),
            np.concatenate([self.negative, other.negative]),
            limit,
        )

    def area(self) -> float:
        """Share of (positive, negative) pairs in the right order, ties one half; NaN if no pair."""
        below = np.cumsum(self.negative) - self.negative
        pairs = self.positive.sum() * self.negative.sum()
        if not pairs:
            return float("nan")
        return float(np.sum(self.positive * (below + self.negative / 2)) / pairs)


class AreaUnderCurve(ColumnMetric):
    """TFMA metric `auc`, weighted; NaN where one class is absent."""

    def __init__(self, name: str = "auc") -> None:
        super().__init__(name)

    def statistic(self, columns: ScoredColumns) -> ScoreCounts:
        """Counts per score."""
        positive = columns.label * columns.weight
        return ScoreCounts.of(columns.prediction, positive, columns.weight - positive)

    def merge(self, left: ScoreCounts, right: ScoreCounts) -> ScoreCounts:
        """Counts of both."""
        return left.merged(right)

    def value(self, statistic: ScoreCounts) -> float:
        """The area."""
        return statistic.area()
