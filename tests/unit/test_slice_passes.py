"""The slices that do not fit into memory together wait for another pass over the predictions."""

from __future__ import annotations

import tracemalloc
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import paired_rows
import pytest
from paired_rows import KINDS, MODELS, SLICES

from tfx_distill.components import query_sums, stored_predictions
from tfx_distill.components.query_sums import SliceSums, slice_sums

CUT = 3


def sums_of(files: Sequence[Path], **sizes: int) -> dict[str, SliceSums]:
    with stored_predictions.opened(files, MODELS, SLICES, **sizes) as stored:
        return {part.name: part for part in slice_sums(stored, MODELS, KINDS, CUT)}


def test_a_partition_holds_the_rows_of_the_chosen_slices_alone(tmp_path: Path) -> None:
    rows = paired_rows.rows(1, queries=100)
    files = paired_rows.write(rows, tmp_path)
    tv, old = rows["device"] == "tv", rows["new_item"] == 0
    with stored_predictions.opened(files, MODELS, SLICES) as stored:
        assert stored.rows[""] == [len(tv)]
        assert stored.rows["device"] == [(rows["device"] == "phone").sum(), tv.sum()]
        (found,) = stored.partitions({"device": range(1, 2), "new_item": range(1)})
    assert set(found.codes) == {"device", "new_item"}
    expected = tv | old
    assert list(found.codes["device"]) == list(np.where(tv, 1, -1)[expected])
    assert list(found.codes["new_item"]) == list(np.where(old, 0, -1)[expected])
    for column, name in ((found.query, "query_id"), (found.label["time"], "label_time")):
        assert list(column) == list(rows[name][expected])
    assert list(found.weight["click"]) == list(rows["weight_click"][expected])
    assert list(found.prediction["twin", "click"]) == list(rows["twin/click"][expected])


@pytest.mark.parametrize("sizes", [{}, {"partition_rows": 60}, {"max_groups": 30}])
@pytest.mark.parametrize("slices_in_memory", [1, 2])
def test_in_several_passes_the_sums_are_the_same(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    slices_in_memory: int,
    sizes: dict[str, int],
) -> None:
    files = paired_rows.write(paired_rows.rows(1, queries=100), tmp_path)
    at_once = sums_of(files, **sizes)
    held: list[dict[str, range]] = []
    partitions = stored_predictions.StoredPredictions.partitions

    def watched(stored: stored_predictions.StoredPredictions, chosen: dict[str, range]) -> Any:
        held.append(chosen)
        return partitions(stored, chosen)

    monkeypatch.setattr(stored_predictions.StoredPredictions, "partitions", watched)
    monkeypatch.setattr(query_sums, "_most_bytes", lambda *_: 1)
    monkeypatch.setattr(query_sums, "MAX_BYTES", slices_in_memory)
    in_passes = sums_of(files, **sizes)
    # Twice each: to survey the slices, and to sum.
    assert [sum(map(len, chosen.values())) for chosen in held] == {
        1: [1] * 10,
        2: [2] * 4 + [1] * 2,
    }[slices_in_memory]
    assert list(in_passes) == list(at_once)
    assert len(in_passes) == 5
    for name, part in in_passes.items():
        assert np.array_equal(part.groups, at_once[name].groups)
        assert np.array_equal(part.sums, at_once[name].sums)
        assert part.queries == at_once[name].queries
        for key, value in part.values(part.sums).items():
            assert np.array_equal(value, at_once[name].values(part.sums)[key], equal_nan=True)


def test_memory_does_not_grow_with_the_number_of_slices(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def peak(values: int) -> int:
        rng = np.random.default_rng(0)
        count = 300 * values
        rows: dict[str, Any] = {
            "query_id": np.tile(np.arange(300), values),
            "device": np.repeat(np.arange(values), 300),
            "new_item": np.zeros(count, np.int64),
        }
        for task in KINDS:
            rows |= {f"label_{task}": rng.integers(0, 2, count).astype(np.float32)}
            rows |= {f"weight_{task}": np.ones(count, np.float32)}
            rows |= {f"{m}/{task}": rng.random(count).round(2).astype("f4") for m in MODELS}
        files = paired_rows.write(rows, tmp_path / str(values))
        with stored_predictions.opened(files, MODELS, SLICES, partition_rows=2_000) as stored:
            tracemalloc.start()
            for _ in slice_sums(stored, MODELS, KINDS, CUT):
                pass
            found = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
        return found

    unbounded = peak(40)
    monkeypatch.setattr(query_sums, "MAX_BYTES", 2**19)
    # 40 slices of 300 groups and some 35 sums are 3.4 MB.
    assert peak(40) < 1.25 * peak(20) < 0.6 * unbounded
