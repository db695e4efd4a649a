"""Committing label shards in one transaction, unless their content was committed before."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from deltalake import DeltaTable
from deltalake.exceptions import CommitFailedError, DeltaError
from deltalake.transaction import (
    AddAction,
    CommitProperties,
    RemoveAction,
    Transaction,
)

from tfx_distill.labels import partition
from tfx_distill.labels.history import committed, transaction_id
from tfx_distill.labels.partition import Partition
from tfx_distill.labels.provenance import Provenance
from tfx_distill.labels.shard import LabelShard
from tfx_distill.labels.snapshot import Snapshot, files_of, open_labels
from tfx_distill.labels.table import open_for
from tfx_distill.schema import columns
from tfx_distill.schema.errors import EnvironmentProblem, LabelError

_TRIES = 50


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
      LabelError: There are no labels, a shard is gone, an id occurs twice within a split, or the
        folder holds another kind of table.
      EnvironmentProblem: The commit cannot be written.
      ValueError: The shards are of several teachers, spans or sets of tasks.
    """
    table = Path(table)
    partitions = _by_partition(table, shards)
    for group in partitions.values():
        _refuse_duplicates(table, group)
    first = shards[0]
    teacher, span = first.partition.teacher, first.partition.span
    metadata = {
        "key": provenance.key,
        "teacher": teacher,
        "span": span,
        "rows": {
            target.split: sum(shard.rows for shard in group) for target, group in partitions.items()
        },
        **asdict(provenance),
    }
    failure: Exception | None = None
    for _ in range(_TRIES):
        try:
            delta = open_for(table, first.kinds)
            known = committed(table, delta, provenance.key)
            if known is not None:
                snapshot, info = known
                same = (snapshot.teacher, snapshot.span) == (teacher, span)
                if same and metadata["rows"].keys() <= info["rows"].keys():
                    return snapshot
            version = delta.version() + 1
            _commit_once(table, delta, version, partitions, metadata)
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
    known = committed(table, DeltaTable(str(table)), key)
    return known[0] if known else None


def _by_partition(table: Path, shards: Sequence[LabelShard]) -> dict[Partition, list[LabelShard]]:
    """The shards with rows, by partition; a partition without rows is there, but empty."""
    if not any(shard.rows for shard in shards):
        raise LabelError(
            str(table),
            got="no labels to commit",
            expected="at least one label shard with rows",
            fix="Check that the span has examples.",
        )
    first = shards[0]
    groups: dict[Partition, list[LabelShard]] = {}
    for shard in shards:
        if (shard.partition.teacher, shard.partition.span) != (
            first.partition.teacher,
            first.partition.span,
        ):
            raise ValueError(f"{shard.partition} and {first.partition} in one commit")
        if shard.kinds != first.kinds:
            raise ValueError(f"tasks {shard.kinds} and {first.kinds} in one commit")
        group = groups.setdefault(shard.partition, [])
        if shard.rows:
            group.append(shard)
    return groups


def _commit_once(
    table: Path,
    delta: DeltaTable,
    version: int,
    partitions: Mapping[Partition, Sequence[LabelShard]],
    metadata: Mapping[str, Any],
) -> None:
    """Writes exactly `version` of the table, or raises CommitFailedError if it is taken."""
    added = {shard.path: shard for group in partitions.values() for shard in group}
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
            app_transactions=[Transaction(transaction_id(metadata["key"]), version)],
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


def _refuse_duplicates(table: Path, shards: Sequence[LabelShard]) -> None:
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
        f"{shards[0].partition}, example_id {example_id}",
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
