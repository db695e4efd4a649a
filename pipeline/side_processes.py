"""Components of several students at the same time, each in a process of its own.

A student's step is so small that TensorFlow cannot keep two cores busy with it, and an evaluation
is mostly Python: two of them side by side are done in little more time than one.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import forkserver
from pathlib import Path
from types import TracebackType
from typing import Any

from tfx.orchestration.portable.base_executor_operator import BaseExecutorOperator
from tfx.orchestration.portable.beam_executor_operator import BeamExecutorOperator
from tfx.orchestration.portable.python_executor_operator import PythonExecutorOperator
from tfx.orchestration.python_execution_binary import python_execution_binary_utils as binary
from tfx.proto.orchestration.executable_spec_pb2 import (
    BeamExecutableSpec,
    PythonClassExecutableSpec,
)
from tfx.proto.orchestration.execution_result_pb2 import ExecutorOutput

from tfx_distill.pipeline import side_process
from tfx_distill.pipeline.side_process import Cost
from tfx_distill.schema.errors import EnvironmentProblem


class SideProcesses:
    """Processes that execute components, forked when they are needed.

    What forks them is a process that stays until this one ends, see `side_imports`. While libraries
    are imported they see the environment of its start; what is executed sees that of the caller.

    Args:
      count: How many at the most; they share the cores evenly.
      log_folder: Where `run.log` is, to which they write.

    Attributes:
      costs: By component id, what its execution cost.
    """

    def __init__(self, count: int, log_folder: Path) -> None:
        self.costs: dict[str, Cost] = {}
        # Forked from a process that has imported everything and done nothing.
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(["tfx_distill.pipeline.side_imports"])
        threads = max(1, available_cores() // count)
        self._pool = ProcessPoolExecutor(
            count,
            context,
            initializer=side_process.begin,
            initargs=(str(log_folder), threads, dict(os.environ)),
        )

    def __enter__(self) -> SideProcesses:
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
        """Starts the process that forks the others; does not wait for what it imports."""
        with contextlib.suppress(OSError):  # whoever executes next is told
            forkserver.ensure_running()

    @property
    def operators(self) -> dict[Any, type[BaseExecutorOperator]]:
        """What TFX's launcher takes as `custom_executor_operators`."""
        processes = self

        class Operator(PythonExecutorOperator):
            """Executes in one of the processes what TFX's own executes in this one."""

            def run_executor(self, execution_info: Any) -> Any:
                return processes._executed(execution_info, self._executor_spec)

        class BeamOperator(BeamExecutorOperator):
            """The same for a component that uses Beam."""

            def run_executor(self, execution_info: Any, make_beam_pipeline_fn: Any = None) -> Any:
                return processes._executed(execution_info, self._executor_spec)

        return {PythonClassExecutableSpec: Operator, BeamExecutableSpec: BeamOperator}

    def _executed(self, execution_info: Any, executable: Any) -> Any:
        name = execution_info.pipeline_node.node_info.id
        given = (
            binary.serialize_execution_info(execution_info),
            binary.serialize_executable_spec(executable),
            isinstance(executable, BeamExecutableSpec),
        )
        try:
            try:
                submitted = self._pool.submit(side_process.execute, *given)
            except (EOFError, OSError) as error:  # of the process that forks
                raise BrokenProcessPool from error
            output, cost = submitted.result()
        except BrokenProcessPool:
            raise EnvironmentProblem(
                name,
                got="a process that died: the one of this component, or one beside it",
                expected="memory for all models that are trained or evaluated at the same time",
                fix="Look for the end of the process in the system's log. Lower "
                "trainer.parallel, then run again: what was finished is kept.",
            ) from None
        self.costs[name] = cost
        return ExecutorOutput.FromString(output)


def available_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
