"""Expiry, vacuum and compaction of the label table, and what is left when they die."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest
from deltalake import DeltaTable
from labelled_shards import PROVENANCE, key, labels, visible, write

from tfx_distill.labels.commit import commit, find
from tfx_distill.labels.join import LabelJoiner
from tfx_distill.labels.provenance import Provenance
from tfx_distill.labels.retention import Compacted, Expired, Vacuumed, compact, expire, vacuum
from tfx_distill.labels.snapshot import Snapshot, read, stored_files
from tfx_distill.schema.columns import Split
from tfx_distill.schema.errors import EnvironmentProblem, LabelError

AT_ONCE = timedelta(0)


def source(span: int, number: int = 0) -> Provenance:
    return replace(key(number), examples_fingerprint=f"e{span}")


def label(
    table: Path, span: int, *, teacher: str = "video", shift: float = 0.0, number: int = 0
) -> Snapshot:
    """Two shards and an eval shard; the ids are the span, and the span plus 100 and 200."""
    shards = [
        write(table, [span], teacher=teacher, span=span, shift=shift),
        write(table, [span + 100], teacher=teacher, span=span, shift=shift, name="train-00001"),
        write(table, [span + 200], teacher=teacher, span=span, shift=shift, split="eval"),
    ]
    return commit(table, shards, source(span, number))


def files(table: Path) -> set[str]:
    return {
        path.relative_to(table).as_posix()
        for path in table.rglob("*")
        if path.is_file() and "_delta_log" not in path.parts
    }


def of(snapshot: Snapshot, *splits: Split) -> set[str]:
    """Files of a snapshot, there or not."""
    return {path for split in splits for path in stored_files(snapshot, split)}


def ids(*values: int) -> np.ndarray:
    return np.array(values, np.int64)


def grow_old(table: Path, *paths: str, hours: float = 25) -> None:
    then = time.time() - hours * 3600
    for path in paths or files(table):
        os.utime(table / path, (then, then))


def test_expiry_removes_old_spans_of_all_teachers_in_one_commit(tmp_path: Path) -> None:
    snapshots = [label(tmp_path, span, number=span) for span in range(4)]
    other = label(tmp_path, 0, teacher="music", number=10)
    version = other.version
    size = sum(
        (tmp_path / path).stat().st_size
        for snapshot in (snapshots[0], snapshots[1], other)
        for path in of(snapshot, "train", "eval")
    )
    assert expire(tmp_path, keep_spans=2, newest_span=3) == Expired(6, 9, size)
    assert DeltaTable(str(tmp_path)).version() == version + 1
    assert {row[1] for row in visible(tmp_path)} == {2, 3}
    # Nothing is deleted yet, and the next run finds nothing to remove.
    assert labels(read(snapshots[0], "train")) == {0: 0.0, 100: 100.0}
    assert expire(tmp_path, keep_spans=2, newest_span=3) == Expired(0, 0, 0)
    assert DeltaTable(str(tmp_path)).version() == version + 1
    assert expire(tmp_path / "nowhere", keep_spans=1, newest_span=9) == Expired(0, 0, 0)
    with pytest.raises(ValueError, match="keep_spans"):
        expire(tmp_path, keep_spans=0, newest_span=3)


def test_labels_that_have_expired_are_not_reused(tmp_path: Path) -> None:
    old = label(tmp_path, 0)
    label(tmp_path, 5)
    assert find(tmp_path, source(0).key) == old
    expire(tmp_path, keep_spans=2, newest_span=5)
    assert find(tmp_path, source(0).key) is None
    new = label(tmp_path, 0, shift=0.5)
    assert new.version > old.version
    assert find(tmp_path, source(0).key) == new


def test_vacuum_deletes_what_has_expired_and_says_so_to_its_readers(tmp_path: Path) -> None:
    old, kept = label(tmp_path, 0), label(tmp_path, 3)
    expire(tmp_path, keep_spans=3, newest_span=3)
    expected = Vacuumed(
        tuple(sorted(of(old, "train", "eval"))),
        sum((tmp_path / path).stat().st_size for path in of(old, "train", "eval")),
    )
    before = files(tmp_path)
    assert vacuum(tmp_path, dry_run=True) == expected
    assert files(tmp_path) == before
    joiner = LabelJoiner(kept, "train", {"click": "binary"})
    assert vacuum(tmp_path) == expected
    assert files(tmp_path) == of(kept, "train", "eval")
    assert joiner.join("train-00000", ids(3, 103))[1].all()
    for reader in (
        lambda: list(read(old, "train")),
        lambda: old.files("eval"),
        lambda: LabelJoiner([old, kept], "train", {"click": "binary"}),
    ):
        with pytest.raises(LabelError) as caught:
            reader()
        message = str(caught.value)
        parts = ["span 0", "expired", "up to 0", "labels.keep_spans", "distill backfill"]
        assert [part for part in parts if part not in message] == []
    assert vacuum(tmp_path) == Vacuumed((), 0)
    assert vacuum(tmp_path / "nowhere") == Vacuumed((), 0)


def test_labels_that_expire_while_they_are_read_say_so(tmp_path: Path) -> None:
    old = label(tmp_path, 0)
    label(tmp_path, 3)
    joiner = LabelJoiner([old], "train", {"click": "binary"})
    joiner.join("train-00000", ids(0))
    tables = read(old, "train")
    next(tables)
    expire(tmp_path, keep_spans=3, newest_span=3)
    vacuum(tmp_path)
    with pytest.raises(LabelError, match="labels that have expired"):
        joiner.join("train-00000", np.append(ids(0), 10**9))
    with pytest.raises(LabelError, match="labels that have expired"):
        list(tables)


def test_files_that_are_gone_by_accident_are_not_called_expired(tmp_path: Path) -> None:
    label(tmp_path, 0)
    kept = label(tmp_path, 3)
    expire(tmp_path, keep_spans=3, newest_span=3)
    # A span that had expired, and was labelled again.
    again = label(tmp_path, 0, shift=0.5, number=1)
    for snapshot in (kept, again):
        for path in snapshot.files("train"):
            os.unlink(path)
        with pytest.raises(LabelError, match="Restore the file"):
            list(read(snapshot, "train"))


def test_vacuum_leaves_every_file_that_a_kept_snapshot_names(tmp_path: Path) -> None:
    first = label(tmp_path, 3)
    compact(tmp_path)
    second = label(tmp_path, 3, shift=0.5, number=1)
    grow_old(tmp_path)
    expire(tmp_path, keep_spans=3, newest_span=4)
    before = files(tmp_path)
    assert vacuum(tmp_path, older_than=AT_ONCE) == Vacuumed((), 0)
    assert files(tmp_path) == before
    assert labels(read(first, "train")) == {3: 3.0, 103: 103.0}
    assert labels(read(second, "train")) == {3: 3.5, 103: 103.5}
    merged = replace(first, version=first.version + 1)
    assert labels(read(merged, "train")) == {3: 3.0, 103: 103.0}


def test_vacuum_deletes_orphans_but_not_those_of_a_labelling_that_runs(tmp_path: Path) -> None:
    kept = label(tmp_path, 3)
    grow_old(tmp_path)
    running = [write(tmp_path, [1], span=4), write(tmp_path, [2], span=4, name="train-00001")]
    crashed = write(tmp_path, [3], span=3, name="train-00009")
    partial = tmp_path / Path(crashed.path).parent / "train-00008-0123.partial"
    partial.write_bytes(b"half")
    foreign = tmp_path / Path(crashed.path).parent / "notes.txt"
    foreign.write_text("not ours")
    lost = partial.relative_to(tmp_path).as_posix()
    grow_old(tmp_path, crashed.path, lost, foreign.relative_to(tmp_path).as_posix())
    assert vacuum(tmp_path, older_than=timedelta(hours=26)) == Vacuumed((), 0)
    assert vacuum(tmp_path).files == tuple(sorted([crashed.path, lost]))
    assert foreign.exists()
    new = commit(tmp_path, running, source(4))
    assert labels(read(new, "train")) == {1: 1.0, 2: 2.0}
    assert labels(read(kept, "train")) == {3: 3.0, 103: 103.0}


def test_an_expired_span_that_is_labelled_again_stays(tmp_path: Path) -> None:
    old, gone = label(tmp_path, 0), label(tmp_path, 1)
    label(tmp_path, 9)
    expire(tmp_path, keep_spans=2, newest_span=9)
    again = label(tmp_path, 0, shift=0.5, number=7)
    # It is being labelled, too, and its files have the names of those that expired.
    time.sleep(0.01)
    running = [write(tmp_path, [1], span=1), write(tmp_path, [101], span=1, name="train-00001")]
    assert vacuum(tmp_path).files == tuple(of(gone, "eval"))
    assert labels(read(again, "train")) == {0: 0.5, 100: 100.5}
    # Conservatively, the span's older files stay with it.
    assert labels(read(old, "train")) == {0: 0.0, 100: 100.0}
    assert labels(read(commit(tmp_path, running, source(1, 8)), "train")) == {1: 1.0, 101: 101.0}


def test_labels_that_another_tool_deleted_have_not_expired(tmp_path: Path) -> None:
    label(tmp_path, 0)
    deleted = label(tmp_path, 5)
    label(tmp_path, 6)
    expire(tmp_path, keep_spans=3, newest_span=6)
    DeltaTable(str(tmp_path)).delete("span = 5")
    grow_old(tmp_path)
    assert {path.split("/")[1] for path in vacuum(tmp_path).files} == {"span=0"}
    assert labels(read(deleted, "train")) == {5: 5.0, 105: 105.0}


def test_vacuum_removes_folders_that_were_empty_for_long(tmp_path: Path) -> None:
    label(tmp_path, 0)
    label(tmp_path, 3)
    expire(tmp_path, keep_spans=1, newest_span=3)
    vacuum(tmp_path)
    folder = tmp_path / "teacher=video" / "span=0"
    assert folder.exists()
    then = time.time() - 2 * 86_400
    for path in [*tmp_path.rglob("*=*")]:
        os.utime(path, (then, then))
    vacuum(tmp_path)
    assert not folder.exists()
    assert (tmp_path / "teacher=video" / "span=3" / "split=eval").exists()


def test_vacuum_without_the_whole_log_refuses(tmp_path: Path) -> None:
    for span in range(3):
        label(tmp_path, span)
    DeltaTable(str(tmp_path)).create_checkpoint()
    (tmp_path / "_delta_log" / f"{1:020d}.json").unlink()
    grow_old(tmp_path)
    before = files(tmp_path)
    with pytest.raises(LabelError, match="no file of version 1"):
        vacuum(tmp_path)
    assert files(tmp_path) == before


def test_a_vacuum_that_dies_is_finished_by_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    label(tmp_path, 0)
    kept = label(tmp_path, 3)
    expire(tmp_path, keep_spans=1, newest_span=3)
    unlink, deleted = Path.unlink, []

    def once(path: Path, missing_ok: bool = False) -> None:
        if deleted:
            raise PermissionError(13, "Permission denied", str(path))
        deleted.append(path)
        unlink(path, missing_ok)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", once)
        with pytest.raises(EnvironmentProblem, match="deleted"):
            vacuum(tmp_path)
    assert len(files(tmp_path)) == 5
    assert labels(read(kept, "train")) == {3: 3.0, 103: 103.0}
    assert {row[1] for row in visible(tmp_path)} == {3}
    assert len(vacuum(tmp_path).files) == 2
    assert files(tmp_path) == of(kept, "train", "eval")


def test_compaction_merges_and_joins_stay_right(tmp_path: Path) -> None:
    shards = [
        write(tmp_path, [10 * n + 3, 10 * n, 10 * n + 7], name=f"train-{n:05d}") for n in range(5)
    ]
    old = commit(tmp_path, [*shards, write(tmp_path, [99], split="eval")], PROVENANCE)
    assert compact(tmp_path) == Compacted(replaced=5, written=1)
    new = replace(old, version=DeltaTable(str(tmp_path)).version())
    assert (len(old.files("train")), len(new.files("train"))) == (5, 1)
    order = [10 * n + rest for n in range(5) for rest in (3, 0, 7)]
    assert list(labels(read(new, "train"))) == order
    wanted = [43, 0, 5, 27, 10]
    for snapshot in (old, new):
        joiner = LabelJoiner(snapshot, "train", {"click": "binary", "watch": "regression"})
        found, present = joiner.join("train-00002", ids(*wanted))
        assert found["click"].tolist() == [43.0, 0.0, 0.0, 27.0, 10.0]
        assert present.tolist() == [True, True, False, True, True]
        assert joiner.coverage().labels == 15
    assert compact(tmp_path) == Compacted(0, 0)
    assert compact(tmp_path / "nowhere") == Compacted(0, 0)
    # What was merged is replaced like any other file.
    again = commit(tmp_path, [write(tmp_path, [1], shift=0.5)], key(8))
    assert visible(tmp_path) == [("video", 3, "eval", 99), ("video", 3, "train", 1)]
    assert labels(read(again, "train")) == {1: 1.5}
    assert len(list((tmp_path / "_delta_log").glob("*.checkpoint.parquet"))) > 0


def test_a_task_that_a_merged_file_lacks_is_named(tmp_path: Path) -> None:
    old = commit(
        tmp_path, [write(tmp_path, [1]), write(tmp_path, [2], name="train-00001")], PROVENANCE
    )
    commit(tmp_path, [write(tmp_path, [3], kinds={"ltv": "regression"}, span=4)], key(1))
    compact(tmp_path)
    new = replace(old, version=DeltaTable(str(tmp_path)).version())
    for snapshot in (old, new):
        joiner = LabelJoiner(snapshot, "train", {"ltv": "regression"})
        with pytest.raises(LabelError, match=r"value_ltv.*teacher.*(these tasks|that task)"):
            joiner.join("train-00000", ids(1))


_MAINTAIN = """
import sys, time
from tfx_distill.labels.retention import compact, expire, vacuum
table = sys.argv[1]
print("ready", flush=True)
sys.stdin.readline()
compact(table)
expire(table, keep_spans=20, newest_span=40)
vacuum(table)
"""


def test_maintenance_that_is_killed_anywhere_leaves_a_readable_table(tmp_path: Path) -> None:
    kept, expected = [], set()
    for span in range(15, 28):
        snapshot = label(tmp_path, span, number=span)
        if span > 20:
            kept.append(snapshot)
            expected |= {(span, span), (span, span + 100), (span, span + 200)}
    states = set()
    for delay in (0, 0.004, 0.01, 0.02, 0.03, 0.05, 0.08, None):
        with subprocess.Popen(
            [sys.executable, "-c", _MAINTAIN, str(tmp_path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        ) as process:
            assert process.stdout is not None
            assert process.stdin is not None
            assert process.stdout.readline() == "ready\n"
            process.stdin.write("go\n")
            process.stdin.flush()
            if delay is None:
                process.wait(120)
            else:
                time.sleep(delay)
                process.kill()
        rows = {(span, example_id) for _, span, _, example_id in visible(tmp_path)}
        assert len(visible(tmp_path)) == len(rows)
        assert expected <= rows
        for snapshot in kept:
            assert set(labels(read(snapshot, "train"))) == {snapshot.span, snapshot.span + 100}
        states.add((DeltaTable(str(tmp_path)).version(), len(files(tmp_path))))
    # The last one was left alone for as long as it takes, the first one was not.
    assert len(states) > 1
    assert {row[1] for row in visible(tmp_path)} == set(range(21, 28))
    # A killed compaction leaves merged files that no version names.
    vacuum(tmp_path, older_than=AT_ONCE)
    assert {path.split("/")[1] for path in files(tmp_path)} == {f"span={n}" for n in range(21, 28)}
    for snapshot in kept:
        assert len(labels(read(snapshot, "train"))) == 2
