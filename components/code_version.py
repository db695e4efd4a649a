"""Which code ran: what a model's lineage ends in."""

from __future__ import annotations

import hashlib
from functools import cache
from importlib import metadata
from pathlib import Path

PACKAGE = Path(__file__).parents[1]


@cache
def code_version() -> str:
    """Version of tfx-distill, and a digest of its modules, as in `0.1.0+1f0c24e9a1b2`.

    The version alone says nothing of a checkout, whose modules change between two versions.
    """
    return f"{metadata.version('tfx-distill')}+{digest(PACKAGE)}"


def digest(folder: Path) -> str:
    """Digest of the names and bytes of all Python modules under a folder, 12 hexadecimal digits."""
    found = hashlib.sha256()
    for part in sorted(folder.iterdir()):
        # A checkout has links to its folders here, which a search would not follow.
        for file in sorted(part.rglob("*.py")) if part.is_dir() else [part]:
            if file.suffix == ".py":
                content = file.read_bytes()
                found.update(f"{file.relative_to(folder)}\0{len(content)}\0".encode())
                found.update(content)
    return found.hexdigest()[:12]
