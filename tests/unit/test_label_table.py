"""Writing, committing and reading the label table."""

from __future__ import annotations

import errno
import json
import multiprocessing
import os
import pickle
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable
from deltalake.exceptions import DeltaError
from deltalake.transaction import CommitProperties

from tfx_distill.labels import shard as shard_module
from tfx_distill.labels.commit import commit, find
from tfx_distill.labels.history import provenance_of
from tfx_distill.labels.partition import Partition
from tfx_distill.labels.provenance import Provenance
from tfx_distill.labels.shard import LabelShard, LabelShardWriter
from tfx_distill.labels.snapshot import Snapshot, read
from tfx_distill.schema.columns import Split
from tfx_distill.schema.errors import EnvironmentProblem, LabelError

KINDS = {"click": "binary", "watch": "regression"}
NOON = datetime(2024, 5, 1, 12, tzinfo=timezone.utc)
PROVENANCE = Provenance("t7", "bytes7", "examples3", "graph1", "config1", watermark=1_714_000_000)


def write(
    table: Path,
    ids: Sequence[int],
    *,
    teacher: str = "video",
    span: int = 3,
    split: Split = "train",
    name: str = "train-00000",
    shift: float = 0.0,
    kinds: dict[str, str] = KINDS,
    batch: int = 2,
    scored_at: datetime = NOON,
) -> LabelShard:
    """A shard in which the label of an id is the id plus `shift`, for every task."""
    with LabelShardWriter(table, Partition(teacher, span, split), name, kinds, scored_at) as writer:
        for start in range(0, len(ids), batch):
            part = np.array(ids[start : start + batch], np.int64)
            label = (part + shift).astype(np.float32)
            writer.write(part, dict.fromkeys(kinds, label), np.zeros(len(part), np.float32))
    return writer.shard


def key(number: int) -> Provenance:
    return replace(PROVENANCE, teacher_fingerprint=f"bytes{number}")


def visible(table: Path) -> list[tuple[str, int, str, int]]:
    """What any Delta reader sees of the table now: teacher, span, split and id of each row."""
    frame = pl.read_delta(str(table))
    return sorted(frame.select("teacher", "span", "split", "example_id").rows())


def labels(tables: Iterable[pa.Table]) -> dict[int, float]:
    rows = pa.concat_tables(tables).to_pydict()
    return dict(zip(rows["example_id"], rows["logit_click"], strict=True))


def test_a_snapshot_reads_what_was_written(tmp_path: Path) -> None:
    with LabelShardWriter(
        tmp_path, Partition("video", 3, "train"), "train-00000", KINDS, NOON
    ) as writer:
        writer.write(
            np.array([11, -5], np.int64),
            {"click": np.array([0.5, -2.0], np.float32), "watch": np.array([3, 0], np.float32)},
            np.array([0.25, 0], np.float32),
        )
        writer.write(
            np.array([2**63 - 1], np.int64),
            {"click": np.array([4.0], np.float32), "watch": np.array([1], np.float32)},
            np.array([0], np.float32),
        )
    assert (writer.shard.rows, writer.shard.example_id_range) == (3, (-5, 2**63 - 1))
    snapshot = commit(tmp_path, [writer.shard], PROVENANCE)
    assert pa.concat_tables(read(snapshot, "train")).to_pydict() == {
        "example_id": [11, -5, 2**63 - 1],
        "logit_click": [0.5, -2.0, 4.0],
        "value_watch": [3.0, 0.0, 1.0],
        "missing_feature_fraction": [0.25, 0.0, 0.0],
        "scored_at": [NOON] * 3,
    }
    only = pa.concat_tables(read(snapshot, "train", ["value_watch"]))
    assert only.to_pydict() == {"value_watch": [3.0, 0.0, 1.0]}


def test_snapshot_shard_and_provenance_travel(tmp_path: Path) -> None:
    shard = write(tmp_path, [1, 2])
    assert pickle.loads(pickle.dumps(shard)) == shard  # noqa: S301
    snapshot = commit(tmp_path, [shard], PROVENANCE)
    assert Snapshot.from_json(json.dumps(json.loads(snapshot.to_json()))) == snapshot
    assert provenance_of(snapshot) == PROVENANCE
    DeltaTable(str(tmp_path)).alter.set_table_properties(
        {"delta.checkpointInterval": "10"},
        commit_properties=CommitProperties(custom_metadata={"userMetadata": "by hand"}),
    )
    for version in (0, 2, 3):
        with pytest.raises(LabelError, match="no commit of labels"):
            provenance_of(replace(snapshot, version=version))


