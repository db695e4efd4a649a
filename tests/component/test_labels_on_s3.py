"""The label table in a bucket of a real object store."""

from __future__ import annotations

import contextlib
import multiprocessing
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
import polars as pl
import pyarrow as pa
import pytest
from deltalake import DeltaTable
from object_store import BUCKET, ObjectStore, running
from pyarrow import fs

from tfx_distill.labels import catalogue
from tfx_distill.labels.commit import commit, find
from tfx_distill.labels.conditional_write import second_write_is_refused
from tfx_distill.labels.history import provenance_of
from tfx_distill.labels.join import LabelJoiner
from tfx_distill.labels.partition import Partition
from tfx_distill.labels.provenance import Provenance
from tfx_distill.labels.retention import compact, expire, vacuum
from tfx_distill.labels.shard import LabelShard, LabelShardWriter
from tfx_distill.labels.snapshot import read, stored_files
from tfx_distill.schema.errors import EnvironmentProblem, LabelError

PROVENANCE = Provenance("t7", "bytes7", "examples3", "graph1", "config1", watermark=1_714_000_000)
NOON = pa.scalar(1_714_564_800, pa.timestamp("s", tz="UTC")).as_py()
KINDS = {"click": "binary"}


def write(
    table: str | Path,
    ids: list[int],
    name: str = "train-0",
    span: int = 3,
    shift: float = 0,
    teacher: str = "video",
) -> LabelShard:
    """A shard in which the label of an id is the id plus `shift`."""
    with LabelShardWriter(table, Partition(teacher, span, "train"), name, KINDS, NOON) as writer:
        numbers = np.array(ids, np.int64)
        labels = {"click": (numbers + shift).astype(np.float32)}
        writer.write(numbers, labels, np.zeros(len(ids), np.float32))
    return writer.shard


def key(text: str) -> Provenance:
    return replace(PROVENANCE, teacher_fingerprint=text)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ObjectStore]:
    with running(tmp_path_factory.mktemp("store")) as started:
        yield started


