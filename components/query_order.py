"""The order of examples within their queries."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


def query_order(query: NDArray[np.integer[Any]], value: NDArray[Any]) -> NDArray[np.intp]:
    """The rows by query, those of one query by rising value.

    `np.lexsort((value, query))`, except that rows equal in both may come in any order: so one sort
    of integers, which numpy vectorises, takes the place of two merge sorts.

    Args:
      query: Integers; shape [rows].
      value: Not NaN, integers below 2**53; shape [rows].
    """
    if (query[1:] < query[:-1]).any():
        number = np.unique(query, return_inverse=True)[1]
    else:
        number = np.cumsum(np.diff(query, prepend=query[:1]) != 0)
    with np.errstate(over="ignore"):
        narrow = value.astype(np.float32, copy=False)
    if (narrow == value).all():
        # Bits, as integers, rise with a float that is not negative and fall with one that is.
        bits = narrow.view(np.int32)
        return np.argsort((number << 32) + np.where(bits < 0, bits ^ 0x7FFFFFFF, bits))
    values, rank = np.unique(value, return_inverse=True)
    return np.argsort(number * len(values) + rank)
