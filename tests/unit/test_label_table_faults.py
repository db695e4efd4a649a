"""What the label table refuses, and what it does when a disk or a path fails."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from deltalake import DeltaTable
from labelled_shards import KINDS, NOON, PROVENANCE, labels, visible, write
from small_disk import mount_command

from tfx_distill.labels import shard as shard_module
from tfx_distill.labels.commit import commit
from tfx_distill.labels.partition import Partition
from tfx_distill.labels.shard import LabelShardWriter
from tfx_distill.labels.snapshot import read
from tfx_distill.schema.errors import EnvironmentProblem, LabelError


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


# Linux has this device, the only place where CI runs; macOS has not.
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
    mount = mount_command(tmp_path, "2m")
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
