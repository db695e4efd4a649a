"""Committing label shards in one transaction, and finding what was committed."""

from __future__ import annotations

import json
import os
import random
import time
from collections.abc import Collection, Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from deltalake import DeltaTable, Field, Schema
from deltalake.exceptions import CommitFailedError, DeltaError
from deltalake.schema import PrimitiveType
from deltalake.transaction import (
    AddAction,
    CommitProperties,
    RemoveAction,
    Transaction,
)

from tfx_distill.labels import partition
from tfx_distill.labels.partition import Partition
from tfx_distill.labels.provenance import Provenance
from tfx_distill.labels.shard import LabelShard
from tfx_distill.labels.snapshot import Snapshot, files_of, open_labels
from tfx_distill.schema import columns
from tfx_distill.schema.errors import EnvironmentProblem, LabelError

_TRIES = 50
_APP = "tfx-distill/labels/"

# Snapshots are read for ever: neither the log nor replaced files may expire, whoever maintains the
# table.
_CONFIGURATION = {
    "delta.enableExpiredLogCleanup": "false",
    "delta.logRetentionDuration": "interval 36500 days",
    "delta.deletedFileRetentionDuration": "interval 36500 days",
}
_DELTA_TYPES = {
    pa.int64(): PrimitiveType("long"),
    pa.float32(): PrimitiveType("float"),
    pa.timestamp("us", tz="UTC"): PrimitiveType("timestamp"),
}


def commit(table: str | Path, shards: Sequence[LabelShard], provenance: Provenance) -> Snapshot:
    """Makes label shards visible, all at once; creates the table on first use.

    The shards replace what the same teacher had committed for the same span and splits. If the
    same content key was committed for these partitions before, that commit is returned and nothing
    is written. Commits of other teachers, threads, processes or machines may land at the same time.

    Memory: 8 bytes for each row of the largest partition, to find duplicate ids.

    Args:
      table: Folder of the label table.
      shards: Finished shards of one teacher and one span, of one or more splits.
      provenance: Where the labels come from; stored in the commit.

    Raises:
      LabelError: There are no shards, a shard is gone, an id occurs twice within a split, or the
        folder holds another kind of table.
      EnvironmentProblem: The commit cannot be written.
      ValueError: The shards are of several teachers, spans or sets of tasks.
    """
    table = Path(table)
    if not shards:
        raise LabelError(
            str(table),
            got="no label shards to commit",
            expected="at least one",
            fix="Check that the span has examples.",
        )
    first = shards[0]
    teacher, span = first.partition.teacher, first.partition.span
    for shard in shards:
        if (shard.partition.teacher, shard.partition.span) != (teacher, span):
            raise ValueError(f"{shard.partition} and {first.partition} in one commit")
        if shard.kinds != first.kinds:
            raise ValueError(f"tasks {shard.kinds} and {first.kinds} in one commit")
    partitions = {shard.partition for shard in shards}
    for target in sorted(partitions, key=str):
        _refuse_duplicates(table, [shard for shard in shards if shard.partition == target])

    rows = {
        target.split: sum(shard.rows for shard in shards if shard.partition == target)
        for target in partitions
    }
    metadata = {
        "key": provenance.key,
        "teacher": teacher,
        "span": span,
        "rows": rows,
        **asdict(provenance),
    }
    failure: Exception | None = None
    for _ in range(_TRIES):
        try:
            delta = _open_for(table, first.kinds)
            known = _find(table, delta, provenance.key)
            if known is not None:
                snapshot, info = known
                same = (snapshot.teacher, snapshot.span) == (teacher, span)
                if same and rows.keys() <= info["rows"].keys():
                    return snapshot
            version = delta.version() + 1
            _commit_once(table, delta, version, shards, partitions, metadata)
        except CommitFailedError as error:
            # Another writer took the version: look at the table again, then try the next one.
            failure = error
            time.sleep(random.uniform(0.005, 0.05))
        except (DeltaError, OSError) as error:
            failure = error
            break
        else:
            return Snapshot(str(table), version, teacher, span)
    raise EnvironmentProblem(
        str(table),
        got=f"a commit that failed: {' '.join(str(failure).split())}",
        expected="a commit in the log of the table",
        fix="Check free space, permissions and other writers there, then run again; the table is "
        "as it was before.",
    ) from failure


