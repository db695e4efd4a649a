"""Means, spreads and the correlation of two streams of numbers, from one pass in batches."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt


@dataclass
class PairMoments:
    """Moments of pairs (x, y) of float32, which batches and other such moments are added to.

    Sums of squares are taken around the mean and combined as Chan, Golub and LeVeque do (Updating
    Formulae and a Pairwise Algorithm for Computing Sample Variances, 1979): nothing cancels,
    however far the numbers lie from 0. In float64 the sum of fewer than 2^29 equal float32 is
    exact, and so the spread of a constant is exactly 0.

    Attributes:
      count: Pairs so far.
    """

    count: int = 0
    _mean_x: float = 0.0
    _mean_y: float = 0.0
    _square_x: float = 0.0
    _square_y: float = 0.0
    _product: float = 0.0

    def add(self, x: npt.NDArray[np.float32], y: npt.NDArray[np.float32]) -> None:
        """Adds pairs: two arrays of shape [n], of finite numbers."""
        if not len(x):
            return
        wide_x, wide_y = x.astype(np.float64), y.astype(np.float64)
        mean_x, mean_y = float(wide_x.mean()), float(wide_y.mean())
        rest_x, rest_y = wide_x - mean_x, wide_y - mean_y
        squares = float(rest_x @ rest_x), float(rest_y @ rest_y)
        self.merge(PairMoments(len(x), mean_x, mean_y, *squares, float(rest_x @ rest_y)))

    def merge(self, other: PairMoments) -> None:
        """Adds all pairs of `other`."""
        if not other.count:
            return
        gap_x, gap_y = other._mean_x - self._mean_x, other._mean_y - self._mean_y
        total = self.count + other.count
        share = other.count / total
        both = self.count * share
        self._mean_x += gap_x * share
        self._mean_y += gap_y * share
        self._square_x += other._square_x + gap_x * gap_x * both
        self._square_y += other._square_y + gap_y * gap_y * both
        self._product += other._product + gap_x * gap_y * both
        self.count = total

    @property
    def mean_x(self) -> float | None:
        """Mean of x; None without pairs."""
        return self._mean_x if self.count else None

    @property
    def std_x(self) -> float | None:
        """Standard deviation of x, over n; None without pairs."""
        return math.sqrt(self._square_x / self.count) if self.count else None

    @property
    def correlation(self) -> float | None:
        """Pearson's correlation; None unless both x and y vary."""
        spread = math.sqrt(self._square_x) * math.sqrt(self._square_y)
        # Rounding may lead just outside.
        return min(1.0, max(-1.0, self._product / spread)) if spread > 0 else None

    @property
    def shift(self) -> float | None:
        """Mean of y minus mean of x, in standard deviations of x; None unless x varies."""
        spread = self.std_x
        return (self._mean_y - self._mean_x) / spread if spread else None
