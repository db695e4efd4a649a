"""Several processes on this machine that train one model."""

from __future__ import annotations

import json
import logging
import os
import socket
import subprocess
import sys
import threading
import time
from contextlib import ExitStack
from pathlib import Path
from typing import IO

from tfx_distill.schema.errors import EnvironmentProblem
from tfx_distill.trainer import worker
from tfx_distill.trainer.course import Course, Trained

RESTARTS = 3
_LOG_LINES = 15
_CHECK_SECONDS = 0.1
_END_SECONDS = 10

_log = logging.getLogger(__name__)


def train(course: Course, folder: Path) -> Trained:
    """Trains by `trainer.workers` processes.

    When one dies the others are ended, and all begin again at the last checkpoint.

    Args:
      course: What to train.
      folder: For checkpoints and the workers' logs. Only the logs stay.

    Raises:
      DistillError: As `course.train`.
      EnvironmentProblem: Workers died again and again.
    """
    worker.assign(folder, course)
    count, shown = course.job.workers, course.job.title
    died: int | None = None
    for start in range(1 + RESTARTS):
        if start:
            _log.warning("%s: worker %s died; all go on from the last epoch", shown, died)
        died = _attempt(folder, count, shown)
        trained = worker.collected(folder)
        if trained is not None:
            return trained
    raise EnvironmentProblem(
        f"training of {shown} by {count} workers",
        got=f"worker {died} died {1 + RESTARTS} times, the last time after:\n"
        + _last_lines(_log_file(folder, died or 0)),
        expected="workers that train to the end",
        fix=f"See {folder}/worker-*.log; memory that is short is freed by fewer workers "
        "(trainer.workers).",
    )


def _attempt(folder: Path, count: int, title: str) -> int | None:
    """Runs the workers until all have ended or one has died; returns which one."""
    addresses = [f"127.0.0.1:{port}" for port in _free_ports(count)]
    with ExitStack() as stack:
        processes = [
            stack.enter_context(_Worker(folder, number, addresses, title))
            for number in range(count)
        ]
        while True:
            ended = [process.status() for process in processes]
            for number, status in enumerate(ended):
                if status:
                    return number
            if None not in ended:
                return None
            time.sleep(_CHECK_SECONDS)


class _Worker:
    """A worker's process; at the end of the context it is gone."""

    def __init__(self, folder: Path, number: int, addresses: list[str], title: str) -> None:
        cluster = {"cluster": {"worker": addresses}, "task": {"type": "worker", "index": number}}
        # Its standard input is a pipe: where this process is killed, the worker ends too.
        self._process = subprocess.Popen(
            [sys.executable, "-m", worker.__name__, str(folder)],
            env=os.environ | {"TF_CONFIG": json.dumps(cluster)},
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
        )
        self._reader = threading.Thread(
            target=self._read, args=(_log_file(folder, number), f"  {title}"), daemon=True
        )
        self._reader.start()

    def status(self) -> int | None:
        """The exit status; None while it runs."""
        return self._process.poll()

    def _read(self, log: Path, shown: str) -> None:
        """Keeps what it says, and shows the lines about its progress."""
        stream: IO[str] = self._process.stderr  # type: ignore[assignment]
        with log.open("a") as file:
            for line in stream:
                file.write(line)
                file.flush()
                if line.startswith(shown):
                    print(line, end="", file=sys.stderr, flush=True)

    def __enter__(self) -> _Worker:
        return self

    def __exit__(self, *_: object) -> None:
        # In a collective operation it would wait for the others and heed nothing milder.
        self._process.kill()
        self._process.wait(_END_SECONDS)
        self._reader.join(_END_SECONDS)
        if self._process.stdin is not None:
            self._process.stdin.close()


def _free_ports(count: int) -> list[int]:
    with ExitStack() as stack:
        found = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in found:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in found]


def _log_file(folder: Path, number: int) -> Path:
    return folder / f"worker-{number}.log"


def _last_lines(file: Path) -> str:
    return "\n".join(file.read_text(errors="replace").splitlines()[-_LOG_LINES:])
