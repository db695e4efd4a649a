"""Which labels the table holds now, of which teachers and spans."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from tfx_distill.labels.files import live_files
from tfx_distill.labels.history import provenance_in
from tfx_distill.labels.log import newest_first
from tfx_distill.labels.partition import Partition
from tfx_distill.labels.provenance import Provenance
from tfx_distill.labels.snapshot import Snapshot
from tfx_distill.labels.storage import Storage, storage_of


@dataclass(frozen=True)
class Labelling:
    """Labels that one commit brought and that no later one has replaced or removed.

    Attributes:
      version: Version of the table that the commit wrote.
      teacher: Partition of the teacher.
      span: Partition of the span.
      rows: Labelled examples of each split that is still this commit's.
      provenance: Where the labels come from.
      committed_at: Time of the commit.
      quality: What the commit says of the labels, if anything.
      size: Bytes of these splits' files as the table has them now.
    """

    version: int
    teacher: str
    span: int
    rows: Mapping[str, int]
    provenance: Provenance
    committed_at: datetime
    quality: Mapping[str, Any] | None
    size: int

    def snapshot(self, table: str | Path) -> Snapshot:
        """These labels, to be read from their table."""
        return Snapshot(str(table), self.version, self.teacher, self.span)


def labellings(table: str | Path) -> list[Labelling]:
    """All labellings that are live in the table now, oldest first.

    Args:
      table: Folder of the label table; need not exist.
    """
    return list(_newest_first(storage_of(table), lambda _: True))[::-1]


def newest(table: str | Path, spans: tuple[int, int], teacher: str | None = None) -> list[Snapshot]:
    """The newest labels of each span, in order of span; spans without labels are left out.

    Args:
      table: Folder of the label table; need not exist.
      spans: First and last span.
      teacher: Only labels of this teacher: its partition, its fingerprint, or its version.
    """
    first, last = spans
    found: dict[int, Snapshot] = {}
    for labelling in _newest_first(storage_of(table), lambda target: first <= target.span <= last):
        source = labelling.provenance
        names = (labelling.teacher, source.teacher_fingerprint, source.teacher_version)
        if labelling.span not in found and teacher in (None, *names):
            found[labelling.span] = labelling.snapshot(table)
    return [found[span] for span in sorted(found)]


def _newest_first(table: Storage, wanted: Callable[[Partition], bool]) -> Iterator[Labelling]:
    """Live labellings of these partitions; reads the log only as far back as they reach."""
    if not table.is_table():
        return
    delta = table.delta()
    sizes: dict[Partition, int] = defaultdict(int)
    for file in live_files(delta):
        if wanted(file.partition):
            sizes[file.partition] += file.size
    # A commit replaces partitions as a whole: a live one is of the newest commit that names it.
    for commit in newest_first(table, delta.version()) if sizes else ():
        if not commit.labels:
            continue
        teacher, span = commit.metadata["teacher"], commit.metadata["span"]
        counts = commit.metadata["rows"]
        targets = {split: Partition(teacher, span, split) for split in counts}
        rows = {split: counts[split] for split, target in targets.items() if target in sizes}
        if not rows:
            continue
        yield Labelling(
            version=commit.version,
            teacher=teacher,
            span=span,
            rows=rows,
            provenance=provenance_in(commit.metadata),
            committed_at=commit.time,
            quality=commit.metadata.get("quality"),
            size=sum(sizes.pop(targets[split]) for split in rows),
        )
        if not sizes:
            return
