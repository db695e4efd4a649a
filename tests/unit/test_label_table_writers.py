"""Two processes that write to one label table at the same time."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from deltalake import DeltaTable
from labelled_shards import PROVENANCE, key, labels, visible, write

from tfx_distill.labels.commit import commit
from tfx_distill.labels.history import provenance_of
from tfx_distill.labels.log import read_commit
from tfx_distill.labels.retention import compact, expire, vacuum
from tfx_distill.labels.snapshot import Snapshot, read
from tfx_distill.labels.storage import storage_of
from tfx_distill.schema.columns import Split

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


def _commit_retry(table: Path, _: int) -> Snapshot:
    # A retry repeats the bytes of its original, and so the names of its files.
    shards = [write(table, [1, 2]), write(table, [3], split="eval")]
    _start.wait(60)
    return commit(table, shards, PROVENANCE)


def _label_many(table: Path, spans: range) -> None:
    """Labels spans twice, the second time with other labels."""
    written = []
    for span in spans:
        for number in range(2):
            shards = [
                write(table, [n], span=span, shift=number / 2, name=f"train-{n}") for n in range(3)
            ]
            written.append((shards, replace(key(number), examples_fingerprint=f"e{span}")))
    _start.wait(60)
    for shards, source in written:
        snapshot = commit(table, shards, source)
        shift = 0.5 if source.teacher_fingerprint == "bytes1" else 0.0
        assert labels(read(snapshot, "train")) == {n: n + shift for n in range(3)}


def _maintain(table: Path, spans: range) -> None:
    """Expires, compacts and vacuums over and over."""
    _start.wait(60)
    for newest_span in spans:
        compact(table)
        expire(table, keep_spans=5, newest_span=newest_span)
        vacuum(table)


def _run(task: Callable[[Path, range], None], table: Path, spans: range) -> None:
    task(table, spans)


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


def test_a_retry_beside_its_original_labels_once(
    tmp_path: Path, two_processes: ProcessPoolExecutor
) -> None:
    for attempt in range(5):
        table = tmp_path / str(attempt)
        first, second = two_processes.map(_commit_retry, [table] * 2, range(2))
        assert first == second
        assert visible(table) == [
            ("video", 3, "eval", 3),
            ("video", 3, "train", 1),
            ("video", 3, "train", 2),
        ]
        assert DeltaTable(str(table)).version() == 1


def test_maintenance_beside_a_labeler_loses_and_doubles_nothing(
    tmp_path: Path, two_processes: ProcessPoolExecutor
) -> None:
    table = tmp_path / "table"
    for span in range(6):
        commit(
            table, [write(table, [9], span=span)], replace(key(9), examples_fingerprint=f"e{span}")
        )
    done = two_processes.map(
        _run, [_label_many, _maintain], [table] * 2, [range(6, 26), range(1, 11)]
    )
    assert list(done) == [None, None]
    # Spans up to 5 expire at the end; labels of the others are the second ones, each once.
    frame = pl.read_delta(str(table)).sort("span", "example_id")
    assert frame.select("span", "example_id", "logit_click").rows() == [
        (span, n, n + 0.5) for span in range(6, 26) for n in range(3)
    ]
    operations = [entry["operation"] for entry in DeltaTable(str(table)).history()]
    assert operations.count("OPTIMIZE") > 1
    # Every snapshot of a kept span can still be read, the replaced ones, too.
    for version in range(DeltaTable(str(table)).version() + 1):
        entry = read_commit(storage_of(table), version)
        if entry is not None and entry.labels and entry.metadata["span"] > 5:
            snapshot = Snapshot(str(table), version, "video", entry.metadata["span"])
            assert len(labels(read(snapshot, "train"))) == 3
