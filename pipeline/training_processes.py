"""Trains several models at the same time, each in a process of its own.

A student's step is so small that TensorFlow cannot keep two cores busy with it: two of them side by
side, with a core each, are done in little more time than one with both.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from types import TracebackType
from typing import Any

from tfx.orchestration.portable.python_executor_operator import PythonExecutorOperator
from tfx.orchestration.python_execution_binary import python_execution_binary_utils as binary
from tfx.proto.orchestration.executable_spec_pb2 import PythonClassExecutableSpec
from tfx.proto.orchestration.execution_result_pb2 import ExecutorOutput

from tfx_distill.pipeline import training_process
from tfx_distill.pipeline.training_process import Cost
from tfx_distill.schema.errors import EnvironmentProblem


class TrainingProcesses:
    """Processes that execute components; they start when they are needed, or by `warm`.

    Args:
      count: How many at the most; they share the cores evenly.
      log_folder: Where `run.log` is, to which they write.

    Attributes:
      costs: By component id, what its execution cost.
    """

    def __init__(self, count: int, log_folder: Path) -> None:
        self.costs: dict[str, Cost] = {}
        self._count = count
        self._is_warm = False
        self._pool = ProcessPoolExecutor(
            count,
            multiprocessing.get_context("spawn"),
            initializer=training_process.begin,
            initargs=(str(log_folder), max(1, available_cores() // count)),
        )

    def __enter__(self) -> TrainingProcesses:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.end()

    def end(self) -> None:
        """Ends the processes, whatever they are doing."""
        # What was asked for is done, or nobody waits for it; `shutdown` alone would.
        for process in list((self._pool._processes or {}).values()):
            process.terminate()
        self._pool.shutdown(cancel_futures=True)

    def warm(self) -> None:
        """Starts the processes; called again it does nothing."""
        if not self._is_warm:
            self._is_warm = True
            with contextlib.suppress(BrokenProcessPool):  # whoever trains next is told
                for _ in range(self._count):
                    self._pool.submit(training_process.warm)

    @property
    def operators(self) -> dict[Any, type[PythonExecutorOperator]]:
        """What TFX's launcher takes as `custom_executor_operators`."""
        processes = self

        class Operator(PythonExecutorOperator):
            """Executes in one of the processes what TFX's own executes in this one."""

            def run_executor(self, execution_info: Any) -> Any:
                given = (
                    binary.serialize_execution_info(execution_info),
                    binary.serialize_executable_spec(self._executor_spec),
                )
                name = execution_info.pipeline_node.node_info.id
                try:
                    output, cost = processes._pool.submit(training_process.execute, *given).result()
                except BrokenProcessPool:
                    raise EnvironmentProblem(
                        name,
                        got="a training process that died: it, or one beside it",
                        expected="memory for all models that are trained at the same time",
                        fix="Look for the end of the process in the system's log. Lower "
                        "trainer.parallel, then run again: what was finished is kept.",
                    ) from None
                processes.costs[name] = cost
                return ExecutorOutput.FromString(output)

        return {PythonClassExecutableSpec: Operator}


def available_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
