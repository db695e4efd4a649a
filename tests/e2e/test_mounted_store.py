"""Whole runs on an object store, by its mount and its S3, and the same on a local disk."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import yaml
from object_store import BUCKET, ObjectStore, mounted, running
from projects import REPOSITORY, Project

from tfx_distill.datasets import simulator
from tfx_distill.labels.commit import commit
from tfx_distill.labels.partition import Partition
from tfx_distill.labels.provenance import Provenance
from tfx_distill.labels.shard import LabelShardWriter
from tfx_distill.labels.snapshot import read
from tfx_distill.pipeline import run_lock, session, stream
from tfx_distill.pipeline.status import status
from tfx_distill.pipeline.summary import Summary
from tfx_distill.schema import config as run_config
from tfx_distill.schema.errors import EnvironmentProblem

pytestmark = pytest.mark.timeout(1500)
SMALL = {"hidden": 8, "tower": 4, "embedding": 4, "experts": 2}
TRAINING = {"epochs": 1, "batch_size": 512}
TASKS = {"click": "auc", "satisfaction": "log_loss", "watch_time": "mse", "ltv": "mse"}


def _obstacle() -> str | None:
    if not os.path.exists("/dev/fuse"):
        return "there is no /dev/fuse"
    if os.geteuid() != 0:
        return "mounting takes root here"
    if shutil.which("fusermount3") is None and shutil.which("fusermount") is None:
        return "fuse3 is not installed"
    return None


@pytest.fixture(scope="module")
def mount(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[ObjectStore, Path]]:
    """An object store, and a folder whose files lie in it."""
    if (problem := _obstacle()) is not None:
        if "CI" in os.environ:
            pytest.fail(problem)
        # Containers without privileges cannot mount; nothing of ours can change that.
        pytest.skip(problem)
    folder = tmp_path_factory.mktemp("mounted")
    with running(folder / "store") as store, mounted(store, folder / "mount") as where:
        yield store, where


def project(folder: Path, labels: str | None, shipped: str = "stream") -> Project:
    """A shipped config with three spans, small models, and gates that any model passes.

    All of it is in `folder`, labels too if they are None.
    """
    folder.mkdir(exist_ok=True)
    simulator.write(
        folder / "data", simulator.SimulatorConfig(spans=3, examples_per_span=2000, items=200)
    )
    content = yaml.safe_load((REPOSITORY / f"configs/{shipped}.yaml").read_text())
    content["data"]["spans"] = str(folder / "data/video/span-{SPAN}/{split}-*.parquet")
    content["teacher"] = {"model": {"width": 2} | SMALL, "training": TRAINING}
    content["students"] = [{"name": "compact", "model": SMALL, "training": TRAINING}]
    content["gate"] = {
        "teacher": [
            {"task": task, "metric": metric} | ({"min": 0.0} if metric == "auc" else {"max": 1e6})
            for task, metric in TASKS.items()
        ],
        "students": [
            {"task": task, "metric": metric, "max_regression": 1e6}
            for task, metric in TASKS.items()
        ],
        "slices": [],
        # Latencies of other runs mean nothing.
        "serving": {"requests": 20, "max_p99_ratio": None},
    }
    if labels is not None:
        content["labels"] = {"table": labels, "keep_spans": 1}
    content["root"] = str(folder / "runs")
    content["push"] = {"directory": str(folder / "serving")}
    file = folder / f"{shipped}.yaml"
    file.write_text(yaml.safe_dump(content))
    return Project(folder, file)


def lived(folder: Path, labels: str) -> dict[str, Any]:
    """What a stream is worth that runs in `folder`: its metrics, labels and pushed models."""
    runs = list(stream.run(project(folder, labels).config()))
    assert [(done.summary.first_span, done.summary.last_span) for done in runs] == [(0, 1), (2, 2)]
    assert [done.error for done in runs] == [None, None]
    return left_by([done.summary for done in runs], folder, labels)


def left_by(summaries: list[Summary], folder: Path, labels: str) -> dict[str, Any]:
    """What can be compared of some runs in `folder`: metrics, labels and pushed models."""
    table = pl.read_delta(labels).drop("scored_at", "teacher")
    return {
        "metrics": [
            (student.name, student.metrics, student.coverage)
            for summary in summaries
            for student in summary.students
        ],
        "labels": table.sort("span", "split", "example_id"),
        "pushed": len(list((folder / "serving").glob("*/*/saved_model.pb"))),
    }


def test_a_stream_on_an_object_store_is_that_of_a_local_disk(
    mount: tuple[ObjectStore, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, folder = mount
    for name, value in store.environment().items():
        monkeypatch.setenv(name, value)
    there = lived(folder / "project", f"s3://{BUCKET}/stream")
    here = lived(tmp_path / "project", str(tmp_path / "labels"))
    assert there["labels"].equals(here["labels"])
    assert there["metrics"] == here["metrics"]
    assert there["pushed"] == here["pushed"] == 2
    # The labels of the bootstrap have expired.
    assert there["labels"]["span"].unique().to_list() == [2]
    # Whoever has the mount sees where the stream stands, with no way to the bucket.
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    teacher = status(run_config.load(folder / "project/stream.yaml")).newest_teacher
    assert teacher is not None
    assert teacher.span == 2


def test_a_batch_with_all_its_files_on_the_mount_is_that_of_a_local_disk(
    mount: tuple[ObjectStore, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = mount[1] / "batch"
    there = project(folder, None, "video").config()
    assert there.label_table == str(folder / "runs/video/labels")
    summary, error = session.run(there)
    # Until somebody says that there is one writer, the run stops before its first labels.
    assert isinstance(error, EnvironmentProblem)
    assert "MOUNT_ALLOW_UNSAFE_RENAME=true" in str(error)
    assert summary.labels is None
    monkeypatch.setenv("MOUNT_ALLOW_UNSAFE_RENAME", "true")
    summary, error = session.run(there)
    assert error is None
    states = {step.component: step.state for step in summary.steps}
    # What was done before the labels is not done again.
    assert (states["TeacherTrainer"], states["TeacherLabeler"]) == ("cached", "ran")
    found = left_by([summary], folder, there.label_table)
    here = project(tmp_path / "batch", None, "video").config()
    summary, error = session.run(here)
    assert error is None
    expected = left_by([summary], tmp_path / "batch", here.label_table)
    assert found["labels"].equals(expected["labels"])
    assert len(found["labels"]) > 2000
    assert found["metrics"] == expected["metrics"]
    assert found["pushed"] == expected["pushed"] == 1


def test_a_label_table_on_the_mount_takes_one_writer(
    mount: tuple[ObjectStore, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    table = mount[1] / "labels"
    partition = Partition("video", 3, "train")
    noon = datetime(2024, 5, 1, 12, tzinfo=timezone.utc)
    with LabelShardWriter(table, partition, "train-0", {"click": "binary"}, noon) as writer:
        one = np.ones(1, np.float32)
        writer.write(np.array([7], np.int64), {"click": one}, one)
    source = Provenance("v", "teacher", "examples", "graph", "config", None)
    # This mount cannot link a file that is still open, as deltalake does to commit.
    with pytest.raises(EnvironmentProblem, match=r"rename file ↳ .*MOUNT_ALLOW_UNSAFE_RENAME"):
        commit(table, [writer.shard], source)
    monkeypatch.setenv("MOUNT_ALLOW_UNSAFE_RENAME", "true")
    snapshot = commit(table, [writer.shard], source)
    assert [part["example_id"].to_pylist() for part in read(snapshot, "train")] == [[7]]


def test_locks_of_other_processes_are_seen_on_the_mount(
    mount: tuple[ObjectStore, Path],
) -> None:
    _, folder = mount
    # That of SQLite guards ML Metadata.
    database = folder / "locked.sqlite"
    holder = sqlite3.connect(database, isolation_level=None)
    holder.execute("CREATE TABLE t (a)")
    holder.execute("BEGIN EXCLUSIVE")
    insert = f"""
        import sqlite3
        sqlite3.connect({str(database)!r}, timeout=0.2).execute("INSERT INTO t VALUES (1)")
    """
    other = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(insert)], capture_output=True, text=True
    )
    holder.execute("COMMIT")
    holder.close()
    assert "database is locked" in other.stderr
    # That of a run folder keeps a second run out.
    hold = f"""
        from pathlib import Path
        from tfx_distill.pipeline import run_lock
        with run_lock.held(Path({str(folder / "run")!r})):
            pass
    """
    with run_lock.held(folder / "run"):
        other = subprocess.run(
            [sys.executable, "-c", textwrap.dedent(hold)], capture_output=True, text=True
        )
    assert "FolderInUse" in other.stderr
