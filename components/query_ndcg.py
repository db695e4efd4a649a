"""NDCG: how close the order within each query is to the best possible one, at the top."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from tfx_distill.components.column_metric import ColumnMetric, ScoredColumns

if TYPE_CHECKING:
    from numpy.typing import NDArray


def ndcg(
    query: NDArray[np.integer[Any]], gain: NDArray[Any], prediction: NDArray[Any], top_k: int
) -> NDArray[np.float64]:
    """The two sums whose ratio is the mean NDCG@k of these rows.

    `DCG@k = sum_{i<=k} gain_i / log2(i + 1)`, by falling prediction; NDCG is DCG divided by that of
    the best order (Jarvelin and Kekalainen 2002). Examples of equal prediction share the mean gain
    of their run (McSherry and Najork 2008), as in scikit-learn's `ndcg_score`.

    A query of one example, or in which no gain is above 0, says nothing about a ranker and is left
    out.

    Args:
      query: Integers, equal within a query, in any order; shape [rows].
      gain: What an example is worth, at least 0; shape [rows].
      prediction: Finite scores; shape [rows].
      top_k: How many places count.

    Returns:
      `[sum of NDCG, number of queries]`, float64; NaN if a gain is below 0.
    """
    if not len(query):
        return np.zeros(2)
    if np.min(gain) < 0:
        return np.full(2, np.nan)
    order = np.lexsort((-prediction, query))
    query, prediction = query[order], prediction[order]
    sorted_gain = gain[order].astype(np.float64)
    new_query = np.r_[True, query[1:] != query[:-1]]
    group = np.cumsum(new_query) - 1
    first = np.flatnonzero(new_query)
    place = np.arange(len(query)) - first[group]
    discount = np.where(place < top_k, 1 / np.log2(place + 2.0), 0.0)
    ties = np.flatnonzero(new_query | np.r_[True, prediction[1:] != prediction[:-1]])
    length = np.diff(np.r_[ties, len(query)])
    tied = np.add.reduceat(sorted_gain, ties) / length * np.add.reduceat(discount, ties)
    dcg = np.bincount(group[ties], weights=tied, minlength=len(first))
    # The rows are grouped by query already, so the ideal order keeps `discount` where it is.
    ideal_gain = sorted_gain[np.lexsort((-sorted_gain, group))]
    ideal = np.add.reduceat(ideal_gain * discount, first)
    size = np.diff(np.r_[first, len(query)])
    counted = (ideal > 0) & (size > 1)
    return np.array([np.sum(dcg[counted] / ideal[counted]), np.count_nonzero(counted)])


class QueryNdcg(ColumnMetric):
    """TFMA metric `ndcg`, with the label as gain; NaN where no query can be ranked."""

    def __init__(self, top_k: int, name: str = "ndcg") -> None:
        super().__init__(name, top_k=top_k)
        self._top_k = top_k

    def statistic(self, columns: ScoredColumns) -> NDArray[np.float64]:
        """See `ndcg`."""
        return ndcg(columns.query, columns.label, columns.prediction, self._top_k)

    def value(self, statistic: NDArray[np.float64]) -> float:
        """Mean over queries."""
        return float(statistic[0] / statistic[1]) if statistic[1] else float("nan")
