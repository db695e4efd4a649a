"""What leaves the table: labels of old spans, files that nobody needs, small files.

Each of these may run while others read, label and commit, and may die at any point: the table is
readable, and the next run does what is left.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from tfx_distill.labels import partition
from tfx_distill.labels.files import live_files
from tfx_distill.labels.log import named_files, newest_first, versions
from tfx_distill.labels.shard import PARTIAL, SUFFIX
from tfx_distill.labels.storage import LOG, Storage, StoredFile, problem, storage_of
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
    storage = storage_of(table)
    last = newest_span - keep_spans
    metadata = json.dumps(
        {"expired_span": last, "keep_spans": keep_spans, "newest_span": newest_span}
    )

    def attempt() -> Expired:
        delta = storage.delta()
        old = [file for file in live_files(delta) if file.partition.span <= last]
        if old:
            removals = [removal(file.path, file.size, file.partition) for file in old]
            write_version(delta, removals, metadata)
        return Expired(
            partitions=len({file.partition for file in old}),
            files=len(old),
            bytes=sum(file.size for file in old),
        )

    if not storage.is_table():
        return Expired(0, 0, 0)
    return until_written(storage, attempt)


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
    storage = storage_of(table)
    if not storage.is_table():
        return Vacuumed((), 0)
    # The folder is listed before the log is read: what is committed in between is named there. And
    # the log is read before its newest version: what is labelled in between is live there.
    found, folders = storage.listed(f"{partition.TEACHER}=")
    named, expiries = _logged(storage)
    live = {file.partition.span for file in live_files(storage.delta())}
    untouched = time.time() - older_than.total_seconds()
    unneeded: dict[str, int] = {}
    for file, span in _of_spans(found):
        left_alone = file.modified < untouched
        if file.path not in named:
            deletable = left_alone
        else:
            expired = [at for last, at in expiries if span <= last and span not in live]
            deletable = bool(expired) and (left_alone or file.modified < min(expired))
        if deletable:
            unneeded[file.path] = file.size
    if not dry_run:
        for path in sorted(unneeded):
            _delete(storage, path)
        # Deepest first; a folder with files in it stays.
        for folder in (folder for folder, changed in folders if changed < untouched):
            storage.remove_if_empty(folder)
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
    storage = storage_of(table)

    def attempt() -> Compacted:
        # Unlike an append, this notices others that replaced or removed the same files, and
        # yields; commits of other partitions are no reason to merge again.
        metrics = storage.delta().optimize.compact()
        return Compacted(metrics["numFilesRemoved"], metrics["numFilesAdded"])

    if not storage.is_table():
        return Compacted(0, 0)
    done = until_written(storage, attempt)
    until_written(storage, storage.delta().create_checkpoint)
    return done


def _of_spans(files: Iterable[StoredFile]) -> Iterator[tuple[StoredFile, int]]:
    """Those that are label files, finished or not, each with its span."""
    for file in files:
        folder, _, name = file.path.rpartition("/")
        span = _FOLDER.fullmatch(folder)
        if span is not None and name.endswith((SUFFIX, PARTIAL)):
            yield file, int(span[1])


def _logged(table: Storage) -> tuple[set[str], list[tuple[int, float]]]:
    """All files that a version names; and the last span of each expiry, with its time."""
    known = versions(table)
    gaps = sorted(set(range(known[-1] + 1)) - set(known)) if known else [0]
    if gaps:
        raise LabelError(
            table.name(LOG),
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


def _delete(table: Storage, path: str) -> None:
    try:
        table.delete(path)
    except OSError as error:
        raise problem(table.table, error) or EnvironmentProblem(
            table.name(path),
            got=str(error),
            expected="a label file that can be deleted",
            fix="Correct its permissions, then run again; what is left is readable.",
        ) from error
