"""What happens inside a process that executes components beside others, see `side_processes`.

Nothing heavy is imported here before the log is diverted: TensorFlow would write to the terminal.
"""

from __future__ import annotations

import io
import multiprocessing
import os
import sys
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tfx_distill.pipeline import run_log
from tfx_distill.pipeline.meter import Meter


@dataclass(frozen=True)
class Cost:
    """What one component cost its process; see `meter.Meter`."""

    seconds: float
    cpu_seconds: float
    peak_mib: float
    phases: Mapping[str, float] = field(default_factory=dict)


def begin(log_folder: str, threads: int, environment: Mapping[str, str]) -> None:
    """Prepares a process: its environment, its log, its share of the cores, its end."""
    os.environ.clear()
    os.environ.update(environment)
    run_log.divert(Path(log_folder), rotate=False)
    # Lines of several components would overwrite each other.
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
    """A run that is killed leaves nothing behind that would go on writing."""
    # Not the parent by number: that is the process that forks, and it lives as long as this one.
    run = multiprocessing.parent_process()

    def watch() -> None:
        if run is not None:
            run.join()
            os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def execute(execution_info: str, executable: str, uses_beam: bool) -> tuple[bytes, Cost]:
    """Executes a component as TFX does.

    Args:
      execution_info: As TFX writes it for its processes.
      executable: Likewise.
      uses_beam: Of which kind the executable is.
    """
    with Meter() as meter:
        from tfx.orchestration.portable.beam_executor_operator import BeamExecutorOperator
        from tfx.orchestration.portable.python_executor_operator import PythonExecutorOperator
        from tfx.orchestration.python_execution_binary import (
            python_execution_binary_utils as binary,
        )

        from tfx_distill.pipeline import memory

        spec = binary.deserialize_executable_spec(executable, with_beam=uses_beam)
        operator = BeamExecutorOperator(spec) if uses_beam else PythonExecutorOperator(spec)
        output = operator.run_executor(binary.deserialize_execution_info(execution_info))
    memory.settle()
    cost = Cost(meter.seconds, meter.cpu_seconds, meter.peak_mib, meter.phases)
    return output.SerializeToString(), cost
