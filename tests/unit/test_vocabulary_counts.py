"""Which values a renewed vocabulary holds, and in which order."""

from __future__ import annotations

import pickle

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tfx_distill.components import value_counts
from tfx_distill.components.value_counts import ValueCounts
from tfx_distill.components.vocabulary_refresher import merged


def counted(batches: list[pa.Array]) -> ValueCounts:
    counts = ValueCounts()
    for batch in batches:
        counts.add(batch)
    return counts


def test_counts_leave_out_what_a_vocabulary_cannot_hold() -> None:
    values = [b"a", b"", b"b\n", b"b", b"a", b"\r", "é".encode(), b" "]
    found = counted([pa.array(values, pa.large_binary())])
    assert found.most_frequent().to_pylist() == [b"a", "é".encode(), b"b", b" "]
    assert counted([]).most_frequent().to_pylist() == []


def test_counts_of_nothing_are_small_when_they_are_sent() -> None:
    nothing = counted([pa.array([], pa.large_binary())] * 3)
    nothing.merge(counted([]))
    assert nothing.compact().num_rows == 0
    assert len(pickle.dumps(nothing)) < 5_000


@given(
    batches=st.lists(st.lists(st.integers(-3, 30), max_size=40), max_size=6),
    pending=st.integers(0, 50),
    cut=st.integers(0, 6),
)
def test_counts_are_those_of_a_plain_count(
    batches: list[list[int]], pending: int, cut: int
) -> None:
    together = [str(value).encode() for batch in batches for value in batch]
    expected = sorted(set(together), key=lambda v: (together.count(v), v), reverse=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(value_counts, "PENDING_VALUES", pending)
        arrays = [pa.array(batch, pa.int64()) for batch in batches]
        got = counted(arrays[:cut])
        got.merge(counted(arrays[cut:]))
    assert got.most_frequent().to_pylist() == expected


@given(
    now=st.lists(st.binary(min_size=1, max_size=2), unique=True, max_size=8),
    before=st.lists(st.binary(min_size=1, max_size=2), unique=True, max_size=8),
    size=st.integers(1, 8),
)
def test_places_are_filled_first_by_what_occurs(
    now: list[bytes], before: list[bytes], size: int
) -> None:
    got = merged(pa.array(now, pa.binary()), before, size)
    assert got[: len(now)] == now[:size]
    assert len(got) == len(set(got)) == min(size, len(set(now) | set(before)))
    # Of those that are left over, the more frequent ones of before.
    rest = got[len(now) :]
    assert rest == [value for value in before if value not in now][: len(rest)]
