"""One version of the label table, as one teacher filled it for one span."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass

import pyarrow as pa
import pyarrow.parquet as pq
from deltalake.exceptions import DeltaError

from tfx_distill.labels.files import files_of
from tfx_distill.labels.log import added_files, expired_span, read_commit
from tfx_distill.labels.partition import Partition
from tfx_distill.labels.storage import message_of, problem, source, storage_of
from tfx_distill.schema.columns import Split
from tfx_distill.schema.errors import LabelError

_BATCH_ROWS = 65_536


@dataclass(frozen=True)
class Snapshot:
    """Labels of one teacher for one span, which later commits do not change.

    Attributes:
      table: Folder or URL of the label table.
      version: Version of the table.
      teacher: Partition of the teacher.
      span: Partition of the span.
    """

    table: str
    version: int
    teacher: str
    span: int

    def to_json(self) -> str:
        """This snapshot as a JSON object."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Snapshot:
        """The snapshot that `to_json` wrote."""
        return cls(**json.loads(text))

    def files(self, split: Split) -> list[str]:
        """Full names of the label files of a split, sorted: absolute paths, or URLs.

        Raises:
          LabelError: This version of the table cannot be read any more, its labels have expired, or
            it has no such split.
        """
        return files_by_snapshot([self], split)[0]

    def __str__(self) -> str:
        return f"{self.table} (version {self.version}, teacher {self.teacher}, span {self.span})"


def read(
    snapshot: Snapshot, split: Split, columns: Sequence[str] | None = None
) -> Iterator[pa.Table]:
    """Reads the labels of a split, in tables of at most 65,536 rows.

    Args:
      snapshot: What to read.
      split: Which split of it.
      columns: Columns to read; all of them by default.

    Raises:
      LabelError: A file is missing or corrupt, or lacks a column.
    """
    for path in snapshot.files(split):
        with open_labels(path, columns or (), snapshot) as file:
            for batch in file.iter_batches(batch_size=_BATCH_ROWS, columns=columns):
                yield pa.Table.from_batches([batch])


def files_by_snapshot(snapshots: Sequence[Snapshot], split: Split) -> list[list[str]]:
    """Full names of the label files of a split, by snapshot, the last snapshot first.

    Those of a snapshot are sorted; a file of several snapshots is only in the last one's.

    Raises:
      LabelError: A version of the table cannot be read any more, labels have expired, or no
        snapshot has that split.
    """
    groups: list[list[str]] = []
    seen: set[str] = set()
    for snapshot in reversed(snapshots):
        files = stored_files(snapshot, split)
        table = storage_of(snapshot.table)
        if not table.holds(files):
            _refuse_expired(snapshot)
        names = [table.name(path) for path in files]
        groups.append([name for name in names if name not in seen])
        seen.update(names)
    if not seen:
        raise LabelError(
            f"{named(snapshots)}, split {split}",
            got="no label files",
            expected="the labels of that split",
            fix="Label that split with this teacher.",
        )
    return groups


def stored_files(snapshot: Snapshot, split: Split) -> list[str]:
    """A split's label files, relative to the table, sorted, as the log names them.

    They may be gone.

    Raises:
      LabelError: This version of the table cannot be read any more.
    """
    target = Partition(snapshot.teacher, snapshot.span, split)
    try:
        files = _files_of_commit(snapshot, target)
        if files is None:
            files = files_of(storage_of(snapshot.table).delta(snapshot.version), target)
    except (DeltaError, OSError) as error:
        raise problem(snapshot.table, error) or LabelError(
            str(snapshot),
            got=message_of(error),
            expected="a readable version of a label table",
            fix="Restore the table and its log, or label the span again.",
        ) from error
    return sorted(files)


def _files_of_commit(snapshot: Snapshot, target: Partition) -> list[str] | None:
    """The files of a partition, if the commit of that version says that it added all of them.

    Most do. That is one small file to read, while a version is loaded from the log of the whole
    table: a tenth of a second after a thousand commits.
    """
    table = storage_of(snapshot.table)
    commit = read_commit(table, snapshot.version)
    if commit is None or not commit.labels:
        return None
    if (commit.metadata["teacher"], commit.metadata["span"]) != (target.teacher, target.span):
        return None
    added = {
        path: rows
        for path, rows in added_files(table, snapshot.version)
        if path.startswith(f"{target.folder}/")
    }
    # Fewer, if it kept files that were there before.
    complete = sum(added.values()) == commit.metadata["rows"].get(target.split)
    return list(added) if complete else None


def named(snapshots: Sequence[Snapshot]) -> str:
    """What to call some snapshots in a message."""
    last = str(snapshots[-1]) if snapshots else "no snapshot"
    return last if len(snapshots) < 2 else f"{last} and {len(snapshots) - 1} before it"


def _refuse_expired(snapshot: Snapshot) -> None:
    """Explains files that are gone on purpose; gone in another way, whoever opens them says so."""
    last = expired_span(storage_of(snapshot.table), since=snapshot.version)
    if last is None or last < snapshot.span:
        return
    raise LabelError(
        str(snapshot),
        got=f"labels that have expired: those of the spans up to {last} were removed, as "
        "labels.keep_spans asks for",
        expected="labels of a span that is kept",
        fix="Raise labels.keep_spans, then label the span again with `distill backfill`.",
    )


@contextmanager
def open_labels(
    path: str, columns: Sequence[str], snapshot: Snapshot | None = None
) -> Iterator[pq.ParquetFile]:
    """A label file that is known to hold `columns`, open for as long as the `with` block.

    Args:
      path: Full name of the file.
      columns: Columns that it must have.
      snapshot: Whose file it is, if of any: it may expire while it is read.

    Raises:
      LabelError: The file has expired, is missing or corrupt, on opening or while it is read, or
        lacks a column.
    """
    try:
        with pq.ParquetFile(source(path)) as file:
            missing = [name for name in columns if name not in file.schema_arrow.names]
            if missing:
                raise LabelError(
                    path,
                    got=f"the columns {file.schema_arrow.names}",
                    expected=f"also {missing}",
                    fix="Label with a teacher that has these tasks, of the same kind.",
                )
            yield file
    except (OSError, pa.ArrowException) as error:
        if snapshot is not None and isinstance(error, FileNotFoundError):
            _refuse_expired(snapshot)
        raise problem(path, error) or LabelError(
            path,
            got=message_of(error),
            expected="a Parquet file of the label table",
            fix="Restore the file, or label the span again.",
        ) from error
