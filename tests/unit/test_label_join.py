"""Joining teacher labels to examples by id."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tfx_distill.labels import join as join_module
from tfx_distill.labels.commit import commit
from tfx_distill.labels.join import Coverage, LabelJoiner
from tfx_distill.labels.partition import Partition
from tfx_distill.labels.provenance import Provenance
from tfx_distill.labels.shard import LabelShardWriter
from tfx_distill.labels.snapshot import Snapshot
from tfx_distill.schema.columns import Split
from tfx_distill.schema.errors import LabelError

KINDS = {"click": "binary", "watch": "regression"}


def labelled(
    table: Path,
    shards: Mapping[str, Sequence[tuple[int, float]]],
    batch: int = 2,
    *,
    span: int = 3,
    split: Split = "train",
) -> Snapshot:
    """A table of these (id, logit) pairs per shard; the value of `watch` is minus the logit."""
    written = []
    for name, rows in shards.items():
        with LabelShardWriter(
            table,
            Partition("video", span, split),
            name,
            KINDS,
            datetime(2024, 5, 1, tzinfo=timezone.utc),
        ) as writer:
            for start in range(0, len(rows), batch):
                part = rows[start : start + batch]
                logit = np.array([row[1] for row in part], np.float32)
                writer.write(
                    np.array([row[0] for row in part], np.int64),
                    {"click": logit, "watch": -logit},
                    np.zeros(len(part), np.float32),
                )
        written.append(writer.shard)
    return commit(table, written, Provenance("t", "a", f"{span} {split}", "c", "d", None))


def ids(*values: int) -> np.ndarray:
    return np.array(values, np.int64)


def test_labels_follow_the_ids_not_the_rows(tmp_path: Path) -> None:
    snapshot = labelled(tmp_path, {"s0": [(10, 1.0), (20, 2.0), (30, 3.0)], "s1": [(40, 4.0)]})
    joiner = LabelJoiner(snapshot, "train", KINDS)
    # Shuffled, one without a label (25), one whose label lies in another file (40).
    found, present = joiner.join("s0", ids(30, 25, 10, 40, 20))
    assert present.tolist() == [True, False, True, True, True]
    assert found["click"].tolist() == [3.0, 0.0, 1.0, 4.0, 2.0]
    assert found["watch"].tolist() == [-3.0, 0.0, -1.0, -4.0, -2.0]
    assert (found["click"].dtype, present.dtype) == (np.float32, np.bool_)


def test_wanted_tasks_only(tmp_path: Path) -> None:
    snapshot = labelled(tmp_path, {"s0": [(10, 1.0)]})
    found, _ = LabelJoiner(snapshot, "train", {"watch": "regression"}).join("s0", ids(10))
    assert {task: values.tolist() for task, values in found.items()} == {"watch": [-1.0]}


def test_examples_that_repeat_an_id_share_its_label(tmp_path: Path) -> None:
    snapshot = labelled(tmp_path, {"s0": [(10, 1.0), (20, 2.0)]})
    found, present = LabelJoiner(snapshot, "train", KINDS).join("s0", ids(20, 10, 20))
    assert found["click"].tolist() == [2.0, 1.0, 2.0]
    assert present.all()


def test_an_empty_shard_joins_nothing(tmp_path: Path) -> None:
    joiner = LabelJoiner(labelled(tmp_path, {"s0": [(10, 1.0)]}), "train", KINDS)
    found, present = joiner.join("s0", ids())
    assert (len(found["click"]), len(present)) == (0, 0)


def test_coverage_counts_missing_and_extra_labels(tmp_path: Path) -> None:
    snapshot = labelled(tmp_path, {"s0": [(1, 0.0), (2, 0.0), (99, 0.0)], "s1": [(3, 0.0)]})
    joiner = LabelJoiner(snapshot, "train", KINDS)
    assert joiner.coverage() == Coverage(examples=0, labelled=0, labels=4)
    joiner.join("s0", ids(1, 2))
    joiner.join("s1", ids(3, 4))
    assert joiner.coverage() == Coverage(examples=4, labelled=3, labels=4)
    assert joiner.coverage().share == 0.75
    joiner.require_coverage(0.75)
    with pytest.raises(LabelError) as caught:
        joiner.require_coverage(0.76)
    message = str(caught.value)
    expected = ["3 of 4", "75.00%", "76.00%", "labels.min_coverage", str(tmp_path), "split train"]
    assert [part for part in expected if part not in message] == []


def test_epochs_do_not_add_up_to_coverage(tmp_path: Path) -> None:
    joiner = LabelJoiner(labelled(tmp_path, {"s0": [(1, 0.0)], "s1": [(3, 0.0)]}), "train", KINDS)
    for _ in range(3):
        joiner.join("s0", ids(1, 2))
        joiner.join("s1", ids(3))
        assert joiner.coverage() == Coverage(examples=3, labelled=2, labels=2)
    joiner.join("s0", ids(1))
    assert joiner.coverage() == Coverage(examples=2, labelled=2, labels=2)


def test_of_several_snapshots_the_last_one_wins(tmp_path: Path) -> None:
    first = labelled(tmp_path, {"s0": [(1, 1.0), (2, 2.0)], "s1": [(3, 3.0)]}, span=1)
    second = labelled(tmp_path, {"s0": [(4, 40.0)], "s1": [(2, 20.0), (5, 50.0)]}, span=2)
    # Id 2 is in the first one's file of the shard, but the second one labels it, too.
    found, present = LabelJoiner([first, second], "train", KINDS).join("s0", ids(1, 2, 3, 4, 5, 6))
    assert found["click"].tolist() == [1.0, 20.0, 3.0, 40.0, 50.0, 0.0]
    assert present.tolist() == [True] * 5 + [False]
    found, _ = LabelJoiner([second, first], "train", KINDS).join("s0", ids(1, 2, 5))
    assert found["click"].tolist() == [1.0, 2.0, 50.0]
    joiner = LabelJoiner([first, second], "train", KINDS)
    joiner.join("s0", ids(1, 2, 3, 4, 5, 6))
    assert joiner.coverage() == Coverage(examples=6, labelled=5, labels=6)
    with pytest.raises(LabelError, match="span 2\\) and 1 before it, split train"):
        joiner.require_coverage(0.9)


def test_the_last_snapshot_is_enough_where_it_has_all(tmp_path: Path) -> None:
    first = labelled(tmp_path, {"s0": [(1, 1.0)]}, span=1)
    second = labelled(tmp_path, {"s0": [(1, 10.0)], "s1": [(2, 20.0)]}, span=2)
    joiner = LabelJoiner([first, second], "train", KINDS)
    for snapshot, name in ((first, "s0-"), (second, "s1-")):
        Path(next(path for path in snapshot.files("train") if name in path)).unlink()
    assert joiner.join("s0", ids(1))[0]["click"].tolist() == [10.0]


def test_one_snapshot_with_the_split_is_enough(tmp_path: Path) -> None:
    first = labelled(tmp_path, {"s0": [(1, 1.0)]}, span=1)
    other = labelled(tmp_path, {"e0": [(2, 2.0)]}, span=2, split="eval")
    found, present = LabelJoiner([first, other], "train", KINDS).join("s0", ids(1, 2))
    assert (found["click"].tolist(), present.tolist()) == ([1.0, 0.0], [True, False])
    with pytest.raises(LabelError, match="split train"):
        LabelJoiner([other], "train", KINDS)
    with pytest.raises(LabelError, match="no snapshot, split train"):
        LabelJoiner([], "train", KINDS)


def test_a_version_that_did_not_change_the_split_is_read_once(tmp_path: Path) -> None:
    first = labelled(tmp_path, {"s0": [(1, 1.0)]})
    later = labelled(tmp_path, {"e0": [(2, 2.0)]}, split="eval")
    joiner = LabelJoiner([first, later], "train", KINDS)
    joiner.join("s0", ids(1))
    assert joiner.coverage() == Coverage(examples=1, labelled=1, labels=1)


@pytest.mark.parametrize("remembered", [True, False])
def test_small_data_is_read_once_for_all_epochs(
    tmp_path: Path, remembered: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(join_module, "_KEPT_ROWS", 2 if remembered else 1)
    snapshot = labelled(tmp_path, {"s0": [(1, 1.0), (2, 2.0)]})
    joiner = LabelJoiner(snapshot, "train", KINDS)
    first = joiner.join("s0", ids(1, 2))
    Path(snapshot.files("train")[0]).unlink()
    if remembered:
        again = joiner.join("s0", ids(1, 2))
        np.testing.assert_array_equal(again[0]["click"], first[0]["click"])
    # Other examples of that name are looked for.
    with pytest.raises(LabelError):
        joiner.join("s0", ids(1) if remembered else ids(1, 2))


def test_a_shard_that_was_labelled_as_it_is_needs_no_search(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    snapshot = labelled(tmp_path, {"s0": [(7, 1.0), (3, 2.0), (5, 3.0)], "s1": [(9, 4.0)]})
    expected = LabelJoiner(snapshot, "train", KINDS)._search("s0", ids(7, 3, 5))
    monkeypatch.delattr(LabelJoiner, "_search")
    found, present = LabelJoiner(snapshot, "train", KINDS).join("s0", ids(7, 3, 5))
    assert found["click"].tolist() == [1.0, 2.0, 3.0] == expected[0]["click"].tolist()
    assert found["watch"].tolist() == [-1.0, -2.0, -3.0] == expected[0]["watch"].tolist()
    assert present.all()
    # In another order, or not all of them: searched by id.
    for other in (ids(3, 7, 5), ids(7, 3), ids(7, 3, 5, 9)):
        with pytest.raises(AttributeError):
            LabelJoiner(snapshot, "train", KINDS).join("s0", other)


def test_coverage_of_nothing_is_not_enough(tmp_path: Path) -> None:
    joiner = LabelJoiner(labelled(tmp_path, {"s0": [(1, 0.0)]}), "train", KINDS)
    with pytest.raises(LabelError, match="0 of 0"):
        joiner.require_coverage(0.01)


@pytest.mark.parametrize(("own", "other", "example"), [("s0", "s1", 1), ("s1", "s0", 2)])
def test_own_file_is_enough(tmp_path: Path, own: str, other: str, example: int) -> None:
    snapshot = labelled(tmp_path, {"s0": [(1, 1.0)], "s1": [(2, 2.0)]})
    joiner = LabelJoiner(snapshot, "train", KINDS)
    Path(next(path for path in snapshot.files("train") if f"{other}-" in path)).unlink()
    assert joiner.join(own, ids(example))[0]["click"].tolist() == [float(example)]
    with pytest.raises(LabelError, match=f"{other}-"):
        joiner.join(own, ids(1, 2))


def test_tasks_and_splits_that_are_not_there_are_named(tmp_path: Path) -> None:
    snapshot = labelled(tmp_path, {"s0": [(1, 1.0)]})
    with pytest.raises(LabelError, match="split eval"):
        LabelJoiner(snapshot, "eval", KINDS)
    joiner = LabelJoiner(snapshot, "train", {"click": "regression"})
    with pytest.raises(LabelError, match="value_click"):
        joiner.join("s0", ids(1))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), None])
def test_foreign_labels_that_are_not_finite_are_refused(
    tmp_path: Path, value: float | None
) -> None:
    snapshot = labelled(tmp_path, {"s0": [(1, 1.0), (2, 2.0)]})
    joiner = LabelJoiner(snapshot, "train", KINDS)
    (path,) = snapshot.files("train")
    table = pq.read_table(path, partitioning=None)
    values = pa.array([1.0, value], pa.float32())
    position = table.schema.get_field_index("logit_click")
    pq.write_table(table.set_column(position, "logit_click", values), path)
    assert joiner.join("s0", ids(1))[0]["click"].tolist() == [1.0]
    with pytest.raises(LabelError, match="logit_click, example_id 2"):
        joiner.join("s0", ids(1, 2))


# Few distinct ids, so that every shard shares some with every label file.
_ID = st.one_of(st.integers(-6, 6), st.sampled_from([-(2**63), 2**63 - 1]))
_LABELS = st.dictionaries(_ID, st.floats(-50, 50, width=32), min_size=1, max_size=14)


@settings(max_examples=60, deadline=None)
@given(
    label_of=_LABELS,
    cuts=st.lists(st.integers(0, 14), min_size=2, max_size=2).map(sorted),
    examples=st.lists(st.lists(_ID, max_size=8), min_size=1, max_size=4),
    batch=st.integers(1, 4),
    portion=st.integers(1, 6),
)
def test_join_equals_a_pandas_merge(
    tmp_path_factory: pytest.TempPathFactory,
    label_of: dict[int, float],
    cuts: list[int],
    examples: list[list[int]],
    batch: int,
    portion: int,
) -> None:
    rows = list(label_of.items())
    shards = {
        "s0": rows[: cuts[0]],
        "s1": rows[cuts[0] : cuts[1]],
        "s2": rows[cuts[1] :],
    }
    snapshot = labelled(tmp_path_factory.mktemp("table"), shards, batch)
    joiner = LabelJoiner(snapshot, "train", KINDS)
    right = pd.DataFrame({"example_id": label_of.keys(), "label": label_of.values()})
    right = right.astype({"example_id": "int64", "label": "float32"})
    total = labelled_total = 0
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(join_module, "_PORTION_ROWS", portion)
        for number, wanted in enumerate(examples):
            left = pd.DataFrame({"example_id": np.array(wanted, np.int64)})
            merged = left.merge(right, on="example_id", how="left")
            found, present = joiner.join(f"s{number}", left["example_id"].to_numpy())
            assert present.tolist() == merged["label"].notna().tolist()
            assert found["click"].tolist() == merged["label"].fillna(0).tolist()
            assert found["watch"].tolist() == (-merged["label"].fillna(0)).tolist()
            total += len(wanted)
            labelled_total += int(merged["label"].notna().sum())
    assert joiner.coverage() == Coverage(total, labelled_total, len(label_of))


_SNAPSHOTS = st.lists(
    st.dictionaries(_ID, st.tuples(st.integers(0, 2), st.floats(-9, 9, width=32)), min_size=1),
    min_size=1,
    max_size=3,
)


@settings(max_examples=40, deadline=None)
@given(snapshots=_SNAPSHOTS, wanted=st.lists(_ID, max_size=8), shard=st.integers(0, 3))
def test_several_snapshots_join_like_dictionaries_that_are_updated(
    tmp_path_factory: pytest.TempPathFactory,
    snapshots: list[dict[int, tuple[int, float]]],
    wanted: list[int],
    shard: int,
) -> None:
    table = tmp_path_factory.mktemp("table")
    expected: dict[int, float] = {}
    written = []
    for span, labels in enumerate(snapshots):
        shards: dict[str, list[tuple[int, float]]] = {}
        for example_id, (number, label) in labels.items():
            shards.setdefault(f"s{number}", []).append((example_id, label))
        written.append(labelled(table, shards, span=span))
        expected.update({example_id: label for example_id, (_, label) in labels.items()})
    found, present = LabelJoiner(written, "train", KINDS).join(f"s{shard}", ids(*wanted))
    assert present.tolist() == [example_id in expected for example_id in wanted]
    assert found["click"].tolist() == [expected.get(example_id, 0) for example_id in wanted]