def test_a_path_with_a_space(tmp_path: Path) -> None:
    table = tmp_path / "my läbels"
    commit(table, [write(table, [1]), write(table, [2], name="train-00001")], PROVENANCE)
    snapshot = commit(table, [write(table, [1], shift=0.5)], key(8))
    assert labels(read(snapshot, "train")) == {1: 1.5}
    assert find(table, key(8).key) == snapshot
    assert DeltaTable(str(table)).count() == 1


def test_other_tools_read_the_table(tmp_path: Path) -> None:
    table = tmp_path
    snapshot = commit(
        table,
        [write(table, [1, 2]), write(table, [3], split="eval", name="eval-00000")],
        PROVENANCE,
    )
    commit(table, [write(table, [1, 2], span=4, shift=0.5)], key(8))

    frame = pl.read_delta(str(table)).sort("span", "example_id")
    assert frame["logit_click"].to_list() == [1.0, 2.0, 3.0, 1.5, 2.5]
    assert frame["span"].to_list() == [3, 3, 3, 4, 4]
    one = pl.scan_delta(str(table)).filter(pl.col("span") == 4, pl.col("example_id") > 1)
    assert one.collect()["value_watch"].to_list() == [2.5]
    assert DeltaTable(str(table)).count() == 5

    hive = ds.dataset(
        DeltaTable(str(table)).file_uris(), partitioning="hive", partition_base_dir=str(table)
    )
    evals = hive.to_table(filter=(ds.field("split") == "eval") & (ds.field("span") == 3))
    assert evals["example_id"].to_pylist() == [3]
    assert labels(read(snapshot, "eval")) == {3: 3.0}


def test_a_crash_before_the_commit_leaves_no_visible_row(tmp_path: Path) -> None:
    commit(tmp_path, [write(tmp_path, [1])], PROVENANCE)
    write(tmp_path, [2, 3], name="train-00001")
    before = set(tmp_path.rglob("*.parquet"))
    two = np.zeros(2, np.float32)

    def stopped() -> None:
        with LabelShardWriter(
            tmp_path, Partition("video", 3, "train"), "train-00002", KINDS, NOON
        ) as writer:
            writer.write(np.array([4, 5], np.int64), {"click": two, "watch": two}, two)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stopped()
    assert visible(tmp_path) == [("video", 3, "train", 1)]
    assert set(tmp_path.rglob("*.parquet")) == before
    assert not list(tmp_path.rglob("*.partial"))


def test_a_retried_shard_replaces_itself(tmp_path: Path) -> None:
    first = write(tmp_path, [1, 2])
    assert write(tmp_path, [1, 2]) == first
    assert len(list(tmp_path.rglob("train-00000-*.parquet"))) == 1
    # A retry that computes something else may come late: it never touches what was committed.
    snapshot = commit(tmp_path, [first], PROVENANCE)
    other = write(tmp_path, [1, 2], shift=0.5)
    write(tmp_path, [1, 2])
    assert other.path != first.path
    assert labels(read(snapshot, "train")) == {1: 1.0, 2: 2.0}
    assert visible(tmp_path) == [("video", 3, "train", 1), ("video", 3, "train", 2)]


def test_relabelling_replaces_the_rows_and_keeps_old_snapshots(tmp_path: Path) -> None:
    old = commit(
        tmp_path,
        [
            write(tmp_path, [1, 2]),
            write(tmp_path, [3], name="train-00001"),
            write(tmp_path, [9], split="eval"),
        ],
        PROVENANCE,
    )
    other = commit(tmp_path, [write(tmp_path, [1], teacher="music")], key(1))
    new = commit(tmp_path, [write(tmp_path, [1, 4], shift=0.5)], key(8))
    assert visible(tmp_path) == [
        ("music", 3, "train", 1),
        ("video", 3, "eval", 9),
        ("video", 3, "train", 1),
        ("video", 3, "train", 4),
    ]
    DeltaTable(str(tmp_path)).create_checkpoint()
    DeltaTable(str(tmp_path)).vacuum(dry_run=False)
    with pytest.raises(DeltaError, match="minimum retention"):
        DeltaTable(str(tmp_path)).vacuum(retention_hours=24 * 365, dry_run=False)
    assert labels(read(old, "train")) == {1: 1.0, 2: 2.0, 3: 3.0}
    assert labels(read(other, "train")) == {1: 1.0}
    assert labels(read(new, "train")) == {1: 1.5, 4: 4.5}
    assert labels(read(new, "eval")) == {9: 9.0}