def find(table: str | Path, key: str) -> Snapshot | None:
    """The newest commit with this content key whose files are still there, if any.

    Args:
      table: Folder of the label table; need not exist.
      key: `Provenance.key`.
    """
    table = Path(table)
    if not DeltaTable.is_deltatable(str(table)):
        return None
    known = _find(table, DeltaTable(str(table)), key)
    return known[0] if known else None


def provenance_of(snapshot: Snapshot) -> Provenance:
    """What produced the labels of a snapshot.

    Raises:
      LabelError: The version is not a commit of labels.
    """
    info = _label_info(Path(snapshot.table), snapshot.version)
    if info is None:
        raise LabelError(
            str(snapshot),
            got="a version that is no commit of labels",
            expected="the version that committed them",
            fix="Use the snapshot that the labelling returned.",
        )
    return Provenance(**{name: info[name] for name in Provenance.__dataclass_fields__})


def _commit_once(
    table: Path,
    delta: DeltaTable,
    version: int,
    shards: Iterable[LabelShard],
    partitions: Iterable[Partition],
    metadata: dict[str, Any],
) -> None:
    """Writes exactly `version` of the table, or raises CommitFailedError if it is taken."""
    added = {shard.path: shard for shard in shards}
    live = {path: target for target in partitions for path in files_of(delta, target)}
    now = int(time.time() * 1000)
    actions: list[AddAction | RemoveAction] = [
        # The protocol forbids to add and remove one path in one commit.
        *(
            RemoveAction(path, True, now, _size(table / path), target.values)
            for path, target in live.items()
            if path not in added
        ),
        *(_add_action(table, shard) for path, shard in added.items() if path not in live),
    ]
    delta.create_write_transaction(
        actions,
        "append",
        delta.schema(),
        list(partition.COLUMNS),
        commit_properties=CommitProperties(
            # Spark shows this field in DESCRIBE HISTORY; own fields it would not.
            custom_metadata={"userMetadata": json.dumps(metadata)},
            # No silent retry at a later version: it would keep the files of a concurrent
            # labelling of the same partition beside ours, and the version would be unknown.
            max_commit_retries=0,
            app_transactions=[Transaction(_APP + metadata["key"], version)],
        ),
    )


def _add_action(table: Path, shard: LabelShard) -> AddAction:
    ranges = shard.ranges
    stats = {
        "numRecords": shard.rows,
        "minValues": {column: low for column, (low, _) in ranges.items()},
        "maxValues": {column: high for column, (_, high) in ranges.items()},
        "nullCount": dict.fromkeys(ranges, 0),
    }
    modified = int((table / shard.path).stat().st_mtime * 1000)
    return AddAction(
        shard.path, shard.size, shard.partition.values, modified, True, json.dumps(stats)
    )


def _size(path: Path) -> int | None:
    return path.stat().st_size if path.exists() else None


def _find(table: Path, delta: DeltaTable, key: str) -> tuple[Snapshot, dict[str, Any]] | None:
    # A transaction id survives checkpoints and needs no walk through the log.
    version = delta.transaction_version(_APP + key)
    info = None if version is None else _label_info(table, version)
    if version is None or info is None:
        return None
    snapshot = Snapshot(str(table), version, info["teacher"], info["span"])
    if not all(os.path.exists(path) for split in info["rows"] for path in snapshot.files(split)):
        return None
    return snapshot, info


def _label_info(table: Path, version: int) -> dict[str, Any] | None:
    """Our metadata of one commit.

    Read from the log file itself: `DeltaTable.history` numbers commits by counting back from the
    version that was loaded, which is wrong while others commit.
    """
    log = table / "_delta_log" / f"{version:020d}.json"
    try:
        lines = log.read_text().splitlines()
    except FileNotFoundError:
        return None
    for line in lines:
        text = json.loads(line).get("commitInfo", {}).get("userMetadata")
        if text is not None:
            info = json.loads(text)
            if isinstance(info, dict) and "key" in info:
                return info
    return None


