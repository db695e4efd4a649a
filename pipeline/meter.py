"""What a piece of work costs: wall time and its phases, CPU time and memory."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterable
from types import TracebackType

from tfx_distill.pipeline import phases


class Meter:
    """What this process spends within a `with` block, or from `start` to `stop`.

    Attributes:
      seconds: Wall time.
      cpu_seconds: CPU time, also of children that ended meanwhile.
      peak_mib: Largest resident memory, in MiB.
      phases: Seconds of the wall time by phase (`phases.PHASES`), to some hundredths; the rest of
        `seconds` was work.
    """

    _EVERY_SECONDS = 0.05

    def __init__(self) -> None:
        self.seconds = 0.0
        self.cpu_seconds = 0.0
        self.peak_mib = 0.0
        self.phases = dict.fromkeys(phases.PHASES, 0.0)
        self._done = threading.Event()

    def start(self) -> Meter:
        """Begins to measure, for the thread that calls."""
        self._wall, self._cpu = time.monotonic(), _cpu_seconds()
        self._thread = threading.get_ident()
        self._watcher = threading.Thread(target=self._watch, daemon=True)
        self._watcher.start()
        return self

    def stop(self) -> None:
        """Ends it."""
        self._done.set()
        self._watcher.join()
        self.seconds = time.monotonic() - self._wall
        self.cpu_seconds = _cpu_seconds() - self._cpu

    def __enter__(self) -> Meter:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def _watch(self) -> None:
        # The kernel's own high-water mark cannot be reset without privileges, so sample.
        seen = self._wall
        while True:
            # First: reading a file lets the other threads go on.
            seen = self._add_phase(seen)
            self.peak_mib = max(self.peak_mib, resident_mib())
            if self._done.wait(self._EVERY_SECONDS):
                return

    def _add_phase(self, seen: float) -> float:
        """Adds the time since `seen` to the phase that there is now, and returns now."""
        # Not the interval: what does not let go of the interpreter, as many imports, delays this.
        phase, now = phases.now(self._thread), time.monotonic()
        if phase is not None:
            self.phases[phase] += now - seen
        return now


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
