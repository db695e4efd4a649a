"""The Delta table that holds the labels: its columns, its settings and its first version."""

from __future__ import annotations

import pyarrow as pa
from deltalake import DeltaTable, Field, Schema
from deltalake.exceptions import DeltaError
from deltalake.schema import PrimitiveType
from deltalake.transaction import CommitProperties

from tfx_distill.labels import partition
from tfx_distill.labels.storage import Storage
from tfx_distill.schema import columns
from tfx_distill.schema.errors import LabelError

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


def open_for(table: Storage, kinds: dict[str, str]) -> DeltaTable:
    """The table, with columns for these tasks; created if need be.

    Raises:
      CommitFailedError: Another writer changed the table at the same time; try again.
      LabelError: The folder holds another kind of table.
      EnvironmentProblem: The store cannot be used.
    """
    wanted = _fields(kinds)
    if not table.is_table():
        table.require_atomic_commits()
        try:
            DeltaTable.create(
                table.table,
                Schema(wanted),
                mode="error",
                partition_by=list(partition.COLUMNS),
                configuration=_CONFIGURATION,
                # A retry would create the table a second time, at version 1.
                commit_properties=CommitProperties(max_commit_retries=0),
                storage_options=table.options,
            )
        except DeltaError:
            # Unless another writer created it in the meantime.
            if not table.is_table():
                raise
    delta = table.delta()
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
        delta = table.delta()
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


def _another_table(table: Storage, got: str, expected: str) -> LabelError:
    return LabelError(
        table.table,
        got=got,
        expected=expected,
        fix="That folder holds another table: set labels.table to a folder of its own.",
    )