@pytest.fixture(autouse=True)
def owner(store: ObjectStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment of one who may do everything."""
    for name, value in store.environment().items():
        monkeypatch.setenv(name, value)


@pytest.fixture
def table() -> str:
    return f"s3://{BUCKET}/team/{uuid4().hex}"


def objects(store: ObjectStore, table: str) -> list[str]:
    """Keys below the table, relative to it."""
    prefix = table.removeprefix("s3://")
    where = fs.FileSelector(prefix, recursive=True, allow_not_found=True)
    found = store.files().get_file_info(where)
    return sorted(one.path.removeprefix(f"{prefix}/") for one in found if one.is_file)


def test_a_bucket_holds_what_a_folder_holds(store: ObjectStore, table: str, tmp_path: Path) -> None:
    kept = {}
    for where in (table, str(tmp_path)):
        shards = [write(where, [1, 2, 3]), write(where, [4, 5], "train-1")]
        if where == table:
            # Nothing is visible before the commit, but the files are there.
            assert not DeltaTable.is_deltatable(table)
            assert objects(store, table) == sorted(shard.path for shard in shards)
        assert find(where, PROVENANCE.key) is None
        snapshot = commit(where, shards, PROVENANCE, quality={"coverage": 1.0})
        assert commit(where, shards, PROVENANCE) == find(where, PROVENANCE.key) == snapshot
        assert provenance_of(snapshot) == PROVENANCE
        rows = pa.concat_tables(read(snapshot, "train")).to_pydict()
        joiner = LabelJoiner(snapshot, "train", KINDS)
        own, _ = joiner.join("train-1", np.array([4, 5], np.int64))
        mixed, there = joiner.join("other", np.array([9, 5, 1], np.int64))
        (labelling,) = catalogue.labellings(where)
        kept[where] = (
            shards,
            rows,
            own["click"].tolist(),
            mixed["click"].tolist(),
            there.tolist(),
            joiner.coverage(),
            replace(labelling, committed_at=NOON),
            [name.removeprefix(f"{where}/") for name in snapshot.files("train")],
        )
    assert kept[table] == kept[str(tmp_path)]
    assert kept[table][2:5] == ([4.0, 5.0], [0.0, 5.0, 1.0], [False, True, True])


def test_other_tools_read_it(table: str) -> None:
    commit(table, [write(table, [1, 2])], PROVENANCE)
    commit(table, [write(table, [1], span=4, shift=0.5)], key("later"))
    assert DeltaTable(table).count() == 3
    # It takes the same variables of the environment.
    frame = pl.scan_delta(table, version=1).collect()
    assert frame.sort("example_id")["logit_click"].to_list() == [1.0, 2.0]


def test_labels_are_replaced_expire_and_are_vacuumed(store: ObjectStore, table: str) -> None:
    replaced = commit(table, [write(table, [1])], key("a"))
    newer = commit(table, [write(table, [1], shift=0.5)], key("b"))
    kept = commit(table, [write(table, [2], span=4)], key("c"))
    labels = [
        pa.concat_tables(read(one, "train"))["logit_click"][0].as_py()
        for one in (replaced, newer, kept)
    ]
    assert labels == [1.0, 1.5, 2.0]
    lost = write(table, [7], "train-9", span=4).path
    assert expire(table, keep_spans=1, newest_span=4).files == 1
    # What is older than the expiry, in whole seconds, as stores keep the time.
    time.sleep(1.1)
    gone = vacuum(table)
    assert gone.files == tuple(
        sorted(stored_files(replaced, "train") + stored_files(newer, "train"))
    )
    assert lost in objects(store, table)
    assert vacuum(table, older_than=timedelta(seconds=-5)).files == (lost,)
    assert find(table, key("b").key) is None
    with pytest.raises(LabelError, match="expired"):
        list(read(newer, "train"))
    assert pa.concat_tables(read(kept, "train")).num_rows == 1


def test_small_files_are_merged(table: str) -> None:
    shards = [write(table, [number], f"train-{number}") for number in range(4)]
    snapshot = commit(table, shards, PROVENANCE)
    done = compact(table)
    assert (done.replaced, done.written) == (4, 1)
    assert DeltaTable(table).count() == 4
    assert pa.concat_tables(read(snapshot, "train")).num_rows == 4


# ---- several writers -----------------------------------------------------------------------------


_start: Any = None


def _use_barrier(barrier: Any) -> None:
    global _start
    _start = barrier


def _commit_often(table: str, teacher: str) -> None:
    shards = [write(table, [span], span=span, teacher=teacher) for span in range(8)]
    _start.wait(60)
    for span, shard in enumerate(shards):
        commit(table, [shard], key(f"{teacher} {span}"))


def test_two_processes_commit_at_the_same_time(table: str) -> None:
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(
        2, mp_context=context, initializer=_use_barrier, initargs=(context.Barrier(2),)
    ) as pool:
        assert list(pool.map(_commit_often, [table] * 2, ["video", "music"])) == [None, None]
    found = {(one.teacher, one.span) for one in catalogue.labellings(table)}
    assert found == {(teacher, span) for teacher in ("video", "music") for span in range(8)}
    # Version 0 creates the table; each commit is one version: none is lost.
    assert DeltaTable(table).version() == 16


def test_a_writer_that_dies_leaves_nothing_to_see(store: ObjectStore, table: str) -> None:
    snapshot = commit(table, [write(table, [1])], PROVENANCE)
    before = objects(store, table)
    program = f"""
        import os, signal
        import numpy as np
        from datetime import datetime, timezone
        from tfx_distill.labels.partition import Partition
        from tfx_distill.labels.shard import LabelShardWriter

        partition = Partition("video", 4, "train")
        now = datetime.now(timezone.utc)
        with LabelShardWriter({table!r}, partition, "train-0", {KINDS!r}, now) as writer:
            zero = np.zeros(10_000, np.float32)
            writer.write(np.arange(10_000), {{"click": zero}}, zero)
            os.kill(os.getpid(), signal.SIGKILL)
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(program)], timeout=120)
    assert done.returncode == -signal.SIGKILL
    assert objects(store, table) == before
    assert DeltaTable(table).version() == snapshot.version


