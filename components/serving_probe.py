"""Serves a SavedModel with TensorFlow alone, and times itself; run as a script, never imported.

Usage: serving_probe.py FOLDER REQUESTS

FOLDER is the SavedModel. REQUESTS is an .npz file of serialised TensorProtos, one a feature, named
`raw/<feature>`, and `examples`, the same rows as serialised tf.Examples.

`serving_fork_server` runs it, where nothing else can be imported. It reads commands and answers
them, each a line of JSON:

- at the start, without a command: `{"tensorflow": VERSION}` when the model is loaded, and has
  answered all rows once;
- `{"answers": FILE}`: `{}`, when all rows were answered into an .npz file of `<signature>/<task>`;
- `{"rows": N, "number": K}`: `{"seconds": S}`, what request K of N rows took.

The model is loaded into a Session, as a C++ server does it: the graphs of its signatures only.
`tf.saved_model.load` takes twice as long, and adds Python's share to the time of each request.
"""

from __future__ import annotations

import gc
import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

RAW = "serving_raw"
DEFAULT = "serving_default"


class Server:
    """A SavedModel in a Session, with requests at hand."""

    def __init__(self, folder: str, requests: str) -> None:
        import numpy as np
        import tensorflow as tf

        tf.compat.v1.logging.set_verbosity(tf.compat.v1.logging.ERROR)
        self._session = tf.compat.v1.Session(graph=tf.Graph())
        with self._session.graph.as_default():
            model = tf.compat.v1.saved_model.load(self._session, ["serve"], folder)
        self._signatures = model.signature_def
        with np.load(requests) as file:
            self._rows = {name: _tensor(file[name]) for name in file.files}
        self._raw, self._columns = self._callable(RAW)
        self._total = len(self._rows["examples"])
        # The first request optimises the graph; the processes of two models do so side by side.
        self._raw(*self._columns)

    def _callable(self, signature: str) -> tuple[Callable[..., dict[str, Any]], list[Any]]:
        """A signature as a function of arrays, and its arguments for all rows."""
        found = self._signatures[signature]
        inputs, outputs = sorted(found.inputs), sorted(found.outputs)
        names = inputs if signature == DEFAULT else [f"raw/{name}" for name in inputs]
        missing = [name for name in names if name not in self._rows]
        if missing:
            sys.exit(f"The model takes {missing}, which the features of the config lack.")
        run = self._session.make_callable(
            [found.outputs[name].name for name in outputs],
            [found.inputs[name].name for name in inputs],
        )
        return lambda *arrays: dict(zip(outputs, run(*arrays), strict=True)), [
            self._rows[name] for name in names
        ]

    def answers(self, file: str) -> None:
        """Answers all rows, by each signature for servers."""
        import numpy as np

        answered: dict[str, Any] = {}
        for name, (call, columns) in {
            RAW: (self._raw, self._columns),
            DEFAULT: self._callable(DEFAULT),
        }.items():
            answered |= {f"{name}/{task}": out for task, out in call(*columns).items()}
        np.savez(file, **answered)

    def seconds(self, rows: int, number: int) -> float:
        """Wall seconds of one request, from arrays to arrays.

        Args:
          rows: How many items it has; the rows at hand are taken in turns, over and over.
          number: Which request.
        """
        import numpy as np

        chosen = np.arange(number * rows, (number + 1) * rows) % self._total
        arrays = [column[chosen] for column in self._columns]
        started = time.perf_counter()
        self._raw(*arrays)
        return time.perf_counter() - started


def _tensor(proto: Any) -> Any:
    import tensorflow as tf
    from tensorflow.core.framework import tensor_pb2

    return tf.make_ndarray(tensor_pb2.TensorProto.FromString(proto.tobytes()))


def _commands() -> Iterator[dict[str, Any]]:
    for line in sys.stdin:
        yield json.loads(line)


def main(folder: str, requests: str) -> None:
    """Answers commands until there are no more."""
    # A copy of stdout, which whatever the libraries print must not get into.
    replies = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    import tensorflow as tf

    def reply(content: dict[str, Any]) -> None:
        print(json.dumps(content), file=replies, flush=True)

    server = Server(folder, requests)
    # Servers of models have no pauses of Python's.
    gc.disable()
    reply({"tensorflow": tf.__version__})
    for command in _commands():
        if "answers" in command:
            server.answers(command["answers"])
            reply({})
        else:
            reply({"seconds": server.seconds(command["rows"], command["number"])})


if __name__ == "__main__":
    main(*sys.argv[1:])
