"""Where the files of a label table are kept: in a folder, or in a bucket of an object store.

The rest of this package names files relative to the table; its storage reads, writes, lists and
deletes them. `bucket` is the other kind, which is imported only where a table lies in one.
"""

from __future__ import annotations

import contextlib
import os
import re
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
from deltalake import DeltaTable

from tfx_distill.schema.errors import EnvironmentProblem

LOG = "_delta_log"
"""Folder of the log, relative to the table."""
URL = "s3://"
"""Beginning of the name of a table that lies in a bucket."""
_ANSI = re.compile(r"\x1b\[[0-9;]*m")


@dataclass(frozen=True)
class StoredFile:
    """A file of a table.

    Attributes:
      path: Relative to the table.
      size: Bytes.
      modified: Time of its last change, in seconds since the epoch.
    """

    path: str
    size: int
    modified: float


class Storage(ABC):
    """The files of one label table; all paths are relative to it.

    Attributes:
      table: Folder or URL of the table, as it was named.
      options: What deltalake has to know to open it.
    """

    table: str
    options: dict[str, str] | None = None

    @abstractmethod
    def name(self, path: str) -> str:
        """Full name of a file, by which `source` opens it from any working directory."""

    def is_table(self) -> bool:
        """Whether a table was created here."""
        return DeltaTable.is_deltatable(self.table, self.options)

    def delta(self, version: int | None = None) -> DeltaTable:
        """A version of the table; the newest by default."""
        return DeltaTable(self.table, version, self.options)

    @abstractmethod
    def require_atomic_commits(self) -> None:
        """Refuses a place where one writer could overwrite the commit of another.

        Raises:
          EnvironmentProblem: It is such a place.
        """

    @abstractmethod
    def read_log(self, name: str) -> str | None:
        """Content of a file of the log; None if there is no such file."""

    @abstractmethod
    def log_names(self) -> list[str]:
        """Names of the files of the log."""

    @abstractmethod
    def status(self, path: str) -> StoredFile | None:
        """A file; None if it is not there."""

    @abstractmethod
    def holds(self, paths: Sequence[str]) -> bool:
        """Whether all of these files are there."""

    @abstractmethod
    def scratch(self, folder: str) -> Path:
        """Where a file is written that `publish` will move into `folder`; need not exist yet."""

    @abstractmethod
    def publish(self, partial: Path, path: str) -> None:
        """Makes a finished file appear under its name, whole; it replaces its equal."""

    @abstractmethod
    def listed(self, beginning: str) -> tuple[list[StoredFile], list[tuple[str, float]]]:
        """All that lies in the folders of the table with this beginning, at any depth.

        Returns:
          Files; and folders, deepest first, each with the time of its last change.
        """

    @abstractmethod
    def delete(self, path: str) -> None:
        """Deletes a file, unless it is gone already."""

    @abstractmethod
    def remove_if_empty(self, folder: str) -> None:
        """Removes a folder, unless there are files in it."""


class Folder(Storage):
    """A label table in a local or mounted file system."""

    def __init__(self, table: str | Path) -> None:
        self._root = Path(table)
        self.table = str(self._root)

    def name(self, path: str) -> str:
        """Absolute path."""
        return os.path.join(os.path.abspath(self.table), path)

    def require_atomic_commits(self) -> None:
        """Nothing to see to: deltalake links its commits, which fails where one is there."""

    def read_log(self, name: str) -> str | None:
        """The text of that file."""
        try:
            return (self._root / LOG / name).read_text()
        except FileNotFoundError:
            return None

    def log_names(self) -> list[str]:
        """The names in that folder."""
        with contextlib.suppress(FileNotFoundError):
            return os.listdir(self._root / LOG)
        return []

    def status(self, path: str) -> StoredFile | None:
        """By asking the file system."""
        try:
            found = os.stat(self._root / path)
        except FileNotFoundError:
            return None
        return StoredFile(path, found.st_size, found.st_mtime)

    def holds(self, paths: Sequence[str]) -> bool:
        """One look for each of them."""
        return all(os.path.exists(self._root / path) for path in paths)

    def scratch(self, folder: str) -> Path:
        """That folder itself, since a file is renamed within a file system only."""
        return self._root / folder

    def publish(self, partial: Path, path: str) -> None:
        """Renames it."""
        os.replace(partial, self._root / path)

    def listed(self, beginning: str) -> tuple[list[StoredFile], list[tuple[str, float]]]:
        """Not with pathlib, which takes several times as long for a million files."""
        files: list[StoredFile] = []
        folders: list[tuple[str, float]] = []
        for folder, below, names in os.walk(self._root):
            path = os.path.relpath(folder, self._root)
            if path == os.curdir:
                below[:] = [name for name in below if name.startswith(beginning)]
                continue
            # Others delete here, too.
            with contextlib.suppress(FileNotFoundError):
                folders.append((path, os.stat(folder).st_mtime))
            for name in names:
                with contextlib.suppress(FileNotFoundError):
                    found = os.stat(f"{folder}/{name}")
                    files.append(StoredFile(f"{path}/{name}", found.st_size, found.st_mtime))
        return files, folders[::-1]

    def delete(self, path: str) -> None:
        """Unlinks it."""
        (self._root / path).unlink(missing_ok=True)

    def remove_if_empty(self, folder: str) -> None:
        """The file system refuses others."""
        with contextlib.suppress(OSError):
            (self._root / folder).rmdir()


def in_a_bucket(name: str | Path) -> bool:
    """Whether this table or file lies in an object store."""
    return str(name).startswith(URL)


def storage_of(table: str | Path) -> Storage:
    """The storage of a table.

    Args:
      table: Folder or `s3://` URL of the label table; need not exist.

    Raises:
      EnvironmentProblem: The settings of the object store cannot be used.
    """
    if not in_a_bucket(table):
        return Folder(table)
    from tfx_distill.labels.bucket import Bucket

    return Bucket(str(table))


def absolute(table: str | Path) -> str:
    """Name of a table that is the same from every working directory."""
    return str(table) if in_a_bucket(table) else str(Path(table).absolute())


def source(name: str) -> str | pa.NativeFile:
    """What pyarrow reads a file from, by its full name."""
    if not in_a_bucket(name):
        return name
    from tfx_distill.labels import bucket

    return bucket.opened(name)


def message_of(error: Exception) -> str:
    """What deltalake or pyarrow says of a failure: one line, without colours for a terminal."""
    return " ".join(_ANSI.sub("", str(error)).split())


def problem(name: str, error: Exception) -> EnvironmentProblem | None:
    """What to tell the user of a failure that is that of an object store; None if it is not.

    Args:
      name: Table or file that was used.
      error: What deltalake or pyarrow raised.
    """
    if not in_a_bucket(name):
        return None
    from tfx_distill.labels import bucket

    return bucket.problem(name, error)
