"""Which phase a process is in, told from the stacks of its threads.

What a component does besides its work on examples is inside of TFX, Beam and TensorFlow, where no
timer of ours can be. But a stack names the functions that are being executed, and a few of them
stand for a phase. So whoever looks at the stacks at regular times, as `meter.Meter` does, learns
where the time goes.
"""

from __future__ import annotations

import gc
import sys
import threading
from collections.abc import Iterator
from types import CodeType, FrameType

IMPORTS, BOOKKEEPING, BEAM_GRAPH = "imports", "bookkeeping", "Beam graph"
TRACING, MODELS = "tracing", "SavedModels"
PHASES = (IMPORTS, BOOKKEEPING, BEAM_GRAPH, TRACING, MODELS)
"""Phases that do not grow with the examples. The rest of the time is work.

`bookkeeping` is what TFX does around the executor of a component: it resolves its inputs, looks
for a cached result and registers the outputs. `Beam graph` is making a Beam pipeline and
translating it, not running it. `tracing` turns Python functions into TensorFlow graphs.
`SavedModels` is loading and writing them.
"""

_WORK = ""
_LAUNCHER = "tfx/orchestration/portable/launcher.py"
_OPERATOR = "tfx/orchestration/portable/python_executor_operator.py"
_PROCESSES = "pipeline/side_processes.py"
_BEAM = "apache_beam/pipeline.py"
_BEAM_RUNNER = "apache_beam/runners/portability/fn_api_runner/fn_runner.py"
_MARKS = {
    ("_find_and_load", "<frozen importlib._bootstrap>"): IMPORTS,
    ("launch", _LAUNCHER): BOOKKEEPING,
    ("run_with_executor", _OPERATOR): _WORK,
    ("_executed", _PROCESSES): _WORK,
    ("apply", _BEAM): BEAM_GRAPH,
    ("to_runner_api", _BEAM): BEAM_GRAPH,
    ("create_stages", _BEAM_RUNNER): BEAM_GRAPH,
    ("func_graph_from_py_func", "tensorflow/python/framework/func_graph.py"): TRACING,
    ("load_partial", "tensorflow/python/saved_model/load.py"): MODELS,
    ("save_and_return_nodes", "tensorflow/python/saved_model/save.py"): MODELS,
}
_NAMES = frozenset(name for name, _ in _MARKS)
_turn = threading.Lock()


def of(frame: FrameType | None) -> str | None:
    """The phase of a stack; None for work, and where nothing tells.

    Args:
      frame: The innermost frame. The innermost one that tells decides: an import while a graph is
        traced is an import.
    """
    for code in _codes(frame):
        # Most frames are dismissed by their names: this is done often.
        if code.co_name in _NAMES:
            for (name, file), phase in _MARKS.items():
                if code.co_name == name and code.co_filename.endswith(file):
                    return phase or None
    return None


def now(thread: int) -> str | None:
    """The phase of this process at this moment; None for work.

    Args:
      thread: Identifier of the thread that works. Where its own stack does not tell, those of the
        others do: Beam works in threads, and the first one waits for them. Bookkeeping of
        another thread is that of another component, which is executed in another process.
    """
    stacks = _stacks()
    first = of(stacks.pop(thread, None))
    if first is not None:
        return first
    others = (of(stack) for stack in stacks.values())
    return next((phase for phase in others if phase not in (None, BOOKKEEPING)), None)


def _stacks() -> dict[int, FrameType]:
    """The innermost frame of each thread.

    On Python 3.11 the frames are allocated under a lock of the interpreter, and an allocation may
    collect garbage, whose finalizers may wait for this lock, or let in a thread that does
    (python/cpython#106883): the process hangs for ever. So nothing is collected meanwhile. Whoever
    else disables the collection in these microseconds finds it enabled again.
    """
    with _turn:  # else another caller would enable what this one disabled
        enabled = gc.isenabled()
        gc.disable()
        try:
            return sys._current_frames()
        finally:
            if enabled:
                gc.enable()


def _codes(frame: FrameType | None) -> Iterator[CodeType]:
    while frame is not None:
        yield frame.f_code
        frame = frame.f_back
