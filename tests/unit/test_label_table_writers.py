"""Two processes that write to one label table at the same time."""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator
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
from tfx_distill.labels.snapshot import read
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
