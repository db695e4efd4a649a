"""Metrics of one model on the eval split of one chunk, by the definitions of the product."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy import stats

from benchmarks.online.plan import SLICE
from tfx_distill.components.area_under_curve import AreaUnderCurve
from tfx_distill.components.column_metric import ScoredColumns
from tfx_distill.components.grouped_auc import GroupedAuc
from tfx_distill.components.mean_metrics import CalibrationRatio, LogLoss, SquaredError
from tfx_distill.schema import columns
from tfx_distill.schema.config import TaskConfig

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from benchmarks.online.stream import Chunk, Stream

Metrics = dict[str, dict[str, float]]
"""By task, or task and slice, and metric."""

BINARY = (AreaUnderCurve(), LogLoss(), CalibrationRatio(), GroupedAuc())
REGRESSION = (SquaredError(),)
TRUE = "true "
"""Marks metrics against the simulator's truth in the place of what users happened to do."""


def evaluate(stream: Stream, chunk: Chunk, outputs: Mapping[str, NDArray[np.float32]]) -> Metrics:
    """All metrics of the tasks that a model has.

    `auc`, `log_loss`, `calibration`, `gauc`, `mse`: against the hard labels, where the task
    applies. `true auc`, `true log_loss`, `true calibration` of a binary task: expected values over
    what could have happened, from the true probabilities. `true rank` of the long-term value:
    Spearman's correlation of prediction and true expectation.
    """
    out: Metrics = {}
    everything = np.ones(len(chunk.scored[columns.QUERY_ID]), bool)
    for task in stream.config.tasks:
        if task.name not in outputs:
            continue
        prediction = outputs[task.name]
        if task.kind == "binary":
            prediction = (1 / (1 + np.exp(-prediction.astype(np.float64)))).astype(np.float32)
        out[task.name] = _task(chunk, task, prediction, everything)
    if "click" in out:
        feature, value = SLICE
        place = [f.name for f in stream.config.features.categorical].index(feature)
        inside = chunk.scored["categorical"][:, place] == stream.category(feature, value)
        task = next(task for task in stream.config.tasks if task.name == "click")
        prediction = (1 / (1 + np.exp(-outputs["click"].astype(np.float64)))).astype(np.float32)
        out[f"click, {value}"] = _task(chunk, task, prediction, inside)
    return out


def _task(
    chunk: Chunk, task: TaskConfig, prediction: NDArray[np.float32], rows: NDArray[np.bool_]
) -> dict[str, float]:
    label, weight = (
        chunk.scored[name(task.name)].astype(np.float64) for name in (columns.label, columns.weight)
    )
    rows = rows & (weight > 0)
    query = chunk.scored[columns.QUERY_ID][rows]
    prediction, weight = prediction[rows], weight[rows]
    found = ScoredColumns(query, label[rows], prediction, weight)
    metrics = BINARY if task.kind == "binary" else REGRESSION
    out = {metric.name: metric.value(metric.statistic(found)) for metric in metrics}
    if task.name in chunk.truth:
        truth = chunk.truth[task.name][rows]
        if task.kind == "binary":
            known = ScoredColumns(query, truth, prediction, weight)
            for metric in BINARY[:3]:
                out[TRUE + metric.name] = metric.value(metric.statistic(known))
        else:
            out[TRUE + "rank"] = float(stats.spearmanr(prediction, truth).statistic)
    return out
