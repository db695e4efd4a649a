"""What was committed to the label table, and where it came from."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from deltalake import DeltaTable

from tfx_distill.labels.files import files_of
from tfx_distill.labels.log import read_commit
from tfx_distill.labels.partition import Partition
from tfx_distill.labels.provenance import Provenance
from tfx_distill.labels.snapshot import Snapshot, stored_files
from tfx_distill.labels.storage import Storage, storage_of
from tfx_distill.schema.columns import Split
from tfx_distill.schema.errors import LabelError


def provenance_of(snapshot: Snapshot) -> Provenance:
    """What produced the labels of a snapshot.

    Raises:
      LabelError: The version is not a commit of labels.
    """
    commit = read_commit(storage_of(snapshot.table), snapshot.version)
    if commit is None or not commit.labels:
        raise LabelError(
            str(snapshot),
            got="a version that is no commit of labels",
            expected="the version that committed them",
            fix="Use the snapshot that the labelling returned.",
        )
    return provenance_in(commit.metadata)


def provenance_in(metadata: Mapping[str, Any]) -> Provenance:
    """The provenance that a commit of labels carries."""
    return Provenance(**{name: metadata[name] for name in Provenance.__dataclass_fields__})


def transaction_id(key: str) -> str:
    """Name under which the Delta log keeps the newest version that has this content key."""
    return f"tfx-distill/labels/{key}"


def committed(table: Storage, delta: DeltaTable, key: str) -> tuple[Snapshot, set[str]] | None:
    """The newest readable commit with this content key, and the splits that it is about.

    Args:
      table: Storage of the label table.
      delta: Its newest version, loaded.
      key: `Provenance.key`.
    """
    # A transaction id survives checkpoints and needs no walk through the log.
    version = delta.transaction_version(transaction_id(key))
    commit = None if version is None else read_commit(table, version)
    if version is None or commit is None or not commit.labels:
        return None
    rows: dict[Split, int] = commit.metadata["rows"]
    snapshot = Snapshot(table.table, version, commit.metadata["teacher"], commit.metadata["span"])
    for split in (split for split in rows if rows[split]):
        # Files of expired labels may still lie there, until they are vacuumed.
        if not files_of(delta, Partition(snapshot.teacher, snapshot.span, split)):
            return None
        if not table.holds(stored_files(snapshot, split)):
            return None
    return snapshot, set(rows)
