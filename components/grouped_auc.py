"""GAUC: how well a model orders the examples within each query."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from tfx_distill.components.column_metric import ColumnMetric, ScoredColumns
from tfx_distill.components.query_order import query_order

if TYPE_CHECKING:
    from numpy.typing import NDArray


def grouped_auc(
    query: NDArray[np.integer[Any]], label: NDArray[Any], prediction: NDArray[Any]
) -> NDArray[np.float64]:
    """The two sums whose ratio is the GAUC of these rows.

    `GAUC = sum_q n_q AUC_q / sum_q n_q`, over the queries that have both classes, where `n_q` is
    the number of examples of query q; pairs of equal prediction count one half. Zhou et al. 2018,
    "Deep Interest Network for Click-Through Rate Prediction", section 6.1 (where a group is a
    user).

    Args:
      query: Integers, equal within a query, in any order; shape [rows].
      label: 0 or 1; shape [rows].
      prediction: Finite scores; shape [rows].

    Returns:
      `[sum_q n_q AUC_q, sum_q n_q]`, float64; both 0 if no query has both classes.
    """
    if not len(query):
        return np.zeros(2)
    order = query_order(query, prediction)
    query = query[order]
    first = np.flatnonzero(np.r_[True, query[1:] != query[:-1]])
    return query_aucs(first, label[order], prediction[order]).sum(axis=1)


def query_aucs(
    first: NDArray[np.integer[Any]], label: NDArray[Any], prediction: NDArray[Any]
) -> NDArray[np.float64]:
    """What each query adds to the two sums of `grouped_auc`.

    Args:
      first: Where each query begins; shape [queries].
      label: 0 or 1, the rows of a query adjacent and by rising prediction; shape [rows].
      prediction: Finite scores; shape [rows].

    Returns:
      `n_q AUC_q` and `n_q`, both 0 where a class is absent; float64, shape [2, queries].
    """
    label = label.astype(np.float64)
    new_score = np.r_[True, prediction[1:] != prediction[:-1]]
    new_score[first] = True
    ties = np.flatnonzero(new_score)
    size = np.diff(np.r_[first, len(label)])
    # Mean rank of each run of equal scores, counted from 1 within its query.
    last = np.r_[ties[1:], len(label)]
    mean_rank = (ties + last + 1) / 2
    ranks = np.repeat(mean_rank, last - ties) - np.repeat(first, size)
    positives = np.add.reduceat(label, first)
    rank_sum = np.add.reduceat(label * ranks, first)
    pairs = positives * (size - positives)
    both = pairs > 0
    wins = rank_sum - positives * (positives + 1) / 2
    areas = np.divide(wins, pairs, out=np.zeros(len(first)), where=both)
    return np.array([size * areas, np.where(both, size, 0)])


class GroupedAuc(ColumnMetric):
    """TFMA metric `gauc`; NaN where no query has both classes."""

    def __init__(self, name: str = "gauc") -> None:
        super().__init__(name)

    def statistic(self, columns: ScoredColumns) -> NDArray[np.float64]:
        """See `grouped_auc`."""
        return grouped_auc(columns.query, columns.label, columns.prediction)

    def value(self, statistic: NDArray[np.float64]) -> float:
        """Mean AUC per query, weighted by the number of examples."""
        return float(statistic[0] / statistic[1]) if statistic[1] else float("nan")