def _open_for(table: Path, kinds: dict[str, str]) -> DeltaTable:
    """The table, with columns for these tasks; created if need be."""
    wanted = _fields(kinds)
    if not DeltaTable.is_deltatable(str(table)):
        try:
            DeltaTable.create(
                str(table),
                Schema(wanted),
                mode="error",
                partition_by=list(partition.COLUMNS),
                configuration=_CONFIGURATION,
                # A retry would create the table a second time, at version 1.
                commit_properties=CommitProperties(max_commit_retries=0),
            )
        except DeltaError:
            # Unless another writer created it in the meantime.
            if not DeltaTable.is_deltatable(str(table)):
                raise
    delta = DeltaTable(str(table))
    partitioned = delta.metadata().partition_columns
    if partitioned != list(partition.COLUMNS):
        raise _another_table(
            table, f"partition columns {partitioned}", f"{list(partition.COLUMNS)}"
        )
    known = {field.name: field.type for field in delta.schema().fields}
    for field in wanted:
        have = known.get(field.name, field.type)
        if have != field.type:
            raise _another_table(table, f"column {field.name} of {have}", f"{field.type}")
    new = [field for field in wanted if field.name not in known]
    if new:
        # Teachers of other tasks share the table. A commit of its own, since only an overwriting
        # one could also add columns; until the labels follow, readers see a column of nulls.
        delta.alter.add_columns(new)
        delta = DeltaTable(str(table))
    return delta


def _fields(kinds: dict[str, str]) -> list[Field]:
    return [
        *(
            # Null where a teacher has no such task. The files themselves hold no nulls.
            Field(field.name, _DELTA_TYPES[field.type], nullable=field.type == pa.float32())
            for field in columns.label_table(kinds)
        ),
        Field(partition.TEACHER, PrimitiveType("string"), nullable=False),
        Field(partition.SPAN, PrimitiveType("long"), nullable=False),
        Field(partition.SPLIT, PrimitiveType("string"), nullable=False),
    ]


def _another_table(table: Path, got: str, expected: str) -> LabelError:
    return LabelError(
        str(table),
        got=got,
        expected=expected,
        fix="That folder holds another table: set labels.table to a folder of its own.",
    )


def _refuse_duplicates(table: Path, shards: Collection[LabelShard]) -> None:
    """Refuses a partition with missing or changed files, or with an id that occurs twice."""
    ids = np.empty(sum(shard.rows for shard in shards), np.int64)
    filled = 0
    for shard in shards:
        found = _ids(table, shard)
        ids[filled : filled + shard.rows] = found
        filled += shard.rows
    ids.sort()
    repeats = ids[1:][ids[1:] == ids[:-1]]
    if not len(repeats):
        return
    example_id = repeats[0]
    holders = [
        f"{shard.name} (row {row})"
        for shard in shards
        for row in np.flatnonzero(_ids(table, shard) == example_id)
    ]
    raise LabelError(
        f"{next(iter(shards)).partition}, example_id {example_id}",
        got=f"the same id in the example shards {' and '.join(holders[:2])}; "
        f"{len(np.unique(repeats))} ids occur more than once",
        expected="each example_id once",
        fix="Remove the repeated examples. If the logged ids differ, their 64-bit fingerprints "
        "collide: change one of the two.",
    )


def _ids(table: Path, shard: LabelShard) -> np.ndarray[Any, np.dtype[np.int64]]:
    path = table / shard.path
    size = _size(path)
    if size not in (None, shard.size):
        raise LabelError(
            str(path),
            got=f"{size} bytes",
            expected=f"the {shard.size} bytes that its worker wrote",
            fix="Label the span again.",
        )
    with open_labels(str(path), [columns.EXAMPLE_ID]) as file:
        return file.read([columns.EXAMPLE_ID])[columns.EXAMPLE_ID].to_numpy()
