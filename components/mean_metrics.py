"""TFMA's side of the metrics that are a ratio of two sums over examples, and counts of examples."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from tfx_distill.components.column_metric import ColumnMetric, ScoredColumns
from tfx_distill.components.metric_terms import OF_ROW, RATIOS
from tfx_distill.schema.config import Metric

if TYPE_CHECKING:
    from numpy.typing import NDArray


class _RowMean(ColumnMetric):
    """A ratio of two weighted sums over rows, NaN where the second is 0: see `metric_terms`."""

    metric: Metric

    def __init__(self, name: str | None = None) -> None:
        super().__init__(self.metric if name is None else name)

    def statistic(self, columns: ScoredColumns) -> NDArray[np.float64]:
        """Both sums."""
        predicted = columns.prediction.astype(np.float64)
        ((own, shared),) = RATIOS[self.metric]
        terms = (OF_ROW[term](columns.label, predicted) for term in (own, shared))
        return np.array([np.dot(values, columns.weight) for values in terms])

    def value(self, statistic: NDArray[np.float64]) -> float:
        """The ratio."""
        return float(statistic[0] / statistic[1]) if statistic[1] else float("nan")


class LogLoss(_RowMean):
    """TFMA metric `log_loss`: mean of `-y log p - (1 - y) log(1 - p)`, in nats."""

    metric = "log_loss"


class CalibrationRatio(_RowMean):
    """TFMA metric `calibration`: mean prediction over mean label; 1 is best."""

    metric = "calibration"


class SquaredError(_RowMean):
    """TFMA metric `mse`: mean squared error, on the training scale."""

    metric = "mse"


class AbsoluteError(_RowMean):
    """TFMA metric `mae`: mean absolute error, on the training scale."""

    metric = "mae"


class _Count(ColumnMetric):
    propagates_nan = False

    def value(self, statistic: float) -> float:
        """The count."""
        return statistic


class Examples(_Count):
    """TFMA metric `example_count`: rows of the slice, whether or not the task applies."""

    def __init__(self, name: str = "example_count") -> None:
        super().__init__(name)

    def statistic(self, columns: ScoredColumns) -> float:
        """Rows."""
        return float(len(columns.label))


class WeightedExamples(_Count):
    """TFMA metric `weighted_example_count`: the sum of weights, which metrics are means over."""

    def __init__(self, name: str = "weighted_example_count") -> None:
        super().__init__(name)

    def statistic(self, columns: ScoredColumns) -> float:
        """Sum of weights."""
        return float(columns.weight.sum())


class NotFinite(_Count):
    """TFMA metric `not_finite_count`: predictions that are NaN or infinite where the task applies.

    Where it is above 0, every other metric is NaN.
    """

    def __init__(self, name: str = "not_finite_count") -> None:
        super().__init__(name)

    def statistic(self, columns: ScoredColumns) -> float:
        """Rows at fault."""
        return float(np.count_nonzero(~np.isfinite(columns.applicable().prediction)))
