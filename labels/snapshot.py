"""One version of the label table, as one teacher filled it for one span."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from urllib.parse import urlsplit

import pyarrow as pa
import pyarrow.parquet as pq
from deltalake import DeltaTable
from deltalake.exceptions import DeltaError

from tfx_distill.labels import partition
from tfx_distill.labels.partition import Partition
from tfx_distill.schema.columns import Split
from tfx_distill.schema.errors import LabelError

_BATCH_ROWS = 65_536


@dataclass(frozen=True)
class Snapshot:
    """Labels of one teacher for one span, which later commits do not change.

    Attributes:
      table: Folder of the label table.
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
        """Absolute paths of the label files of a split, sorted.

        Raises:
          LabelError: This version of the table cannot be read any more, or has no such split.
        """
        try:
            table = DeltaTable(self.table, version=self.version)
            files = files_of(table, Partition(self.teacher, self.span, split))
        except (DeltaError, OSError) as error:
            raise LabelError(
                str(self),
                got=" ".join(str(error).split()),
                expected="a readable version of a label table",
                fix="Restore the table and its log, or label the span again.",
            ) from error
        if not files:
            raise LabelError(
                f"{self}, split {split}",
                got="no label files",
                expected="the labels of that split",
                fix="Label that split with this teacher.",
            )
        root = os.path.abspath(self.table)
        return [os.path.join(root, path) for path in sorted(files)]

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
        with open_labels(path, columns or ()) as file:
            for batch in file.iter_batches(batch_size=_BATCH_ROWS, columns=columns):
                yield pa.Table.from_batches([batch])


def files_of(table: DeltaTable, target: Partition) -> list[str]:
    """Files of a partition in the loaded version of a table, as paths relative to the table."""
    # Both sides spell the table's own folder as a URL does; its files are spelt as they are.
    root = urlsplit(table.table_uri).path
    uris = table.file_uris(
        file_pruning_predicate=[
            (partition.TEACHER, "=", target.teacher),
            (partition.SPAN, "=", target.span),
            (partition.SPLIT, "=", target.split),
        ]
    )
    return [uri.removeprefix(root) for uri in uris]


@contextmanager
def open_labels(path: str, columns: Sequence[str]) -> Iterator[pq.ParquetFile]:
    """A label file that is known to hold `columns`, open for as long as the `with` block.

    Raises:
      LabelError: The file is missing or corrupt, on opening or while it is read, or lacks a column.
    """
    try:
        with pq.ParquetFile(path) as file:
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
        raise LabelError(
            path,
            got=" ".join(str(error).split()),
            expected="a Parquet file of the label table",
            fix="Restore the file, or label the span again.",
        ) from error
