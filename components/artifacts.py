"""Artifact types of our own, and how artifacts are identified by content."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

from tfx.types import artifact

from tfx_distill.labels.snapshot import Snapshot
from tfx_distill.schema import columns
from tfx_distill.schema.errors import LabelError

SNAPSHOTS = "snapshots.json"


class TeacherLabels(artifact.Artifact):
    """Snapshots of the label table: teacher labels of one span, or of a bootstrap.

    The labels themselves are in the table; the artifact holds where: table, version, partition.
    `span` is the last one that is labelled.
    """

    TYPE_NAME = "TeacherLabels"
    PROPERTIES = {
        "span": artifact.Property(type=artifact.PropertyType.INT),
        "teacher": artifact.Property(type=artifact.PropertyType.STRING),
        "table_version": artifact.Property(type=artifact.PropertyType.INT),
    }


def read_snapshots(uri: str) -> list[Snapshot]:
    """The snapshots that a TeacherLabels artifact points to, by span."""
    texts = json.loads((Path(uri) / SNAPSHOTS).read_text())
    return [Snapshot.from_json(text) for text in texts]


def is_readable(uri: str) -> bool:
    """Whether the labels of a TeacherLabels artifact are still in their table."""
    try:
        return all(
            Path(file).exists()
            for snapshot in read_snapshots(uri)
            for split in columns.SPLITS
            for file in snapshot.files(split)
        )
    except (LabelError, OSError):
        return False


def publish(labels: TeacherLabels, snapshots: Sequence[Snapshot]) -> None:
    """Points a TeacherLabels artifact to snapshots, of which there is at least one."""
    folder = Path(labels.uri)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / SNAPSHOTS).write_text(json.dumps([snapshot.to_json() for snapshot in snapshots]))
    last = max(snapshots, key=lambda snapshot: snapshot.span)
    labels.span, labels.teacher, labels.table_version = last.span, last.teacher, last.version


def fingerprint(folder: str | Path) -> str:
    """Digest of a folder's files, names and bytes; 64 hexadecimal digits."""
    digest = hashlib.sha256()
    root = Path(folder)
    for file in sorted(path for path in root.rglob("*") if path.is_file()):
        digest.update(str(file.relative_to(root)).encode() + b"\0")
        with file.open("rb") as content:
            for block in iter(lambda: content.read(1 << 20), b""):
                digest.update(block)
    return digest.hexdigest()