def test_a_file_is_never_added_and_removed_in_one_commit(tmp_path: Path) -> None:
    shards = [write(tmp_path, [1]), write(tmp_path, [2], name="train-00001")]
    commit(tmp_path, shards, PROVENANCE)
    again = commit(tmp_path, shards, key(8))
    log = tmp_path / "_delta_log" / f"{again.version:020d}.json"
    actions = [json.loads(line) for line in log.read_text().splitlines()]
    assert not [action for action in actions if {"add", "remove"} & action.keys()]
    assert labels(read(again, "train")) == {1: 1.0, 2: 2.0}


def test_an_equal_content_key_is_committed_once(tmp_path: Path) -> None:
    table = tmp_path / "table"
    assert find(table, PROVENANCE.key) is None
    first = commit(table, [write(table, [1])], PROVENANCE)
    assert find(table, PROVENANCE.key) == first
    assert find(table, key(8).key) is None
    # The config hash is no part of the key: labels of a teacher's bytes are what they are.
    again = commit(table, [write(table, [1], shift=1)], replace(PROVENANCE, config_hash="other"))
    assert again == first
    assert DeltaTable(str(table)).version() == first.version
    DeltaTable(str(table)).create_checkpoint()
    assert find(table, PROVENANCE.key) == first


def test_an_equal_key_does_not_hide_another_split_or_span(tmp_path: Path) -> None:
    commit(tmp_path, [write(tmp_path, [1])], PROVENANCE)
    both = commit(tmp_path, [write(tmp_path, [2], split="eval")], PROVENANCE)
    assert labels(read(both, "eval")) == {2: 2.0}
    later = commit(tmp_path, [write(tmp_path, [1], span=4)], PROVENANCE)
    assert labels(read(later, "train")) == {1: 1.0}
    assert find(tmp_path, PROVENANCE.key) == later


def test_labels_whose_files_are_gone_are_not_reused(tmp_path: Path) -> None:
    shard = write(tmp_path, [1])
    snapshot = commit(tmp_path, [shard], PROVENANCE)
    (tmp_path / shard.path).unlink()
    assert find(tmp_path, PROVENANCE.key) is None
    with pytest.raises(LabelError, match=shard.path):
        list(read(snapshot, "train"))
    repaired = commit(tmp_path, [write(tmp_path, [1], shift=0.5)], PROVENANCE)
    assert labels(read(repaired, "train")) == {1: 1.5}
    assert visible(tmp_path) == [("video", 3, "train", 1)]


def test_teachers_of_other_tasks_share_the_table(tmp_path: Path) -> None:
    commit(tmp_path, [write(tmp_path, [1])], PROVENANCE)
    wide = {**KINDS, "ltv": "regression"}
    commit(tmp_path, [write(tmp_path, [2], kinds=wide, span=4)], key(8))
    commit(tmp_path, [write(tmp_path, [3], kinds={"ltv": "regression"}, span=5)], key(9))
    frame = pl.read_delta(str(tmp_path)).sort("example_id")
    assert frame["value_ltv"].to_list() == [None, 2.0, 3.0]
    assert frame["logit_click"].to_list() == [1.0, 2.0, None]


def test_a_folder_with_another_table_is_refused(tmp_path: Path) -> None:
    pl.DataFrame({"a": [1]}).write_delta(str(tmp_path))
    with pytest.raises(LabelError, match=r"partition columns \[\].*labels\.table"):
        commit(tmp_path, [write(tmp_path, [1])], PROVENANCE)


