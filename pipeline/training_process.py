"""What happens inside a process that trains beside others, see `training_processes`.

Nothing heavy is imported here before the log is diverted: TensorFlow would write to the terminal.
"""

from __future__ import annotations

import io
import os
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path

from tfx_distill.pipeline import run_log
from tfx_distill.pipeline.meter import Meter


@dataclass(frozen=True)
class Cost:
    """What one training cost its process: wall and CPU seconds, peak resident memory in MiB."""

    seconds: float
    cpu_seconds: float
    peak_mib: float


def begin(log_folder: str, threads: int) -> None:
    """Prepares a process: its log, its share of the cores, its end."""
    run_log.divert(Path(log_folder), rotate=False)
    # Lines of several trainings would overwrite each other.
    sys.stderr = _Lines(sys.stderr.fileno())
    _end_with_parent()
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(threads)


class _Lines(io.TextIOWrapper):
    """The terminal as a place for whole lines."""

    def __init__(self, descriptor: int) -> None:
        super().__init__(os.fdopen(os.dup(descriptor), "wb"), line_buffering=True)

    def isatty(self) -> bool:
        """Nothing is to be overwritten here."""
        return False


def _end_with_parent() -> None:
    """A run that is killed leaves no training behind that would go on writing."""
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def execute(execution_info: str, executable: str) -> tuple[bytes, Cost]:
    """Executes a component as TFX does; both arguments as TFX writes them for its processes."""
    from tfx.orchestration.portable.python_executor_operator import PythonExecutorOperator
    from tfx.orchestration.python_execution_binary import python_execution_binary_utils as binary

    operator = PythonExecutorOperator(binary.deserialize_executable_spec(executable))
    with Meter() as meter:
        output = operator.run_executor(binary.deserialize_execution_info(execution_info))
    return output.SerializeToString(), Cost(meter.seconds, meter.cpu_seconds, meter.peak_mib)
