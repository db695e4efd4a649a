"""The metrics as ratios of sums, and what a row adds to these sums.

The metrics that are means over rows are defined here and nowhere else: the ModelEvaluator computes
them from these terms, and so does the bootstrap.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from tfx_distill.schema.config import BINARY_METRICS, REGRESSION_METRICS, Kind, Metric

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Values = NDArray[np.float64]

METRICS = {"binary": BINARY_METRICS, "regression": REGRESSION_METRICS}
"""Metrics of each kind of task."""

COUNTED: dict[Metric, str] = {"gauc": "gauc_rows", "ndcg": "ndcg_queries"}
"""Sums of the metrics that are means over queries: of the weights of the queries that count."""

RATIOS: dict[Metric, tuple[tuple[str, str], ...]] = {
    "auc": (("auc_of_positives", "label"), ("auc_of_negatives", "negative")),
    "log_loss": (("log_loss", "weight"),),
    "calibration": (("prediction", "label"),),
    "gauc": (("gauc", COUNTED["gauc"]),),
    "ndcg": (("ndcg", COUNTED["ndcg"]),),
    "mse": (("squared_error", "weight"),),
    "mae": (("absolute_error", "weight"),),
}
"""By metric, the sums whose ratios add up to it: a model's over one that all models share."""

Scored = tuple[str, str, Metric]
"""A model, a task and a metric."""


class SumColumns:
    """Which column of a matrix holds which sum, and the metrics made of them."""

    def __init__(self, models: Mapping[str, Sequence[str]], kinds: Mapping[str, Kind]) -> None:
        """Gives each sum a column.

        Args:
          models: Tasks of each model.
          kinds: Kind of each task.
        """
        self._shared: dict[tuple[str, str], int] = {}
        self._own: dict[tuple[str, str, str], int] = {}
        self._ratios: dict[Scored, list[tuple[int, int]]] = {}
        self.width = 0
        for model, tasks in models.items():
            for task in tasks:
                for metric in METRICS[kinds[task]]:
                    self._ratios[model, task, metric] = [
                        (self._column(model, task, own), self._column(None, task, shared))
                        for own, shared in RATIOS[metric]
                    ]

    def _column(self, model: str | None, task: str, term: str) -> int:
        place = (
            self._shared.setdefault((task, term), self.width)
            if model is None
            else self._own.setdefault((model, task, term), self.width)
        )
        self.width = max(self.width, place + 1)
        return place

    def shared(self, task: str, term: str) -> int:
        """Column of a sum that all models share."""
        return self._shared[task, term]

    def own(self, model: str, task: str, term: str) -> int:
        """Column of a model's sum."""
        return self._own[model, task, term]

    def all_own(self, model: str, task: str) -> list[int]:
        """Columns of all sums of a model and task."""
        return [place for key, place in self._own.items() if key[:2] == (model, task)]

    def values(self, sums: NDArray[np.float64]) -> dict[Scored, NDArray[np.float64]]:
        """The metrics of sums of shape [..., width], each of shape [...]; NaN over 0.

        The AUC lacks its offset, see `auc_placements`.
        """
        return {
            scored: np.sum([_ratio(sums[..., own], sums[..., of]) for own, of in ratios], axis=0)
            for scored, ratios in self._ratios.items()
        }


def _ratio(own: NDArray[np.float64], of: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.divide(own, of, out=np.full(np.shape(own), np.nan), where=of != 0)


def _log_losses(label: Values, prediction: Values) -> Values:
    """`-y log p - (1 - y) log(1 - p)`, in nats.

    Probabilities are clipped to float32's resolution, [eps, 1 - eps] with eps = 2^-23, as
    scikit-learn's `log_loss` does with float32 predictions.
    """
    eps = float(np.finfo(np.float32).eps)
    p = np.clip(prediction, eps, 1 - eps)
    return -label * np.log(p) - (1 - label) * np.log1p(-p)


OF_ROW: dict[str, Callable[[Values, Values], Values]] = {
    "weight": lambda label, prediction: np.ones_like(label),
    "label": lambda label, prediction: label,
    "prediction": lambda label, prediction: prediction,
    "log_loss": _log_losses,
    "squared_error": lambda label, prediction: (prediction - label) ** 2,
    "absolute_error": lambda label, prediction: np.abs(prediction - label),
}
"""Sums to which each row adds by itself: what it adds, times its weight, given its label and its
prediction; float64, shape [rows]."""


def row_terms(
    kind: Kind,
    label: NDArray[np.float64],
    prediction: NDArray[np.float32],
    weight: NDArray[np.float64],
) -> dict[str, NDArray[np.float64]]:
    """What each row adds to a model's own sums of the metrics that are means over rows.

    All arrays are of shape [rows].
    """
    predicted = prediction.astype(np.float64)
    terms = (own for metric in METRICS[kind] for own, _ in RATIOS[metric] if own in OF_ROW)
    return {term: OF_ROW[term](label, predicted) * weight for term in terms}
