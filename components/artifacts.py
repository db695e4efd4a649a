"""Artifact types of our own, and how artifacts are identified by content."""

from __future__ import annotations

import hashlib
from pathlib import Path

from tfx.types import artifact

from tfx_distill.labels.snapshot import Snapshot

SNAPSHOT = "snapshot.json"


class TeacherLabels(artifact.Artifact):
    """A snapshot of the label table: one teacher's labels of one span, for ever.

    The labels themselves are in the table; the artifact holds where: table, version, partition.
    """

    TYPE_NAME = "TeacherLabels"
    PROPERTIES = {
        "span": artifact.Property(type=artifact.PropertyType.INT),
        "teacher": artifact.Property(type=artifact.PropertyType.STRING),
        "table_version": artifact.Property(type=artifact.PropertyType.INT),
    }


def read_snapshot(uri: str) -> Snapshot:
    """The snapshot that a TeacherLabels artifact points to."""
    return Snapshot.from_json((Path(uri) / SNAPSHOT).read_text())


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
