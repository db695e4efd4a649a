"""NDCG: how close the order within each query is to the best possible one, at the top."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from tfx_distill.components.column_metric import ColumnMetric, ScoredColumns
from tfx_distill.components.query_order import query_order

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
    order = query_order(query, prediction)
    sorted_query = query[order]
    first = np.flatnonzero(np.r_[True, sorted_query[1:] != sorted_query[:-1]])
    ideal = IdealRanking(first, gain[query_order(query, gain)], top_k)
    return ideal.ndcgs(gain[order], prediction[order]).sum(axis=1)


class IdealRanking:
    """What the best order of each query is worth: the same for every model."""

    def __init__(self, first: NDArray[np.integer[Any]], gain: NDArray[Any], top_k: int) -> None:
        """Takes the rows in the worst order.

        Args:
          first: Where each query begins; shape [queries].
          gain: The rows of a query adjacent and by rising gain; shape [rows].
          top_k: How many places count.
        """
        self._first = first
        size = np.diff(np.r_[first, len(gain)])
        # Rows rise, so that the last one of a query is in its place 0.
        place = np.repeat(first + size, size) - np.arange(len(gain)) - 1
        self._discount = np.where(place < top_k, 1 / np.log2(place + 2.0), 0.0)
        self._ideal = np.add.reduceat(gain * self._discount, first)
        self._counted = (self._ideal > 0) & (size > 1)
        self._negative = gain[first] < 0

    def ndcgs(self, gain: NDArray[Any], prediction: NDArray[Any]) -> NDArray[np.float64]:
        """What each query adds to the two sums of `ndcg`, in the order of a model.

        Args:
          gain: The rows of a query adjacent and by rising prediction; shape [rows].
          prediction: Finite scores; shape [rows].

        Returns:
          NDCG and 1, both 0 for a query that is left out and NaN for one with a gain below 0;
          float64, shape [2, queries].
        """
        new_score = np.r_[True, prediction[1:] != prediction[:-1]]
        new_score[self._first] = True
        ties = np.flatnonzero(new_score)
        length = np.diff(np.r_[ties, len(gain)])
        tied = np.add.reduceat(gain.astype(np.float64), ties) / length
        tied *= np.add.reduceat(self._discount, ties)
        dcg = np.add.reduceat(tied, np.searchsorted(ties, self._first))
        values = np.divide(dcg, self._ideal, out=np.zeros(len(dcg)), where=self._counted)
        return np.where(self._negative, np.nan, [values, self._counted])


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
