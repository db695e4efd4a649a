"""A model in a process of its own: what `serving_probe` answers, and how it ends."""

from __future__ import annotations

import json
import select
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tfx_distill.components.serving_forks import Fork

if TYPE_CHECKING:
    from numpy.typing import NDArray

SCRIPT = Path(__file__).with_name("serving_probe.py")
LOAD_SECONDS = 120.0
"""How long a probe may take to load the model; about a second is usual."""
REPLY_SECONDS = 60.0
"""How long it may take to answer."""
TRIAL_SECONDS = 900.0
"""How long all of a trial may take: slow answers are many."""
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
        with self._errors.open("wb") as errors:
            arguments = [str(Path(folder).resolve()), str(requests)]
            self._process = Fork(SCRIPT, arguments, scratch, errors)
        self._version: str | None = None
        self._deadline = time.monotonic() + TRIAL_SECONDS

    def version(self) -> str:
        """The version of TensorFlow, when the model is loaded.

        Raises:
          ProbeFailed: It cannot be loaded.
        """
        if self._version is None:
            self._version = str(self._reply(LOAD_SECONDS, "loading the model")["tensorflow"])
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
        self._process.close()

    def _ask(self, **command: Any) -> dict[str, Any]:
        self.version()
        try:
            print(json.dumps(command), file=self._process.commands, flush=True)
        except BrokenPipeError:
            raise self._failed("it ended between two requests") from None
        return self._reply(REPLY_SECONDS, "answering")

    def _reply(self, seconds: float, doing: str) -> dict[str, Any]:
        """The next line; there is never more than one to be read."""
        replies = self._process.replies
        seconds = max(0, min(seconds, self._deadline - time.monotonic()))
        if not select.select([replies], [], [], seconds)[0]:
            raise self._failed(f"it hung for {seconds:.0f} s while {doing}")
        line = replies.readline()
        if not line:
            raise self._failed(f"it ended while {doing}")
        reply: dict[str, Any] = json.loads(line)
        return reply

    def _failed(self, what: str) -> ProbeFailed:
        status = self._process.end()
        lines = self._errors.read_text(errors="replace").splitlines()
        told = " | ".join([line.strip() for line in lines if line.strip()][-_LAST_LINES:])
        ended = f"signal {-status}" if status < 0 else f"exit status {status}"
        return ProbeFailed(self, f"{what} ({ended}). Its last words: {told or 'none'}")
