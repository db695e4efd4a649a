"""Writing, committing and reading the label table."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable
from deltalake.exceptions import DeltaError
from deltalake.transaction import CommitProperties
from labelled_shards import KINDS, NOON, PROVENANCE, key, labels, visible, write

from tfx_distill.labels.commit import commit, find
from tfx_distill.labels.history import provenance_of
from tfx_distill.labels.partition import Partition
from tfx_distill.labels.shard import LabelShardWriter
from tfx_distill.labels.snapshot import Snapshot, read, stored_files
from tfx_distill.schema.columns import SPLITS
from tfx_distill.schema.errors import LabelError


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


def test_files_of_a_snapshot_are_those_of_its_version(tmp_path: Path) -> None:
    one, two = write(tmp_path, [1]), write(tmp_path, [2], name="train-00001")
    evals = write(tmp_path, [3], split="eval")
    snapshots = [
        commit(tmp_path, [one, two, evals], PROVENANCE),
        # One file is kept; another split is not named; everything is kept.
        commit(tmp_path, [one, write(tmp_path, [4], name="train-00002")], key(1)),
        commit(tmp_path, [write(tmp_path, [5], span=4)], key(2)),
        commit(tmp_path, [evals], key(3)),
        commit(tmp_path, [write(tmp_path, []), evals], key(4)),
    ]
    DeltaTable(str(tmp_path)).create_checkpoint()
    root = f"{tmp_path}/"
    for snapshot in snapshots:
        delta = DeltaTable(str(tmp_path), version=snapshot.version)
        # Also where the version is that of another partition.
        for span in (3, 4):
            for split in SPLITS:
                target = f"teacher=video/span={span}/split={split}/"
                paths = [path.removeprefix(root) for path in delta.file_uris()]
                expected = [path for path in paths if path.startswith(target)]
                found = stored_files(replace(snapshot, span=span), split)
                assert found == sorted(expected)


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


def test_row_groups_are_the_batches(tmp_path: Path) -> None:
    shard = write(tmp_path, list(range(10)), batch=4)
    metadata = pq.read_metadata(tmp_path / shard.path)
    assert [metadata.row_group(i).num_rows for i in range(metadata.num_row_groups)] == [4, 4, 2]


def test_the_label_table_needs_no_tensorflow() -> None:
    code = (
        "import sys, tfx_distill.labels.commit, tfx_distill.labels.join\n"
        "import tfx_distill.labels.catalogue, tfx_distill.labels.quality\n"
        "import tfx_distill.labels.retention\n"
        "print([m for m in ('tensorflow', 'tfx', 'apache_beam', 'pandas') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
