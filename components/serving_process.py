"""A model in a process of its own: what `serving_probe` answers, and how it ends."""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

SCRIPT = Path(__file__).with_name("serving_probe.py")
START_SECONDS = 180.0
"""How long a probe may take to load TensorFlow and the model; a few seconds are usual."""
_END_SECONDS = 10
REPLY_SECONDS = 60.0
"""How long it may take to answer."""
_LAST_LINES = 3


class ProbeFailed(Exception):
    """A model cannot be served.

    Args:
      probe: Which process.
      reason: What it did, in words, with the last lines that it wrote to stderr.
    """

    def __init__(self, probe: Probe, reason: str) -> None:
        self.probe = probe
        self.reason = reason
        super().__init__(f"{probe.name}: {reason}")


class Probe:
    """A process with one model in it; it starts at once and is waited for in `version`.

    Args:
      name: What the model is called.
      folder: Of the SavedModel.
      requests: File of requests, see `serving_probe`.
      scratch: Empty folder in which the process runs.
    """

    def __init__(self, name: str, folder: str, requests: Path, scratch: Path) -> None:
        self.name = name
        self._scratch = scratch
        self._errors = scratch / "stderr"
        quiet = {"TF_CPP_MIN_LOG_LEVEL": "2", "CUDA_VISIBLE_DEVICES": "-1"}
        with self._errors.open("wb") as errors:
            self._process = subprocess.Popen(
                # -I: neither the current folder nor PYTHONPATH is searched for modules.
                [sys.executable, "-I", str(SCRIPT), str(Path(folder).resolve()), str(requests)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                cwd=scratch,
                env=os.environ | quiet,
                text=True,
            )
        commands, replies = self._process.stdin, self._process.stdout
        if commands is None or replies is None:
            raise RuntimeError("the process was started without pipes")
        self._commands, self._replies = commands, replies
        self._version: str | None = None

    def version(self) -> str:
        """The version of TensorFlow, when the model is loaded.

        Raises:
          ProbeFailed: It cannot be loaded.
        """
        if self._version is None:
            self._version = str(self._reply(START_SECONDS, "loading the model")["tensorflow"])
        return self._version

    def answers(self) -> dict[str, NDArray[Any]]:
        """The answers to all rows of the requests, by `<signature>/<task>`.

        Raises:
          ProbeFailed: The model cannot answer.
        """
        file = self._scratch / "answers.npz"
        self._ask(answers=str(file))
        with np.load(file) as answered:
            return {name: answered[name] for name in answered.files}

    def seconds(self, rows: int, number: int) -> float:
        """Wall seconds that the model took for a request of so many rows.

        Raises:
          ProbeFailed: The model cannot answer.
        """
        return float(self._ask(rows=rows, number=number)["seconds"])

    def __enter__(self) -> Probe:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate()

    def _ask(self, **command: Any) -> dict[str, Any]:
        self.version()
        try:
            print(json.dumps(command), file=self._commands, flush=True)
        except BrokenPipeError:
            raise self._failed("it ended between two requests") from None
        return self._reply(REPLY_SECONDS, "answering")

    def _reply(self, seconds: float, doing: str) -> dict[str, Any]:
        """The next line; there is never more than one to be read."""
        if not select.select([self._replies], [], [], seconds)[0]:
            self._process.kill()
            raise self._failed(f"it hung for {seconds:g} s while {doing}")
        line = self._replies.readline()
        if not line:
            raise self._failed(f"it ended while {doing}")
        reply: dict[str, Any] = json.loads(line)
        return reply

    def _failed(self, what: str) -> ProbeFailed:
        try:
            status = self._process.wait(timeout=_END_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            status = self._process.wait()
        lines = self._errors.read_text(errors="replace").splitlines()
        told = " | ".join([line.strip() for line in lines if line.strip()][-_LAST_LINES:])
        ended = f"signal {-status}" if status < 0 else f"exit status {status}"
        return ProbeFailed(self, f"{what} ({ended}). Its last words: {told or 'none'}")
