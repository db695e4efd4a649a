"""What the commits of a label table say about themselves, read from the files of its log.

`DeltaTable.history` numbers commits by counting back from the version that was loaded, which is
wrong while others commit, and it reads the whole log. The table's settings keep these files.
"""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any
from urllib.parse import unquote

from tfx_distill.labels.storage import Storage

_COMMIT = re.compile(r"(\d{20})\.json")


@dataclass(frozen=True)
class Commit:
    """One version of the table.

    Attributes:
      version: Its number.
      time: When it was written, by the clock of its writer.
      metadata: What this package wrote into it; empty if others wrote it.
    """

    version: int
    time: datetime
    metadata: dict[str, Any]

    @property
    def labels(self) -> bool:
        """Whether labels were committed, rather than removed, or the table altered."""
        return "key" in self.metadata

    @property
    def expired_span(self) -> int | None:
        """Last span whose labels this commit removed, with all before; None if it is another."""
        return self.metadata.get("expired_span")


def read_commit(table: Storage, version: int) -> Commit | None:
    """One commit, or None if there is no file of it."""
    for action in _actions(table, version, "commitInfo"):
        metadata: dict[str, Any] = {}
        # Other tools write what they like into this field.
        with contextlib.suppress(KeyError, TypeError, ValueError):
            found = json.loads(action["userMetadata"])
            metadata = found if isinstance(found, dict) else {}
        time = datetime.fromtimestamp(action.get("timestamp", 0) / 1000, timezone.utc)
        return Commit(version, time, metadata)
    return None


def newest_first(table: Storage, newest: int, oldest: int = 0) -> Iterator[Commit]:
    """The commits from version `newest` down to `oldest`; those without a file are left out."""
    for version in range(newest, oldest - 1, -1):
        commit = read_commit(table, version)
        if commit is not None:
            yield commit


def versions(table: Storage) -> list[int]:
    """Numbers of the versions that have a file in the log, in order."""
    names = map(_COMMIT.fullmatch, table.log_names())
    return sorted(int(name.group(1)) for name in names if name)


def named_files(table: Storage, version: int) -> Iterator[str]:
    """Files that one commit adds, as paths relative to the table."""
    for action in _actions(table, version, "add"):
        yield unquote(action["path"])


def added_files(table: Storage, version: int) -> Iterator[tuple[str, int]]:
    """Files that a commit of labels adds, as paths relative to the table, each with its rows."""
    for action in _actions(table, version, "add"):
        yield unquote(action["path"]), json.loads(action["stats"])["numRecords"]


def expired_span(table: Storage, *, since: int = 0) -> int | None:
    """Last span whose labels were expired by a commit after version `since`, if any."""
    known = versions(table)
    if not known:
        return None
    commits = newest_first(table, known[-1], since + 1)
    return max(
        (commit.expired_span for commit in commits if commit.expired_span is not None), default=None
    )


def _actions(table: Storage, version: int, kind: str) -> Iterator[dict[str, Any]]:
    text = table.read_log(f"{version:020d}.json")
    for line in (text or "").splitlines():
        # Most lines are of another kind: they need no parsing.
        if f'"{kind}"' in line:
            action = json.loads(line).get(kind)
            if action is not None:
                yield action