def write_both(
    writer: LabelShardWriter, first: dict[str, np.ndarray], second: dict[str, np.ndarray]
) -> None:
    complete = np.zeros(3, np.float32)
    writer.write(np.array([1, 2, 3], np.int64), first, complete)
    writer.write(np.array([4, 5, 6], np.int64), second, complete)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("task", KINDS)
def test_labels_that_are_not_finite_are_refused(tmp_path: Path, task: str, value: float) -> None:
    good = np.zeros(3, np.float32)
    bad = np.array([0, value, value], np.float32)
    batch = {"click": good, "watch": good}
    writer = LabelShardWriter(tmp_path, Partition("video", 3, "train"), "train-00007", KINDS, NOON)
    with pytest.raises(LabelError) as caught, writer:
        write_both(writer, batch, {**batch, task: bad})
    message = str(caught.value)
    expected = [
        "teacher video",
        f"task {task}",
        "train-00007",
        "row 4 (example_id 5)",
        "2 of the 3",
    ]
    assert [part for part in expected if part not in message] == []
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"labels": {"click": np.zeros(2, np.float32)}}, "expected"),
        ({"example_id": np.zeros(3, np.int64)}, "shape"),
        ({"example_id": np.zeros(2, np.int32)}, "int32"),
        ({"missing_feature_fraction": np.full(2, 1.5, np.float32)}, "0 to 1"),
    ],
)
def test_batches_of_another_shape_are_refused(
    tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    two = np.zeros(2, np.float32)
    batch: dict[str, Any] = {
        "example_id": np.array([1, 2], np.int64),
        "labels": {"click": two, "watch": two},
        "missing_feature_fraction": two,
    }
    with (
        LabelShardWriter(
            tmp_path, Partition("video", 3, "train"), "train-0", KINDS, NOON
        ) as writer,
        pytest.raises(ValueError, match=message),
    ):
        writer.write(**(batch | change))


@pytest.mark.parametrize("name", ["../up", "a/b", ".hidden", "per cent%", ""])
def test_names_that_do_not_fit_a_path_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(LabelError, match="Rename"):
        Partition(name, 3, "train")
    with pytest.raises(LabelError, match="Rename"):
        write(tmp_path, [1], name=name)


def test_duplicate_ids_are_refused_with_both_shards(tmp_path: Path) -> None:
    shards = [
        write(tmp_path, [1, 2, 3]),
        write(tmp_path, [4], name="train-00001"),
        write(tmp_path, [5, 2, 3], name="train-00002"),
    ]
    with pytest.raises(LabelError) as caught:
        commit(tmp_path, shards, PROVENANCE)
    message = str(caught.value)
    assert "example_id 2" in message
    assert "train-00000 (row 1) and train-00002 (row 1)" in message
    assert "2 ids" in message
    assert not DeltaTable.is_deltatable(str(tmp_path))
    with pytest.raises(LabelError, match=r"train-00003 \(row 0\) and train-00003 \(row 2\)"):
        commit(tmp_path, [write(tmp_path, [7, 8, 7], name="train-00003")], PROVENANCE)
    # The two splits are apart: the same id may be in both.
    both = [write(tmp_path, [1]), write(tmp_path, [1], split="eval")]
    assert labels(read(commit(tmp_path, both, PROVENANCE), "eval")) == {1: 1.0}


def test_shards_that_are_gone_or_cut_are_refused(tmp_path: Path) -> None:
    shard = write(tmp_path, [1, 2, 3])
    path = tmp_path / shard.path
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(LabelError, match=f"{shard.size - 10} bytes"):
        commit(tmp_path, [shard], PROVENANCE)
    path.unlink()
    with pytest.raises(LabelError, match=shard.path):
        commit(tmp_path, [shard], PROVENANCE)
    with pytest.raises(LabelError, match="no labels"):
        commit(tmp_path, [], PROVENANCE)


def test_a_commit_has_one_teacher_span_and_set_of_tasks(tmp_path: Path) -> None:
    shard = write(tmp_path, [1])
    for other in (
        write(tmp_path, [2], span=4),
        write(tmp_path, [2], teacher="music"),
        write(tmp_path, [2], kinds={"click": "binary"}),
    ):
        with pytest.raises(ValueError, match="in one commit"):
            commit(tmp_path, [shard, other], PROVENANCE)


def test_an_empty_shard_leaves_no_file(tmp_path: Path) -> None:
    empty = write(tmp_path, [], name="train-00001")
    assert (empty.rows, empty.size, empty.example_id_range) == (0, 0, None)
    assert not list(tmp_path.rglob("train-00001*"))
    with pytest.raises(LabelError, match="no labels"):
        commit(tmp_path, [empty], PROVENANCE)
    snapshot = commit(tmp_path, [empty, write(tmp_path, [1])], PROVENANCE)
    assert labels(read(snapshot, "train")) == {1: 1.0}
    assert visible(tmp_path) == [("video", 3, "train", 1)]


def test_a_split_that_became_empty_loses_its_labels(tmp_path: Path) -> None:
    commit(tmp_path, [write(tmp_path, [1]), write(tmp_path, [2], split="eval")], PROVENANCE)
    new = commit(tmp_path, [write(tmp_path, []), write(tmp_path, [3], split="eval")], key(8))
    assert visible(tmp_path) == [("video", 3, "eval", 3)]
    assert find(tmp_path, key(8).key) == new


def test_a_split_without_labels_and_a_lost_version_are_named(tmp_path: Path) -> None:
    snapshot = commit(tmp_path, [write(tmp_path, [1])], PROVENANCE)
    with pytest.raises(LabelError, match="split eval"):
        list(read(snapshot, "eval"))
    with pytest.raises(LabelError, match="version 99"):
        list(read(replace(snapshot, version=99), "train"))
    with pytest.raises(LabelError, match="nowhere"):
        list(read(replace(snapshot, table=str(tmp_path / "nowhere")), "train"))
    with pytest.raises(LabelError, match="value_ltv"):
        list(read(snapshot, "train", ["value_ltv"]))


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_a_device_without_room_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    commit(tmp_path, [write(tmp_path, [1])], PROVENANCE)

    class Fixed:
        hex = "0"

    monkeypatch.setattr(shard_module, "uuid4", Fixed)
    partial = tmp_path / Partition("video", 3, "train").folder / "train-00001-0.partial"
    partial.symlink_to("/dev/full")
    with pytest.raises(EnvironmentProblem, match="full disk"):
        write(tmp_path, [2], name="train-00001")
    assert not partial.is_symlink()
    assert visible(tmp_path) == [("video", 3, "train", 1)]


def test_a_disk_that_is_full_at_the_last_byte_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(source: Path, target: Path) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(EnvironmentProblem, match="full disk after 2 rows"):
        write(tmp_path, [1, 2])
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_a_path_that_cannot_be_written_to_is_named(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("not a folder")
    with pytest.raises(EnvironmentProblem, match=str(blocked)):
        write(blocked, [1])


_FILL_THE_DISK = """
import sys
from datetime import datetime, timezone
from pathlib import Path
import numpy as np
from tfx_distill.labels.commit import commit
from tfx_distill.labels.partition import Partition
from tfx_distill.labels.provenance import Provenance
from tfx_distill.labels.shard import LabelShardWriter
from tfx_distill.labels.snapshot import read

table, rng = Path(sys.argv[1]), np.random.default_rng(0)

def label(batches, name):
    partition = Partition("t", 1, "train")
    with LabelShardWriter(
        table, partition, name, {"a": "binary"}, datetime.now(timezone.utc)
    ) as writer:
        for _ in range(batches):
            writer.write(
                rng.integers(0, 2**62, 10_000),
                {"a": rng.normal(size=10_000).astype(np.float32)},
                np.zeros(10_000, np.float32),
            )
    return writer.shard

snapshot = commit(table, [label(1, "small")], Provenance("v", "a", "b", "c", "d", None))
try:
    label(100, "large")
except Exception as error:
    print(type(error).__name__, error)
print(sum(part.num_rows for part in read(snapshot, "train")), "rows")
print(sorted(path.name.split("-")[0] for path in (table / "teacher=t").rglob("*.p*")))
"""


def test_a_disk_that_fills_while_labelling_harms_nothing(tmp_path: Path) -> None:
    if shutil.which("unshare") is None:
        pytest.skip("needs unshare to mount a small disk")
    mount = f"mount -t tmpfs -o size=2m none {tmp_path}"
    if subprocess.run(["unshare", "-rm", "sh", "-c", mount], capture_output=True).returncode:
        pytest.skip("this machine does not allow to mount a small disk")
    script = f'{mount} && exec "$0" -c "$1" {tmp_path}/labels'
    done = subprocess.run(
        ["unshare", "-rm", "sh", "-c", script, sys.executable, _FILL_THE_DISK],
        capture_output=True,
        text=True,
        timeout=120,
    )
    lines = done.stdout.splitlines()
    assert len(lines) == 3, done.stderr
    assert lines[0].startswith("EnvironmentProblem")
    assert "a full disk after" in lines[0]
    assert "after 0 rows" not in lines[0]
    assert lines[1:] == ["10000 rows", "['small']"]


_start: Any = None


def _use_barrier(barrier: Any) -> None:
    global _start
    _start = barrier


def _commit_often(table: Path, teacher: str, commits: int) -> None:
    shards = [write(table, [span], teacher=teacher, span=span) for span in range(commits)]
    _start.wait(60)
    for span, shard in enumerate(shards):
        mine = replace(PROVENANCE, teacher_fingerprint=f"{teacher} {span}")
        snapshot = commit(table, [shard], mine)
        assert labels(read(snapshot, "train")) == {span: float(span)}
        assert provenance_of(snapshot) == mine


def _commit_tasks(table: Path, task: str) -> None:
    shard = write(table, [1], teacher=task, kinds={task: "binary"})
    _start.wait(60)
    commit(table, [shard], replace(PROVENANCE, teacher_fingerprint=task))


def _commit_same(table: Path, number: int) -> None:
    splits: tuple[Split, ...] = ("train", "eval")
    shards = [
        write(table, [1, 2], shift=number, split=split, name=f"{split}-{number}")
        for split in splits
    ]
    _start.wait(60)
    snapshot = commit(table, shards, key(number))
    assert labels(read(snapshot, "train")) == {1: 1.0 + number, 2: 2.0 + number}


@pytest.fixture(scope="module")
def two_processes() -> Iterator[ProcessPoolExecutor]:
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(
        2, mp_context=context, initializer=_use_barrier, initargs=(context.Barrier(2),)
    ) as pool:
        yield pool


def test_two_processes_commit_at_the_same_time(
    tmp_path: Path, two_processes: ProcessPoolExecutor
) -> None:
    table = tmp_path / "table"
    list(two_processes.map(_commit_often, [table] * 2, ["video", "music"], [12] * 2))
    assert visible(table) == [
        (teacher, span, "train", span) for teacher in ("music", "video") for span in range(12)
    ]
    # Version 0 creates the table; each commit is one version: no half commit, none lost.
    assert DeltaTable(str(table)).version() == 24


def test_two_processes_create_the_table_for_other_tasks(
    tmp_path: Path, two_processes: ProcessPoolExecutor
) -> None:
    for attempt in range(8):
        table = tmp_path / str(attempt)
        list(two_processes.map(_commit_tasks, [table] * 2, ["click", "like"]))
        frame = pl.read_delta(str(table)).sort("teacher")
        assert frame.select("teacher", "logit_click", "logit_like").rows() == [
            ("click", 1.0, None),
            ("like", None, 1.0),
        ]


def test_two_processes_that_label_the_same_do_not_double_its_rows(
    tmp_path: Path, two_processes: ProcessPoolExecutor
) -> None:
    for attempt in range(5):
        table = tmp_path / str(attempt)
        list(two_processes.map(_commit_same, [table] * 2, [10, 20]))
        frame = pl.read_delta(str(table)).sort("split", "example_id")
        assert frame["example_id"].to_list() == [1, 2, 1, 2]
        assert frame["logit_click"].to_list() in ([11.0, 12.0] * 2, [21.0, 22.0] * 2)


def test_row_groups_are_the_batches(tmp_path: Path) -> None:
    shard = write(tmp_path, list(range(10)), batch=4)
    metadata = pq.read_metadata(tmp_path / shard.path)
    assert [metadata.row_group(i).num_rows for i in range(metadata.num_row_groups)] == [4, 4, 2]


def test_the_label_table_needs_no_tensorflow() -> None:
    code = (
        "import sys, tfx_distill.labels.commit, tfx_distill.labels.join\n"
        "print([m for m in ('tensorflow', 'tfx', 'apache_beam', 'pandas') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