# ---- failures ------------------------------------------------------------------------------------


@contextlib.contextmanager
def without_conditions(store: ObjectStore) -> Iterator[str]:
    """Endpoint of a proxy that drops them."""
    program = Path(__file__).with_name("unconditional_proxy.py")
    command = [sys.executable, str(program), store.endpoint]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as proxy:
        assert proxy.stdout is not None
        try:
            yield proxy.stdout.readline().strip()
        finally:
            proxy.kill()


def test_a_store_without_conditional_writes_is_refused(
    table: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with running(tmp_path / "store", signed=False) as store, without_conditions(store) as endpoint:
        monkeypatch.setenv("AWS_ENDPOINT_URL", store.endpoint)
        shard = write(table, [1])
        monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
        with pytest.raises(EnvironmentProblem, match=r"second writer overwrite.*If-None-Match"):
            commit(table, [shard], PROVENANCE)
        # Neither a table nor the trial is left.
        assert objects(store, table) == [shard.path]


def test_the_trial_write_is_signed_as_the_store_wants_it(store: ObjectStore) -> None:
    key = f"{BUCKET}/trial {uuid4().hex}"
    assert second_write_is_refused(store.endpoint, "us-east-1", key, 20) is True


def test_a_setting_that_gives_up_atomic_commits_is_refused(
    table: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_S3_ALLOW_UNSAFE_RENAME", "true")
    with pytest.raises(EnvironmentProblem, match="Unset it"):
        find(table, PROVENANCE.key)


def uses(table: str, tmp_path: Path) -> dict[str, Callable[[], Any]]:
    shard = write(tmp_path, [1])
    return {
        "find": lambda: find(table, PROVENANCE.key),
        "write": lambda: write(table, [1]),
        "commit": lambda: commit(table, [shard], PROVENANCE),
        "catalogue": lambda: catalogue.labellings(table),
        "vacuum": lambda: vacuum(table),
    }


def test_a_store_that_does_not_answer_is_named_soon(
    table: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    started = time.monotonic()
    for use in uses(table, tmp_path).values():
        with pytest.raises(EnvironmentProblem, match=r"no answer \(http://127.0.0.1:9\)"):
            use()
    assert time.monotonic() - started < 60


def test_a_bucket_that_is_missing_is_named(tmp_path: Path) -> None:
    table = "s3://nowhere/labels"
    for name, use in uses(table, tmp_path).items():
        # Before anything else it looks for the files that it is to commit.
        if name == "commit":
            continue
        with pytest.raises(EnvironmentProblem, match="no such bucket"):
            use()


@pytest.mark.parametrize("account", ["reader", "stranger"])
def test_those_who_may_not_are_told(
    store: ObjectStore,
    table: str,
    account: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    snapshot = commit(table, [write(table, [1])], PROVENANCE)
    shard = write(table, [2], span=5)
    for name, value in store.environment(account).items():
        monkeypatch.setenv(name, value)
    with pytest.raises(EnvironmentProblem, match="access denied"):
        write(table, [3], span=5)
    with pytest.raises(EnvironmentProblem, match="access denied"):
        commit(table, [shard], key("new"))
    if account == "reader":
        assert pa.concat_tables(read(snapshot, "train")).num_rows == 1
    else:
        with pytest.raises(EnvironmentProblem, match="access denied"):
            list(read(snapshot, "train"))


def test_a_file_that_is_gone_is_named(store: ObjectStore, table: str) -> None:
    snapshot = commit(table, [write(table, [1])], PROVENANCE)
    (name,) = snapshot.files("train")
    store.files().delete_file(name.removeprefix("s3://"))
    with pytest.raises(LabelError, match=name):
        list(read(snapshot, "train"))
    assert find(table, PROVENANCE.key) is None
