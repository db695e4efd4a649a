"""Costly things that are made once per process and used for many spans, by content."""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from pathlib import Path
from typing import Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)
Made = TypeVar("Made")


class ProcessCache(Generic[Key, Made]):
    """Keeps what was used last: a process over hundreds of spans stays as small as over a few.

    Args:
      size: How many things to keep at the most. Whoever still uses one that is dropped goes on
        using it.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._kept: OrderedDict[Key, Made] = OrderedDict()
        # Beam runs bundles in threads; making one thing twice would cost seconds.
        self._lock = threading.RLock()

    def get(self, key: Key, make: Callable[[], Made]) -> Made:
        """What was made for an equal key before, or what `make` makes now."""
        with self._lock:
            if key not in self._kept:
                self._kept[key] = make()
            self._kept.move_to_end(key)
            while len(self._kept) > self._size:
                self._kept.popitem(last=False)
            return self._kept[key]

    def clear(self) -> None:
        """Forgets everything, as a new process would."""
        with self._lock:
            self._kept.clear()


def digest(folder: str | Path, leave_out: tuple[str, ...] = ()) -> str:
    """Digest of a folder's files, names and bytes, in hexadecimal digits.

    Args:
      folder: Which folder.
      leave_out: Names directly in the folder that do not count.
    """
    found = hashlib.sha256()
    root = Path(folder)
    for file in sorted(path for path in root.rglob("*") if path.is_file()):
        name = file.relative_to(root)
        if name.parts[0] not in leave_out:
            content = file.read_bytes()
            found.update(f"{name}\0{len(content)}\0".encode())
            found.update(content)
    return found.hexdigest()
