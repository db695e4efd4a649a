"""Metrics that are a ratio of two weighted sums over examples, and the counts of examples."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from tfx_distill.components.column_metric import ColumnMetric, ScoredColumns

if TYPE_CHECKING:
    from numpy.typing import NDArray


class _Ratio(ColumnMetric):
    """The first of two sums over the second; NaN where that is 0."""

    def value(self, statistic: NDArray[np.float64]) -> float:
        """The ratio."""
        return float(statistic[0] / statistic[1]) if statistic[1] else float("nan")


class LogLoss(_Ratio):
    """TFMA metric `log_loss`: mean of `-y log p - (1 - y) log(1 - p)`, in nats.

    Probabilities are clipped to float32's resolution, [eps, 1 - eps] with eps = 2^-23, as
    scikit-learn's `log_loss` does with float32 predictions.
    """

    def __init__(self, name: str = "log_loss") -> None:
        super().__init__(name)

    def statistic(self, columns: ScoredColumns) -> NDArray[np.float64]:
        """Sum of losses, sum of weights."""
        eps = float(np.finfo(np.float32).eps)
        p = np.clip(columns.prediction.astype(np.float64), eps, 1 - eps)
        losses = -columns.label * np.log(p) - (1 - columns.label) * np.log1p(-p)
        return np.array([np.dot(losses, columns.weight), columns.weight.sum()])


class CalibrationRatio(_Ratio):
    """TFMA metric `calibration`: mean prediction over mean label; 1 is best."""

    def __init__(self, name: str = "calibration") -> None:
        super().__init__(name)

    def statistic(self, columns: ScoredColumns) -> NDArray[np.float64]:
        """Sum of predictions, sum of labels."""
        predicted = np.dot(columns.prediction.astype(np.float64), columns.weight)
        return np.array([predicted, np.dot(columns.label, columns.weight)])


class SquaredError(_Ratio):
    """TFMA metric `mse`: mean squared error, on the training scale."""

    def __init__(self, name: str = "mse") -> None:
        super().__init__(name)

    def statistic(self, columns: ScoredColumns) -> NDArray[np.float64]:
        """Sum of squared errors, sum of weights."""
        errors = columns.prediction.astype(np.float64) - columns.label
        return np.array([np.dot(errors**2, columns.weight), columns.weight.sum()])


class AbsoluteError(_Ratio):
    """TFMA metric `mae`: mean absolute error, on the training scale."""

    def __init__(self, name: str = "mae") -> None:
        super().__init__(name)

    def statistic(self, columns: ScoredColumns) -> NDArray[np.float64]:
        """Sum of absolute errors, sum of weights."""
        errors = np.abs(columns.prediction.astype(np.float64) - columns.label)
        return np.array([np.dot(errors, columns.weight), columns.weight.sum()])


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
