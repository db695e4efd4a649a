"""AUC as sums over examples, so that it can be bootstrapped without sorting again and again.

The AUC is a share of pairs, which is no sum over examples. To first order it is one: an example
adds the share of the other class that it is in the right order with, its *placement* (DeLong,
DeLong and Clarke-Pearson 1988; for clusters Obuchowski 1997, "Nonparametric analysis of clustered
ROC curve data"). Of a resample,

    AUC* = A1* / P* + A2* / N* - AUC,

where `A1 = sum of positive_i F_neg(s_i)`, `A2 = sum of negative_i (1 - F_pos(s_i))`, `P` and `N`
are the weights of both classes, and F is the share below plus half the share equal, both of the
*whole* sample. With every query drawn once, all three terms are the AUC itself.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from tfx_distill.components.area_under_curve import ScoreCounts

if TYPE_CHECKING:
    from numpy.typing import NDArray


class Placements:
    """Placements among all examples of a slice.

    Attributes:
      area: The AUC of the slice.
    """

    def __init__(self, counts: ScoreCounts) -> None:
        self.area = counts.area()
        self._score = counts.score
        self._above_negatives = _share_below(counts.negative)
        self._below_positives = 1 - _share_below(counts.positive)

    def terms(
        self,
        score: NDArray[np.float32],
        positive: NDArray[np.float64],
        negative: NDArray[np.float64],
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """What each row adds to A1 and to A2; all arrays are of shape [rows].

        Args:
          score: Finite, among those counted.
          positive: Weight as a positive.
          negative: Weight as a negative.
        """
        # Where scores were too many to be kept apart, the next lower one stands for a run of them.
        place = np.maximum(np.searchsorted(self._score, score, side="right") - 1, 0)
        return positive * self._above_negatives[place], negative * self._below_positives[place]


def _share_below(weight: NDArray[np.float64]) -> NDArray[np.float64]:
    """Share of the weight below each score, plus half of that at it; NaN if there is none."""
    total = weight.sum()
    return (np.cumsum(weight) - weight / 2) / (total if total else np.nan)
