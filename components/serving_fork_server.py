"""Forks processes that have imported TensorFlow and nothing else; run as a script, never imported.

Usage: python -I serving_fork_server.py SOCKET

SOCKET is the number of an open socket of type SOCK_SEQPACKET. Each message is a JSON object:

- `{"script": FILE, "arguments": [...], "folder": FOLDER}`, with three file descriptors, runs a
  Python script in a process of its own, in that folder, with these as stdin, stdout and stderr.
  Answered by `{"pid": N}`.
- `{"ended": N}`, when a process was killed or has closed its stdout: `{"status": S}`, the exit
  status, negative for a signal. A process keeps its number until it was asked after.

The end of the socket is the end of this process. Importing TensorFlow takes seconds, a fork takes
milliseconds. A forked process is as good as a fresh one, since TensorFlow starts its threads with
the first session, which this process never has.
"""

from __future__ import annotations

import json
import os
import runpy
import socket
import sys
import traceback
from typing import Any

FOREIGN = ("tfx", "tfx_bsl", "tfx_distill", "tensorflow_transform", "tensorflow_model_analysis")
"""What a model server does not have: a model that needs one of these cannot be served."""
SLOW = ("keras", "tf_keras", "scipy", "jax", "googleapiclient")
"""What TensorFlow imports if it is there, in seconds, and can do without."""
_MESSAGE_BYTES = 1 << 16


def serve(requests: socket.socket) -> None:
    """Answers messages until there are no more."""
    while True:
        data, descriptors, _, _ = socket.recv_fds(requests, _MESSAGE_BYTES, 3)
        if not data:
            return
        message = json.loads(data)
        if "ended" in message:
            _, status = os.waitpid(message["ended"], 0)
            answer = {"status": os.waitstatus_to_exitcode(status)}
        else:
            answer = {"pid": _fork(message, descriptors, requests)}
        requests.send(json.dumps(answer).encode())


def _fork(message: dict[str, Any], descriptors: list[int], requests: socket.socket) -> int:
    pid = os.fork()
    if not pid:
        requests.close()
        _run(message, descriptors)
    for descriptor in descriptors:
        os.close(descriptor)
    return pid


def _run(message: dict[str, Any], descriptors: list[int]) -> None:
    """Runs the script, and ends the process without the clean-up of its parent's libraries."""
    status = 0
    try:
        for standard, descriptor in enumerate(descriptors):
            os.dup2(descriptor, standard)
            os.close(descriptor)
        os.chdir(message["folder"])
        sys.argv = [message["script"], *message["arguments"]]
        runpy.run_path(message["script"], run_name="__main__")
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else int(end.code is not None)
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)
    except BaseException:  # noqa: BLE001  # as the interpreter does
        traceback.print_exc()
        status = 1
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def main(number: str) -> None:
    """Imports TensorFlow, without what a server lacks, and waits for messages."""
    for name in (*FOREIGN, *SLOW):
        sys.modules[name] = None  # type: ignore[assignment]  # any import of it fails

    import tensorflow  # noqa: F401  # what the forks find imported

    serve(socket.socket(fileno=int(number)))


if __name__ == "__main__":
    main(sys.argv[1])
