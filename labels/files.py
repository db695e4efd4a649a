"""The label files that a version of the table consists of."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import urlsplit

from deltalake import DeltaTable

from tfx_distill.labels import partition
from tfx_distill.labels.partition import Partition


@dataclass(frozen=True)
class LabelFile:
    """A file of the loaded version of a table.

    Attributes:
      path: Relative to the table.
      size: Bytes.
      partition: What its rows are labels of.
    """

    path: str
    size: int
    partition: Partition


def live_files(table: DeltaTable) -> list[LabelFile]:
    """All files of the loaded version of a label table."""
    actions = table.get_add_actions(flatten=True)
    columns = (
        actions.column(name).to_pylist()
        for name in (
            "path",
            "size_bytes",
            f"partition.{partition.TEACHER}",
            f"partition.{partition.SPAN}",
            f"partition.{partition.SPLIT}",
        )
    )
    return [
        LabelFile(path, size, Partition(teacher, span, split))
        for path, size, teacher, span, split in zip(*columns, strict=True)
    ]


def files_of(table: DeltaTable, target: Partition) -> list[str]:
    """Files of a partition in the loaded version of a table, as paths relative to the table."""
    root = table.table_uri
    if root.startswith("file:"):
        # Both sides spell the table's own folder as a URL does; its files are spelt as they are.
        root = urlsplit(root).path
    uris = table.file_uris(
        file_pruning_predicate=[
            (partition.TEACHER, "=", target.teacher),
            (partition.SPAN, "=", target.span),
            (partition.SPLIT, "=", target.split),
        ]
    )
    return [uri.removeprefix(root) for uri in uris]
