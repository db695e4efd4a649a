"""One process at a time works in a run folder.

Files would survive two: ML Metadata, the label table and the records are written in transactions or
as a whole. What serves would not: a student that is blessed while a stream pushes a newer one would
be pushed over it, since whoever comes last serves.
"""

from __future__ import annotations

import fcntl
import os
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tfx_distill.schema.errors import EnvironmentProblem

FILE = "run.lock"


class FolderInUse(EnvironmentProblem):
    """Another process works in the run folder."""


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """Keeps other processes out of a run folder for as long as the `with` block lasts.

    The lock is the system's, not the file itself: it goes with the process, however that ends.

    Raises:
      FolderInUse: Another process is in it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / FILE).open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            raise FolderInUse(
                str(folder),
                got=file.read() or "another process at work in it",
                expected="a run folder in which nothing runs",
                fix="Wait until that process has ended, or stop it.",
            ) from None
        file.truncate(0)
        file.write(_who())
        file.flush()
        yield


def _who() -> str:
    """This process, in words for the others."""
    command = " ".join([Path(sys.argv[0]).name, *sys.argv[1:]])
    return f"process {os.getpid()} on {socket.gethostname()}, which runs `{command}`"
