"""Committing label shards in one transaction, unless their content was committed before."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from deltalake import DeltaTable
from deltalake.transaction import AddAction, RemoveAction, Transaction

from tfx_distill.labels.duplicates import repeats_in
from tfx_distill.labels.files import files_of
from tfx_distill.labels.history import committed, transaction_id
from tfx_distill.labels.partition import Partition
from tfx_distill.labels.provenance import Provenance
from tfx_distill.labels.shard import LabelShard
from tfx_distill.labels.snapshot import Snapshot, open_labels
from tfx_distill.labels.storage import Storage, storage_of
from tfx_distill.labels.table import open_for
from tfx_distill.labels.transaction import removal, until_written, write_version
from tfx_distill.schema import columns
from tfx_distill.schema.errors import LabelError


def commit(
    table: str | Path,
    shards: Sequence[LabelShard],
    provenance: Provenance,
    quality: Mapping[str, Any] | None = None,
) -> Snapshot:
    """Makes label shards visible, all at once; creates the table on first use.

    The shards replace what the same teacher had committed for the same span and splits. If the
    same content key was committed for these partitions before, that commit is returned and nothing
    is written. Commits of other teachers, threads, processes or machines may land at the same time.

    Memory: 8 bytes for each row of the largest partition up to 2**24 rows, to find duplicate ids.
    Of larger ones, the ids are read several times.

    Args:
      table: Folder or `s3://` URL of the label table.
      shards: Finished shards of one teacher and one span, of one or more splits.
      provenance: Where the labels come from; stored in the commit.
      quality: What was measured on the labels, as values that JSON has; stored in the commit.

    Raises:
      LabelError: There are no labels, a shard is gone, an id occurs twice within a split, or the
        folder holds another kind of table.
      EnvironmentProblem: The commit cannot be written.
      ValueError: The shards are of several teachers, spans or sets of tasks, or `quality` holds NaN
        or infinity.
    """
    storage = storage_of(table)
    partitions = _by_partition(storage, shards)
    for group in partitions.values():
        _refuse_duplicates(storage, group)
    first = shards[0]
    teacher, span = first.partition.teacher, first.partition.span
    rows = {
        target.split: sum(shard.rows for shard in group) for target, group in partitions.items()
    }
    metadata = json.dumps(
        {
            "key": provenance.key,
            "teacher": teacher,
            "span": span,
            "rows": rows,
            **asdict(provenance),
            "quality": None if quality is None else dict(quality),
        },
        allow_nan=False,
    )

    def attempt() -> Snapshot:
        delta = open_for(storage, first.kinds)
        known = committed(storage, delta, provenance.key)
        if known is not None:
            snapshot, splits = known
            if (snapshot.teacher, snapshot.span) == (teacher, span) and rows.keys() <= splits:
                return snapshot
        # The protocol allows for one version of a transaction id: that of this commit.
        mark = Transaction(transaction_id(provenance.key), delta.version() + 1)
        version = write_version(delta, _actions(storage, delta, partitions), metadata, [mark])
        return Snapshot(storage.table, version, teacher, span)

    return until_written(storage, attempt)


def find(table: str | Path, key: str) -> Snapshot | None:
    """The newest commit with this content key whose labels have not expired, nor gone, if any.

    Args:
      table: Folder of the label table; need not exist.
      key: `Provenance.key`.
    """
    storage = storage_of(table)
    if not storage.is_table():
        return None
    known = committed(storage, storage.delta(), key)
    return known[0] if known else None


def _by_partition(
    table: Storage, shards: Sequence[LabelShard]
) -> dict[Partition, list[LabelShard]]:
    """The shards with rows, by partition; a partition without rows is there, but empty."""
    if not any(shard.rows for shard in shards):
        raise LabelError(
            table.table,
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


def _actions(
    table: Storage, delta: DeltaTable, partitions: Mapping[Partition, Sequence[LabelShard]]
) -> list[AddAction | RemoveAction]:
    """What replaces the files of these partitions by their shards."""
    added = {shard.path: shard for group in partitions.values() for shard in group}
    live = {path: target for target in partitions for path in files_of(delta, target)}
    return [
        # The protocol forbids to add and remove one path in one commit.
        *(
            removal(path, _size(table, path), target)
            for path, target in live.items()
            if path not in added
        ),
        *(_add_action(table, shard) for path, shard in added.items() if path not in live),
    ]


def _add_action(table: Storage, shard: LabelShard) -> AddAction:
    ranges = shard.ranges
    stats = {
        "numRecords": shard.rows,
        "minValues": {column: low for column, (low, _) in ranges.items()},
        "maxValues": {column: high for column, (_, high) in ranges.items()},
        "nullCount": dict.fromkeys(ranges, 0),
    }
    found = table.status(shard.path)
    if found is None:
        raise FileNotFoundError(table.name(shard.path))
    return AddAction(
        shard.path,
        shard.size,
        shard.partition.values,
        int(found.modified * 1000),
        True,
        json.dumps(stats),
    )


def _size(table: Storage, path: str) -> int | None:
    found = table.status(path)
    return None if found is None else found.size


def _refuse_duplicates(table: Storage, shards: Sequence[LabelShard]) -> None:
    """Refuses a partition with missing or changed files, or with an id that occurs twice."""
    repeats = repeats_in(
        lambda: (_ids(table, shard) for shard in shards), sum(shard.rows for shard in shards)
    )
    if repeats is None:
        return
    holders = (
        f"{shard.name} (row {row})"
        for shard in shards
        for row in np.flatnonzero(_ids(table, shard) == repeats.smallest)
    )
    raise LabelError(
        f"{shards[0].partition}, example_id {repeats.smallest}",
        got=f"the same id in the example shards {' and '.join(islice(holders, 2))}; "
        f"{repeats.count} ids occur more than once",
        expected="each example_id once",
        fix="Remove the repeated examples. If the logged ids differ, their 64-bit fingerprints "
        "collide: change one of the two.",
    )


def _ids(table: Storage, shard: LabelShard) -> np.ndarray[Any, np.dtype[np.int64]]:
    name, size = table.name(shard.path), _size(table, shard.path)
    if size not in (None, shard.size):
        raise LabelError(
            name,
            got=f"{size} bytes",
            expected=f"the {shard.size} bytes that its worker wrote",
            fix="Label the span again.",
        )
    with open_labels(name, [columns.EXAMPLE_ID]) as file:
        return file.read([columns.EXAMPLE_ID])[columns.EXAMPLE_ID].to_numpy()
