"""What was committed to the label table, and where it came from."""

from __future__ import annotations

import contextlib
import json
import os
from pathlib import Path
from typing import Any

from deltalake import DeltaTable

from tfx_distill.labels.provenance import Provenance
from tfx_distill.labels.snapshot import Snapshot
from tfx_distill.schema.errors import LabelError


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


def transaction_id(key: str) -> str:
    """Name under which the Delta log keeps the newest version that has this content key."""
    return f"tfx-distill/labels/{key}"


def committed(table: Path, delta: DeltaTable, key: str) -> tuple[Snapshot, dict[str, Any]] | None:
    """The newest readable commit with this content key, and what it says about itself."""
    # A transaction id survives checkpoints and needs no walk through the log.
    version = delta.transaction_version(transaction_id(key))
    info = None if version is None else _label_info(table, version)
    if version is None or info is None:
        return None
    snapshot = Snapshot(str(table), version, info["teacher"], info["span"])
    splits = [split for split, rows in info["rows"].items() if rows]
    if not all(os.path.exists(path) for split in splits for path in snapshot.files(split)):
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
        # Other tools write what they like into this field.
        with contextlib.suppress(TypeError, ValueError):
            info = json.loads(text)
            if isinstance(info, dict) and "key" in info:
                return info
    return None
