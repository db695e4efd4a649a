"""Runs a pipeline on this machine, one component after the other, and notes what each one costs.

The loop is that of TFX's LocalDagRunner with three differences: it prints progress, it meters time
and memory, and it goes on after a failed component with those that do not need it, so that one
failing student stops nobody else.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

from ml_metadata.proto.metadata_store_pb2 import Execution
from tfx.dsl.compiler import compiler, constants
from tfx.orchestration import metadata
from tfx.orchestration.local import runner_utils
from tfx.orchestration.pipeline import Pipeline
from tfx.orchestration.portable import launcher, runtime_parameter_utils

from tfx_distill.schema.errors import ConfigError

_log = logging.getLogger(__name__)

State = Literal["ran", "cached", "failed", "skipped"]


@dataclass(frozen=True)
class Step:
    """What became of one component.

    Attributes:
      component: Its id.
      state: `cached`: an earlier run's outputs were used; `skipped`: something it needs failed.
      seconds: Wall time.
      cpu_seconds: CPU time of this process and its children.
      peak_mib: Largest resident memory of this process meanwhile, in MiB.
      error: Why it failed, in words.
    """

    component: str
    state: State
    seconds: float = 0.0
    cpu_seconds: float = 0.0
    peak_mib: float = 0.0
    error: str | None = None


@dataclass(frozen=True)
class Outcome:
    """What became of a run: its id in ML Metadata, its steps, and the errors in their order.

    `stopped` says that it was asked to stop before all components had run.
    """

    run_id: str
    steps: tuple[Step, ...]
    errors: tuple[Exception, ...] = ()
    stopped: bool = False

    @property
    def error(self) -> Exception | None:
        """The first one."""
        return self.errors[0] if self.errors else None


def run(
    pipeline: Pipeline,
    *,
    until: str | None = None,
    stop: Callable[[], bool] = lambda: False,
    report: Callable[[str], None] = lambda line: print(line, file=sys.stderr, flush=True),
) -> Outcome:
    """Runs all components, or those that `until` needs and itself.

    Args:
      pipeline: What to run; its metadata must be a SQLite file.
      until: Id of the last component to run.
      stop: Asked before each component; what is running is always finished.
      report: Takes the lines of the progress.

    Raises:
      ConfigError: There is no component `until`.
    """
    ir = compiler.Compiler().compile(pipeline)
    run_id = datetime.now(timezone.utc).strftime("%Y%m%dT%H%M%S.%fZ")
    runtime_parameter_utils.substitute_runtime_parameter(
        ir, {constants.PIPELINE_RUN_ID_PARAMETER_NAME: run_id}
    )
    deployment = runner_utils.extract_local_deployment_config(ir)
    kind = deployment.metadata_connection_config.WhichOneof("connection_config")
    connection = getattr(deployment.metadata_connection_config, kind)
    Path(connection.sqlite.filename_uri).parent.mkdir(parents=True, exist_ok=True)
    nodes = _needed([node.pipeline_node for node in ir.nodes], until)
    for node in nodes:
        _leave_out_pipeline_context(node)
    steps: list[Step] = []
    broken: set[str] = set()
    errors: list[Exception] = []
    for number, node in enumerate(nodes, 1):
        if stop():
            return Outcome(run_id, tuple(steps), tuple(errors), stopped=True)
        name = node.node_info.id
        title = f"[{number}/{len(nodes)}] {name}"
        if broken & set(node.upstream_nodes):
            broken.add(name)
            steps.append(Step(name, "skipped"))
            report(f"{title}: skipped, it needs what failed")
            continue
        report(title)
        meter = Meter()
        found, error = None, None
        with meter:
            try:
                info = launcher.Launcher(
                    pipeline_node=node,
                    mlmd_connection=metadata.Metadata(connection),
                    pipeline_info=ir.pipeline_info,
                    pipeline_runtime_spec=ir.runtime_spec,
                    executor_spec=runner_utils.extract_executor_spec(deployment, name),
                    custom_driver_spec=runner_utils.extract_custom_driver_spec(deployment, name),
                ).launch()
                found = _last_state(connection, info)
                if found == Execution.FAILED:
                    # TFX logs what keeps it from resolving a node's inputs, and raises nothing.
                    raise RuntimeError(f"the inputs of {name} could not be resolved")
            except Exception as caught:  # noqa: BLE001 (whatever it is, the others go on)
                error = caught
                _log.exception("%s failed", name)
        state: State = "failed" if error else "ran"
        if error is None and found == Execution.CACHED:
            state = "cached"
        steps.append(
            Step(
                name,
                state,
                meter.seconds,
                meter.cpu_seconds,
                meter.peak_mib,
                None if error is None else str(error),
            )
        )
        if error is not None:
            broken.add(name)
            errors.append(error)
            report(f"{title}: failed")
        else:
            was = "from cache, " if state == "cached" else ""
            report(f"{title}: {was}{meter.seconds:.1f} s, peak {meter.peak_mib:,.0f} MiB")
    return Outcome(run_id, tuple(steps), tuple(errors))


def _leave_out_pipeline_context(node: Any) -> None:
    """Lets the inputs of a node be looked for among the executions of their producers alone.

    TFX reads all executions of each context of an input and intersects them; those of the pipeline
    grow with every run, and they hold those of a node or of a run in any case.
    """
    for spec in node.inputs.inputs.values():
        for channel in spec.channels:
            narrow = [q for q in channel.context_queries if q.type.name != "pipeline"]
            if narrow:
                del channel.context_queries[:]
                channel.context_queries.extend(narrow)


def _needed(nodes: list[Any], until: str | None) -> list[Any]:
    """The nodes that `until` needs, in their order, or all."""
    if until is None:
        return nodes
    by_id = {node.node_info.id: node for node in nodes}
    if until not in by_id:
        raise ConfigError(
            "--until",
            got=repr(until),
            expected=f"one of {', '.join(by_id)}",
            fix="Name a component of this pipeline.",
        )
    kept: set[str] = set()
    waiting = [until]
    while waiting:
        name = waiting.pop()
        if name not in kept:
            kept.add(name)
            waiting += by_id[name].upstream_nodes
    return [node for node in nodes if node.node_info.id in kept]


def _last_state(connection: Any, info: Any) -> Any:
    if info is None or info.execution_id is None:
        return None
    with metadata.Metadata(connection) as handle:
        (found,) = handle.store.get_executions_by_id([info.execution_id])
    return found.last_known_state


class Meter:
    """Wall time, CPU time and peak resident memory of this process within a `with` block."""

    _EVERY_SECONDS = 0.05

    def __init__(self) -> None:
        self.seconds = 0.0
        self.cpu_seconds = 0.0
        self.peak_mib = 0.0
        self._done = threading.Event()

    def __enter__(self) -> Meter:
        self._wall, self._cpu = time.monotonic(), _cpu_seconds()
        self._watcher = threading.Thread(target=self._watch, daemon=True)
        self._watcher.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._done.set()
        self._watcher.join()
        self.seconds = time.monotonic() - self._wall
        self.cpu_seconds = _cpu_seconds() - self._cpu

    def _watch(self) -> None:
        # The kernel's own high-water mark cannot be reset without privileges, so sample.
        while True:
            self.peak_mib = max(self.peak_mib, resident_mib())
            if self._done.wait(self._EVERY_SECONDS):
                return


def _cpu_seconds() -> float:
    times = os.times()
    return sum((times.user, times.system, times.children_user, times.children_system))


def resident_mib() -> float:
    """Resident memory of this process in MiB; 0 where the system does not say."""
    for line in _status():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    return 0.0


def _status() -> Iterable[str]:
    try:
        with open("/proc/self/status") as status:
            return status.readlines()
    except OSError:  # not Linux
        return []
