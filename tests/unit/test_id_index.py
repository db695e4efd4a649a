"""Finding ids among others, and ids that occur more than once, against what NumPy says of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from labelled_shards import PROVENANCE, write

from tfx_distill.labels import duplicates
from tfx_distill.labels.commit import commit
from tfx_distill.labels.duplicates import Repeats, repeats_in
from tfx_distill.labels.id_index import IdIndex
from tfx_distill.labels.scattering import scattered
from tfx_distill.schema.errors import LabelError

_ANY_ID = st.integers(-(2**63), 2**63 - 1)
# Few different ones, so that they repeat; multiples of 2**40 differ in their high bits only.
_FEW = st.one_of(st.integers(-4, 4), st.integers(-4, 4).map(lambda id_: id_ << 40))


def array(ids: Iterable[int]) -> np.ndarray:
    return np.array(list(ids), np.int64)


# ---- scattering ----------------------------------------------------------------------------------


@pytest.mark.parametrize("step", [1, 1000, 2**20, 2**40])
def test_the_high_bits_of_a_pattern_are_spread(step: int) -> None:
    high = scattered(np.arange(16_384, dtype=np.int64) * step) >> np.uint64(60)
    counts = np.bincount(high.astype(np.int64), minlength=16)
    # 1024 each would be even; of random numbers, one in a million is 150 away.
    assert np.abs(counts - 1024).max() < 150


def test_different_ids_are_scattered_to_different_numbers() -> None:
    ids = array([0, 1, -1, 2**63 - 1, -(2**63), 1 << 40, 1 << 62])
    assert len(set(scattered(ids).tolist())) == len(ids)


# ---- the index -----------------------------------------------------------------------------------


@given(
    known=st.lists(st.one_of(_ANY_ID, _FEW), unique=True, max_size=20),
    asked=st.lists(st.one_of(_ANY_ID, _FEW), max_size=40),
    both=st.lists(st.integers(0, 19), max_size=10),
)
def test_the_index_finds_what_a_dictionary_finds(
    known: list[int], asked: list[int], both: list[int]
) -> None:
    known.sort()
    asked += [known[place] for place in both if place < len(known)]
    rows, places = IdIndex(array(known)).find(array(asked))
    place_of = {id_: place for place, id_ in enumerate(known)}
    expected = {row: place_of[id_] for row, id_ in enumerate(asked) if id_ in place_of}
    assert dict(zip(rows.tolist(), places.tolist(), strict=True)) == expected


def test_the_filter_keeps_other_ids_out(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(5)
    index = IdIndex(np.sort(rng.integers(-(2**63), 2**63 - 1, 10_000)))
    looked_for = []
    search = np.searchsorted

    def counted(known: np.ndarray, met: np.ndarray) -> np.ndarray:
        looked_for.append(len(met))
        return search(known, met)

    monkeypatch.setattr(np, "searchsorted", counted)
    rows, _ = index.find(rng.integers(-(2**63), 2**63 - 1, 100_000))
    assert len(rows) == 0
    # 10,000 of 2**19 slots are taken: 1,889 are to be expected, with a deviation of 43.
    assert sum(looked_for) == pytest.approx(1889, abs=215)


# ---- repeated ids --------------------------------------------------------------------------------


@settings(max_examples=200)
@given(
    parts=st.lists(st.lists(st.one_of(_ANY_ID, _FEW), max_size=12), max_size=6),
    at_once=st.integers(2, 9),
)
def test_repeats_are_those_of_numpy_in_any_number_of_passes(
    parts: list[list[int]], at_once: int
) -> None:
    ids = array(id_ for part in parts for id_ in part)
    values, counts = np.unique(ids, return_counts=True)
    again = values[counts > 1]
    expected = Repeats(int(again[0]), len(again)) if len(again) else None
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(duplicates, "_ROWS_AT_ONCE", at_once)
        assert repeats_in(lambda: [array(part) for part in parts], len(ids)) == expected


def test_ids_at_the_ends_of_ranges_belong_to_one_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(duplicates, "_ROWS_AT_ONCE", 2)
    # 13 rows are 8 ranges of 2**61 numbers; as only one id fits, the first one is cut at 2**60.
    ends = [0, 2**60 - 1, 2**60, 2**61 - 1, 2**61, 2**64 - 1]
    back = pow(0x9E3779B97F4A7C15, -1, 2**64)
    ids = np.array([end * back % 2**64 for end in [*ends, *ends, 5]], np.uint64).view(np.int64)
    assert scattered(ids[:6]).tolist() == ends
    assert repeats_in(lambda: [ids], 13) == Repeats(int(ids[:6].min()), 6)


class Watched:
    """Ids in parts, and how much was held of them at once by whoever read them."""

    def __init__(self, ids: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
        self.parts = np.array_split(ids, 50)
        self.passes = 0
        self.held: list[int] = []
        of_range = duplicates._repeats_of_range

        def watched(parts: Iterable[np.ndarray], first: int, last: int, room: int) -> object:
            self.held.append(room)
            return of_range(parts, first, last, room)

        monkeypatch.setattr(duplicates, "_repeats_of_range", watched)

    def read(self) -> Iterator[np.ndarray]:
        self.passes += 1
        yield from self.parts


@pytest.mark.parametrize("step", [1, 2**40])
def test_a_pass_holds_no_more_than_its_share(step: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(duplicates, "_ROWS_AT_ONCE", 1000)
    ids = np.arange(10_000, dtype=np.int64) * step
    watched = Watched(ids, monkeypatch)
    assert repeats_in(watched.read, len(ids)) is None
    # 10,000 rows, seven eighths of a thousand at once.
    assert watched.passes == 12
    assert set(watched.held) == {1000}
    ids[[17, 9000]] = ids[4]
    assert repeats_in(watched.read, len(ids)) == Repeats(4 * step, 1)


def test_few_ids_are_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(duplicates, "_ROWS_AT_ONCE", 1000)
    watched = Watched(np.arange(1000, dtype=np.int64), monkeypatch)
    assert repeats_in(watched.read, 1000) is None
    assert watched.passes == 1


def test_one_id_for_all_rows_is_found_in_one_range(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(duplicates, "_ROWS_AT_ONCE", 1000)
    watched = Watched(np.full(10_000, 7, np.int64), monkeypatch)
    assert repeats_in(watched.read, 10_000) == Repeats(7, 1)
    # Its range needed no splitting.
    assert watched.passes == 12


def test_ids_that_crowd_in_one_range_are_split(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(duplicates, "_ROWS_AT_ONCE", 1000)
    ids = np.arange(100_000, dtype=np.int64)
    crowded = ids[scattered(ids) < np.uint64(2**60)][:5000]
    watched = Watched(np.append(crowded, crowded[:3]), monkeypatch)
    assert repeats_in(watched.read, 5003) == Repeats(int(crowded[0]), 3)
    assert watched.passes > 6
    assert set(watched.held) == {1000}


def test_a_commit_in_several_passes_says_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shards = [write(tmp_path, range(100)), write(tmp_path, [200, 60, 61], name="train-00001")]
    messages = []
    for at_once in (1 << 24, 10):
        monkeypatch.setattr(duplicates, "_ROWS_AT_ONCE", at_once)
        with pytest.raises(LabelError) as caught:
            commit(tmp_path, shards, PROVENANCE)
        messages.append(str(caught.value))
    assert messages[0] == messages[1]
    assert "train-00000 (row 60) and train-00001 (row 1); 2 ids" in messages[1]
    commit(tmp_path, shards[:1], PROVENANCE)
