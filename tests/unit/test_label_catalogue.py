"""Which labels the table holds, and the quality that their commits carry."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta, timezone
from pathlib import Path

import polars as pl
import pytest
from deltalake import DeltaTable
from deltalake.transaction import CommitProperties
from labelled_shards import PROVENANCE, key, labels, write

from tfx_distill.labels.catalogue import labellings, newest
from tfx_distill.labels.commit import commit
from tfx_distill.labels.provenance import Provenance
from tfx_distill.labels.retention import compact, expire
from tfx_distill.labels.snapshot import Snapshot, read


def label(
    table: Path, span: int, *, teacher: str = "video", number: int = 0, shift: float = 0.0
) -> Snapshot:
    source = replace(key(number), teacher_version=f"v-{teacher}", examples_fingerprint=f"e{span}")
    return commit(table, [write(table, [span], teacher=teacher, span=span, shift=shift)], source)


def test_no_table_holds_nothing(tmp_path: Path) -> None:
    assert labellings(tmp_path / "nowhere") == []
    assert newest(tmp_path / "nowhere", (0, 9)) == []
    assert not (tmp_path / "nowhere").exists()


def test_what_a_commit_says_is_listed(tmp_path: Path) -> None:
    before = datetime.now(timezone.utc) - timedelta(seconds=1)
    shards = [
        write(tmp_path, [1, 2]),
        write(tmp_path, [3], name="train-00001"),
        write(tmp_path, [4], split="eval"),
    ]
    snapshot = commit(tmp_path, shards, PROVENANCE, quality={"examples": 4, "tasks": {"a": 0.5}})
    later = label(tmp_path, 4)
    first, second = labellings(tmp_path)
    assert (first.version, first.teacher, first.span) == (snapshot.version, "video", 3)
    assert first.rows == {"train": 3, "eval": 1}
    assert first.provenance == PROVENANCE
    assert first.quality == {"examples": 4, "tasks": {"a": 0.5}}
    assert first.size == sum((tmp_path / shard.path).stat().st_size for shard in shards)
    assert before < first.committed_at <= datetime.now(timezone.utc)
    assert first.snapshot(tmp_path) == snapshot
    assert (second.snapshot(tmp_path), second.quality) == (later, None)


def test_quality_that_is_not_json_is_refused(tmp_path: Path) -> None:
    shards = [write(tmp_path, [1])]
    with pytest.raises(ValueError, match="JSON"):
        commit(tmp_path, shards, PROVENANCE, quality={"mean": float("nan")})
    assert not DeltaTable.is_deltatable(str(tmp_path))


def test_a_labelling_that_was_replaced_is_not_listed(tmp_path: Path) -> None:
    commit(tmp_path, [write(tmp_path, [1, 2]), write(tmp_path, [3], split="eval")], PROVENANCE)
    commit(tmp_path, [write(tmp_path, [4], shift=0.5)], key(8))
    # Of the first labelling the eval split is left.
    assert [(found.version, found.rows) for found in labellings(tmp_path)] == [
        (1, {"eval": 1}),
        (2, {"train": 1}),
    ]
    commit(tmp_path, [write(tmp_path, [5]), write(tmp_path, [], split="eval")], key(9))
    assert [(found.version, found.rows) for found in labellings(tmp_path)] == [(3, {"train": 1})]


def test_the_newest_labels_of_each_span(tmp_path: Path) -> None:
    for span in (0, 1, 3):
        label(tmp_path, span, number=span)
    other = label(tmp_path, 1, teacher="music", number=11)
    again = label(tmp_path, 3, number=13, shift=0.5)
    assert [(found.span, found.teacher) for found in newest(tmp_path, (0, 9))] == [
        (0, "video"),
        (1, "music"),
        (3, "video"),
    ]
    assert newest(tmp_path, (1, 2)) == [other]
    assert newest(tmp_path, (2, 2)) == []
    assert newest(tmp_path, (3, 3)) == [again]
    assert labels(read(again, "train")) == {3: 3.5}


@pytest.mark.parametrize("name", ["video", "v-video", "bytes1"])
def test_the_labels_of_one_teacher(tmp_path: Path, name: str) -> None:
    wanted = label(tmp_path, 1, number=1)
    label(tmp_path, 1, teacher="music", number=2)
    assert newest(tmp_path, (0, 9), name) == [wanted]
    assert newest(tmp_path, (0, 9), "nobody") == []


def test_checkpoints_compaction_and_other_writers_change_nothing(tmp_path: Path) -> None:
    for span in range(3):
        shards = [write(tmp_path, [n], span=span, name=f"train-{n:05d}") for n in range(4)]
        commit(tmp_path, shards, replace(key(span), examples_fingerprint=f"e{span}"))
    expected = labellings(tmp_path)
    snapshots = newest(tmp_path, (0, 2))
    delta = DeltaTable(str(tmp_path))
    delta.alter.set_table_properties(
        {"delta.checkpointInterval": "10"},
        commit_properties=CommitProperties(custom_metadata={"userMetadata": '"by hand"'}),
    )
    delta.create_checkpoint()
    assert labellings(tmp_path) == expected
    assert compact(tmp_path).replaced == 12
    # A merged file has another size, all else is the same.
    assert [replace(found, size=0) for found in labellings(tmp_path)] == [
        replace(found, size=0) for found in expected
    ]
    assert newest(tmp_path, (0, 2)) == snapshots
    assert labels(read(snapshots[1], "train")) == {n: float(n) for n in range(4)}


def test_expired_labels_are_not_listed_until_they_are_labelled_again(tmp_path: Path) -> None:
    for span in range(4):
        label(tmp_path, span, number=span)
    expire(tmp_path, keep_spans=2, newest_span=3)
    assert [found.span for found in labellings(tmp_path)] == [2, 3]
    assert [found.span for found in newest(tmp_path, (0, 9))] == [2, 3]
    # The same teacher and examples: what it committed before has expired, so this is a commit.
    again = label(tmp_path, 0)
    assert labellings(tmp_path)[-1].snapshot(tmp_path) == again
    assert pl.read_delta(str(tmp_path))["span"].sort().to_list() == [0, 2, 3]


def test_provenance_without_a_watermark(tmp_path: Path) -> None:
    source = Provenance("v", "a", "b", "c", "d", None)
    commit(tmp_path, [write(tmp_path, [1])], source)
    assert labellings(tmp_path)[0].provenance == source
