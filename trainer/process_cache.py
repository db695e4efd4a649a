"""Costly things that are made once per process and used for many spans, by content."""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from pathlib import Path
from typing import Any, Generic, TypeVar
from weakref import WeakSet

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
        self._used: set[Key] = set()
        # Beam runs bundles in threads; making one thing twice would cost seconds.
        self._lock = threading.RLock()
        _ALL.add(self)

    def get(self, key: Key, make: Callable[[], Made]) -> Made:
        """What was made for an equal key before, or what `make` makes now."""
        with self._lock:
            if key not in self._kept:
                self._kept[key] = make()
            self._kept.move_to_end(key)
            self._used.add(key)
            while len(self._kept) > self._size:
                self._kept.popitem(last=False)
            return self._kept[key]

    def forget_unused(self) -> None:
        """Forgets what was not asked for since the last call."""
        with self._lock:
            for key in self._kept.keys() - self._used:
                del self._kept[key]
            self._used.clear()

    def clear(self) -> None:
        """Forgets everything, as a new process would."""
        with self._lock:
            self._kept.clear()


_ALL: WeakSet[ProcessCache[Any, Any]] = WeakSet()


def forget_unused() -> None:
    """Forgets, in every cache, what was not asked for since the last call: once per span.

    After a change of the vocabularies all graphs are new, and the old ones are large.
    """
    for cache in list(_ALL):
        cache.forget_unused()


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
