"""The order within queries, against numpy's lexsort."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from tfx_distill.components.query_order import query_order

ENDS = np.iinfo(np.int64)
QUERIES = st.sampled_from([ENDS.min, ENDS.min + 1, -1, 0, 1, 2**40, ENDS.max - 1, ENDS.max])


def floats(bits: int) -> st.SearchStrategy[float]:
    some = st.sampled_from([-0.0, 0.0, -1.5, -1.0, 0.25, 1.0, np.inf, -np.inf])
    return some | st.floats(width=bits, allow_nan=False)


@pytest.mark.parametrize("rising", [True, False])
@pytest.mark.parametrize(
    ("kind", "values"),
    [
        (np.float32, floats(32)),
        (np.float64, floats(64)),
        (np.float64, floats(32)),
        (np.int64, st.integers(-3, 3)),
        (np.int64, st.integers(2**53 - 5, 2**53)),
    ],
)
@given(data=st.data())
def test_as_lexsort_whatever_the_numbers(
    kind: type, values: st.SearchStrategy[Any], rising: bool, data: st.DataObject
) -> None:
    rows = data.draw(st.integers(1, 40))
    query: NDArray[np.int64] = data.draw(hnp.arrays(np.int64, rows, elements=QUERIES))
    value: NDArray[Any] = data.draw(hnp.arrays(kind, rows, elements=values))
    query = np.sort(query) if rising else query
    order, expected = query_order(query, value), np.lexsort((value, query))
    assert sorted(order.tolist()) == list(range(rows))
    np.testing.assert_array_equal(query[order], query[expected])
    np.testing.assert_array_equal(value[order], value[expected])


def test_of_nothing_is_nothing() -> None:
    assert query_order(np.array([], np.int64), np.array([], np.float32)).tolist() == []
