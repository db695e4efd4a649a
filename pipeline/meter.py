"""What a piece of work costs: wall time, CPU time and memory."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterable
from types import TracebackType


class Meter:
    """Wall time, CPU time and peak resident memory of this process within a `with` block."""

    _EVERY_SECONDS = 0.05

    def __init__(self) -> None:
        self.seconds = 0.0
        self.cpu_seconds = 0.0
        self.peak_mib = 0.0
        self._done = threading.Event()

    def __enter__(self) -> Meter:
        self._wall, self._cpu = time.monotonic(), _cpu_seconds()
        self._watcher = threading.Thread(target=self._watch, daemon=True)
        self._watcher.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._done.set()
        self._watcher.join()
        self.seconds = time.monotonic() - self._wall
        self.cpu_seconds = _cpu_seconds() - self._cpu

    def _watch(self) -> None:
        # The kernel's own high-water mark cannot be reset without privileges, so sample.
        while True:
            self.peak_mib = max(self.peak_mib, resident_mib())
            if self._done.wait(self._EVERY_SECONDS):
                return


def _cpu_seconds() -> float:
    times = os.times()
    return sum((times.user, times.system, times.children_user, times.children_system))


def resident_mib() -> float:
    """Resident memory of this process in MiB; 0 where the system does not say."""
    for line in _status():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    return 0.0


def _status() -> Iterable[str]:
    try:
        with open("/proc/self/status") as status:
            return status.readlines()
    except OSError:  # not Linux
        return []
