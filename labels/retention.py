"""What leaves the table: labels of old spans, files that nobody needs, small files.

Each of these may run while others read, label and commit, and may die at any point: the table is
readable, and the next run does what is left.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import time
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from deltalake import DeltaTable

from tfx_distill.labels import partition
from tfx_distill.labels.files import live_files
from tfx_distill.labels.log import named_files, newest_first, versions
from tfx_distill.labels.shard import PARTIAL, SUFFIX
from tfx_distill.labels.transaction import removal, until_written, write_version
from tfx_distill.schema.errors import EnvironmentProblem, LabelError

_DAY = timedelta(days=1)
_FOLDER = re.compile(rf"{partition.TEACHER}=[^/]+/{partition.SPAN}=(\d+)/{partition.SPLIT}=[^/]+")


@dataclass(frozen=True)
class Expired:
    """What a commit removed from the newest version of the table.

    Attributes:
      partitions: Combinations of teacher, span and split.
      files: Their files, which lie there until `vacuum`.
      bytes: Size of these.
    """

    partitions: int
    files: int
    bytes: int


@dataclass(frozen=True)
class Vacuumed:
    """What was deleted from the disk.

    Attributes:
      files: Paths relative to the table, sorted.
      bytes: Size of these.
    """

    files: tuple[str, ...]
    bytes: int


@dataclass(frozen=True)
class Compacted:
    """What a compaction changed in the newest version of the table.

    Attributes:
      replaced: Small files that no longer belong to it; snapshots still read them.
      written: Files that hold their rows now.
    """

    replaced: int
    written: int


def expire(table: str | Path, keep_spans: int, newest_span: int) -> Expired:
    """Removes the labels of old spans, of all teachers, in one commit.

    Their snapshots stay readable until `vacuum` deletes the files. A commit that comes later may
    label an old span again; the next expiry removes it again.

    Args:
      table: Folder of the label table; need not exist.
      keep_spans: How many spans keep their labels, at least 1.
      newest_span: The last of them.

    Raises:
      EnvironmentProblem: The commit cannot be written.
      ValueError: `keep_spans` is below 1.
    """
    if keep_spans < 1:
        raise ValueError(f"keep_spans is {keep_spans}")
    table = Path(table)
    last = newest_span - keep_spans
    metadata = json.dumps(
        {"expired_span": last, "keep_spans": keep_spans, "newest_span": newest_span}
    )

    def attempt() -> Expired:
        delta = DeltaTable(str(table))
        old = [file for file in live_files(delta) if file.partition.span <= last]
        if old:
            removals = [removal(file.path, file.size, file.partition) for file in old]
            write_version(delta, removals, metadata)
        return Expired(
            partitions=len({file.partition for file in old}),
            files=len(old),
            bytes=sum(file.size for file in old),
        )

    if not DeltaTable.is_deltatable(str(table)):
        return Expired(0, 0, 0)
    return until_written(table, attempt)


def vacuum(table: str | Path, *, older_than: timedelta = _DAY, dry_run: bool = False) -> Vacuumed:
    """Deletes the files of expired spans, and those that no version of the table ever named.

    Files of a span that has labels in the newest version stay, replaced ones included: snapshots
    name them. So do files of an expired span that were written again after its expiry.

    Args:
      table: Folder of the label table; need not exist.
      older_than: How long a file that no version names must have been left alone. Longer than any
        labelling takes: the files of a labelling that runs now are such files.
      dry_run: Only say what would be deleted.

    Raises:
      LabelError: The log lacks a version, so that it does not name all files.
      EnvironmentProblem: A file cannot be deleted; those before it are.
    """
    table = Path(table)
    if not DeltaTable.is_deltatable(str(table)):
        return Vacuumed((), 0)
    # The folder is listed before the log is read: what is committed in between is named there. And
    # the log is read before its newest version: what is labelled in between is live there.
    found, folders = _listed(table)
    named, expiries = _logged(table)
    live = {file.partition.span for file in live_files(DeltaTable(str(table)))}
    untouched = time.time() - older_than.total_seconds()
    unneeded: dict[str, int] = {}
    for path, (span, status) in found.items():
        left_alone = status.st_mtime < untouched
        if path not in named:
            deletable = left_alone
        else:
            expired = [at for last, at in expiries if span <= last and span not in live]
            deletable = bool(expired) and (left_alone or status.st_mtime < min(expired))
        if deletable:
            unneeded[path] = status.st_size
    if not dry_run:
        for path in sorted(unneeded):
            _delete(table / path)
        # Deepest first; a folder with files in it stays.
        for folder in (folder for folder, changed in folders if changed < untouched):
            with contextlib.suppress(OSError):
                folder.rmdir()
    return Vacuumed(tuple(sorted(unneeded)), sum(unneeded.values()))


def compact(table: str | Path) -> Compacted:
    """Merges the small files of each partition, and writes a checkpoint of the log.

    Readers of the newest version then open fewer files, and every reader less of the log. The rows
    keep their order. Files that were merged stay until their span expires, since snapshots read
    them: until then the rows are on the disk twice.

    Args:
      table: Folder of the label table; need not exist.

    Raises:
      EnvironmentProblem: Merged files or the commit cannot be written.
    """
    table = Path(table)

    def attempt() -> Compacted:
        # Unlike an append, this notices others that replaced or removed the same files, and
        # yields; commits of other partitions are no reason to merge again.
        metrics = DeltaTable(str(table)).optimize.compact()
        return Compacted(metrics["numFilesRemoved"], metrics["numFilesAdded"])

    if not DeltaTable.is_deltatable(str(table)):
        return Compacted(0, 0)
    done = until_written(table, attempt)
    until_written(table, DeltaTable(str(table)).create_checkpoint)
    return done


def _listed(
    table: Path,
) -> tuple[dict[str, tuple[int, os.stat_result]], list[tuple[Path, float]]]:
    """What lies in the folders of partitions.

    Returns:
      Label files by path relative to the table, each with its span and status; and the folders,
      deepest first, each with the time of its last change.
    """
    files: dict[str, tuple[int, os.stat_result]] = {}
    folders: list[tuple[Path, float]] = []
    # Not with pathlib, which takes several times as long for a million files.
    for folder, below, names in os.walk(table):
        path = os.path.relpath(folder, table)
        if path == os.curdir:
            below[:] = [name for name in below if name.startswith(f"{partition.TEACHER}=")]
            continue
        # Others delete here, too.
        with contextlib.suppress(FileNotFoundError):
            folders.append((Path(folder), os.stat(folder).st_mtime))
        span = _FOLDER.fullmatch(path)
        if span is None:
            continue
        for name in names:
            if name.endswith((SUFFIX, PARTIAL)):
                with contextlib.suppress(FileNotFoundError):
                    files[f"{path}/{name}"] = int(span[1]), os.stat(f"{folder}/{name}")
    return files, folders[::-1]


def _logged(table: Path) -> tuple[set[str], list[tuple[int, float]]]:
    """All files that a version names; and the last span of each expiry, with its time."""
    known = versions(table)
    gaps = sorted(set(range(known[-1] + 1)) - set(known)) if known else [0]
    if gaps:
        raise LabelError(
            str(table / "_delta_log"),
            got=f"no file of version {gaps[0]}",
            expected="a file of each version: without them, files that snapshots read look unused",
            fix="Restore the files of the log, or leave the label table as it is.",
        )
    named = {path for version in known for path in named_files(table, version)}
    commits = newest_first(table, known[-1])
    expiries = [
        (commit.expired_span, commit.time.timestamp())
        for commit in commits
        if commit.expired_span is not None
    ]
    return named, expiries


def _delete(path: Path) -> None:
    try:
        # Another vacuum may have been here.
        path.unlink(missing_ok=True)
    except OSError as error:
        raise EnvironmentProblem(
            str(path),
            got=str(error),
            expected="a label file that can be deleted",
            fix="Correct its permissions, then run again; what is left is readable.",
        ) from error
