"""Processes with TensorFlow alone, forked from one that has imported it; see the script."""

from __future__ import annotations

import atexit
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, Any

SCRIPT = Path(__file__).with_name("serving_fork_server.py")
START_SECONDS = 180.0
"""How long the server may take to import TensorFlow; a few seconds are usual."""
_MESSAGE_BYTES = 1 << 16
_QUIET = {
    "TF_CPP_MIN_LOG_LEVEL": "2",
    "CUDA_VISIBLE_DEVICES": "-1",
    # A process with one thread is forked; a session has threads of its own.
    "OPENBLAS_NUM_THREADS": "1",
}


class Fork:
    """A process that runs a script.

    Args:
      script: A Python script.
      arguments: Of the script.
      folder: In which it runs.
      errors: What it writes to stderr.

    Attributes:
      commands: Its stdin.
      replies: Its stdout.
    """

    def __init__(
        self, script: Path, arguments: Sequence[str], folder: Path, errors: IO[bytes]
    ) -> None:
        self._server = _server()
        stdin, commands = os.pipe()
        replies, stdout = os.pipe()
        self.commands = os.fdopen(commands, "w")
        self.replies = os.fdopen(replies)
        try:
            self._pid = self._server.ask(
                [stdin, stdout, errors.fileno()],
                script=str(script),
                arguments=list(arguments),
                folder=str(folder),
            )["pid"]
        finally:
            os.close(stdin)
            os.close(stdout)
        self._status: int | None = None

    def end(self) -> int:
        """Kills the process unless it has ended: its exit status, negative for a signal."""
        if self._status is None:
            # Until the server is asked, the number belongs to no other process.
            os.kill(self._pid, signal.SIGKILL)
            self._status = int(self._server.ask(ended=self._pid)["status"])
        return self._status

    def close(self) -> None:
        """Ends the process and closes its pipes."""
        self.end()
        self.replies.close()
        with suppress(BrokenPipeError):  # a command was not read
            self.commands.close()


class _ForkServer:
    """The process that has imported TensorFlow; it ends with this one."""

    def __init__(self) -> None:
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._socket.settimeout(START_SECONDS)
        self._errors = TemporaryFile()  # noqa: SIM115  # closed in `stop`
        self._turn = threading.Lock()
        with theirs:
            self._process = subprocess.Popen(
                # -I: neither the current folder nor PYTHONPATH is searched for modules.
                [sys.executable, "-I", str(SCRIPT), str(theirs.fileno())],
                stdin=subprocess.DEVNULL,
                stdout=self._errors,
                stderr=self._errors,
                env=os.environ | _QUIET,
                pass_fds=[theirs.fileno()],
                # Ctrl-C asks this process for a clean stop; a trial goes on meanwhile.
                start_new_session=True,
            )
        atexit.register(self.stop)

    def ask(self, descriptors: Sequence[int] = (), **message: Any) -> dict[str, Any]:
        """Sends a message, and returns the answer.

        Raises:
          RuntimeError: The server has ended, or does not answer.
        """
        with self._turn:
            try:
                socket.send_fds(self._socket, [json.dumps(message).encode()], descriptors)
                answer = self._socket.recv(_MESSAGE_BYTES)
            except OSError as error:
                raise RuntimeError(self._words(str(error))) from error
        if not answer:
            raise RuntimeError(self._words("it ended"))
        read: dict[str, Any] = json.loads(answer)
        return read

    @property
    def runs(self) -> bool:
        """Whether it has not ended."""
        return self._process.poll() is None

    def stop(self) -> None:
        """Ends the server; processes that it forked read the end of their stdin."""
        self._socket.close()
        self._process.kill()
        self._process.wait()
        self._errors.close()

    def _words(self, what: str) -> str:
        self._errors.seek(0)
        said = self._errors.read().decode(errors="replace").strip()
        return f"The process that imports TensorFlow for trials: {what}. Its output: {said}"


_started: _ForkServer | None = None


def _server() -> _ForkServer:
    """The one of this process, started when it is first needed."""
    global _started
    if _started is None or not _started.runs:
        _started = _ForkServer()
    return _started
