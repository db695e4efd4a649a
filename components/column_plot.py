"""The curves behind TFMA's plots of a model and task: calibration and, for a class, thresholds.

TFMA's own plots take one Python object per example and plot. This one takes columns, as our
metrics do (see `column_metric`), and makes TFMA's protos, so that `tfma.load_eval_result` and
`tfma.view.render_plot` show them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from tensorflow_model_analysis.metrics import (
    calibration_plot,
    confusion_matrix_plot,
    metric_types,
)
from tensorflow_model_analysis.proto import metrics_for_slice_pb2

from tfx_distill.components.column_metric import ColumnMetric, ScoredColumns

if TYPE_CHECKING:
    from numpy.typing import NDArray

KEY_BITS = 18
"""Leading bits of a float32 prediction by which it is counted: 0.2 % of its size."""
BUCKETS = 200
"""Buckets of a calibration plot; TFMA joins them to 100 bubbles."""
THRESHOLDS = 200
"""Thresholds of the curves, about: more than anyone sees."""


@dataclass(frozen=True)
class PredictionSums:
    """Sums over the examples of nearly equal prediction: arrays of shape [keys].

    Attributes:
      score: float64, what the leading bits of their predictions stand for, rising.
      weight: float64, sum of the weights.
      label: float64, sum of weight * label.
      prediction: float64, sum of weight * prediction.
    """

    score: NDArray[np.float64]
    weight: NDArray[np.float64]
    label: NDArray[np.float64]
    prediction: NDArray[np.float64]

    @classmethod
    def of(cls, columns: ScoredColumns) -> PredictionSums:
        """Sums of rows whose predictions are finite; no sorting, so this costs next to nothing."""
        bits = np.ascontiguousarray(columns.prediction, np.float32).view(np.int32)
        half = 1 << (KEY_BITS - 1)
        key = (bits >> (32 - KEY_BITS)) + half
        found = np.flatnonzero(np.bincount(key))
        # Of a negative number the leading bits are those of a number nearer to 0, not further.
        score = ((found - half) << (32 - KEY_BITS)).astype(np.int32).view(np.float32)
        rising = np.argsort(score, kind="stable")

        def summed(values: NDArray[Any]) -> NDArray[np.float64]:
            sums = np.bincount(key, values)[found][rising]
            return sums.astype(np.float64, copy=False)

        return cls(
            score[rising].astype(np.float64),
            summed(columns.weight),
            summed(columns.weight * columns.label),
            summed(columns.weight * columns.prediction),
        )

    def __add__(self, other: PredictionSums) -> PredictionSums:
        """The sums of both."""
        score, place = np.unique(np.r_[self.score, other.score], return_inverse=True)
        return PredictionSums(
            score,
            *(
                np.bincount(place, np.r_[left, right]).astype(np.float64, copy=False)
                for left, right in (
                    (self.weight, other.weight),
                    (self.label, other.label),
                    (self.prediction, other.prediction),
                )
            ),
        )


class ColumnPlot(ColumnMetric):
    """The plots of a task: calibration, and what happens at each threshold if it is a class.

    Args:
      name: In TFMA's config; the plots have the names that TFMA's views expect.
      thresholds: Whether the task is binary.
    """

    def __init__(self, name: str = "plots", thresholds: bool = True) -> None:
        super().__init__(name, thresholds=thresholds)
        self._thresholds = thresholds

    def keys(self, key: metric_types.MetricKey) -> list[metric_types.MetricKey]:
        """Keys of plots, under TFMA's names: its writer puts these two into one PlotData."""
        names = [calibration_plot.CALIBRATION_PLOT_NAME]
        if self._thresholds:
            names.append(confusion_matrix_plot.CONFUSION_MATRIX_PLOT_NAME)
        return [
            metric_types.PlotKey(
                name=name,
                model_name=key.model_name,
                output_name=key.output_name,
                example_weighted=key.example_weighted,
            )
            for name in names
        ]

    def statistic(self, columns: ScoredColumns) -> PredictionSums:
        """Sums per prediction; they add."""
        return PredictionSums.of(columns)

    def results(self, statistic: PredictionSums | None) -> list[Any]:
        """TFMA's protos, empty where there is nothing to plot."""
        plots: list[Any] = [calibration(statistic)]
        if self._thresholds:
            plots.append(confusion(statistic))
        return plots


def calibration(sums: PredictionSums | None) -> metrics_for_slice_pb2.CalibrationHistogramBuckets:
    """Weight, labels and predictions in buckets of equal width, which span the predictions.

    As in TFMA's own, the first and the last bucket reach to infinity; here they are empty.
    """
    proto = metrics_for_slice_pb2.CalibrationHistogramBuckets()
    if sums is None:
        return proto
    # The largest score stands for predictions a little above it.
    top = np.nextafter(max(sums.score[-1], sums.prediction[-1] / sums.weight[-1]), np.inf)
    edges = np.linspace(sums.score[0], top, BUCKETS + 1)
    bucket = np.clip(np.searchsorted(edges, sums.score, side="right"), 1, BUCKETS)
    bounds = [-np.inf, *edges.tolist(), np.inf]
    columns = (
        np.bincount(bucket, values, minlength=BUCKETS + 2).tolist()
        for values in (sums.weight, sums.label, sums.prediction)
    )
    for i, (weight, label, prediction) in enumerate(zip(*columns, strict=True)):
        proto.buckets.add(
            lower_threshold_inclusive=bounds[i],
            upper_threshold_exclusive=bounds[i + 1],
            num_weighted_examples={"value": weight},
            total_weighted_label={"value": label},
            total_weighted_refined_prediction={"value": prediction},
        )
    return proto


def confusion(sums: PredictionSums | None) -> metrics_for_slice_pb2.ConfusionMatrixAtThresholds:
    """Confusion matrices at thresholds, which are quantiles of the predictions.

    An example is predicted positive if its prediction is at least the threshold. As in TFMA's own,
    precision is 1 where nothing is predicted positive, recall 0 where nothing is positive.
    """
    proto = metrics_for_slice_pb2.ConfusionMatrixAtThresholds()
    if sums is None:
        return proto
    share = np.cumsum(sums.weight)
    wanted = np.linspace(0, share[-1], THRESHOLDS)
    chosen = np.unique(np.minimum(np.searchsorted(share, wanted), len(share) - 1))
    # At the smallest score everything is predicted positive, above the largest nothing is.
    thresholds = np.r_[sums.score[chosen], np.nextafter(sums.score[-1], np.inf)]

    def below(values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Sum of the values under each threshold."""
        sums: NDArray[np.float64] = np.r_[0.0, np.cumsum(values)][np.r_[chosen, len(values)]]
        return sums

    missed, rejected = below(sums.label), below(sums.weight - sums.label)
    hits, alarms = missed[-1] - missed, rejected[-1] - rejected
    for threshold, tp, fp, tn, fn in zip(thresholds, hits, alarms, rejected, missed, strict=True):
        proto.matrices.add(
            threshold=threshold,
            true_positives=tp,
            false_positives=fp,
            true_negatives=tn,
            false_negatives=fn,
            precision=tp / (tp + fp) if tp + fp else 1.0,
            recall=tp / missed[-1] if missed[-1] else 0.0,
        )
    return proto
