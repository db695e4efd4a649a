"""Runs a pipeline on this machine, one component after the other, and notes what each one costs.

The loop is that of TFX's LocalDagRunner with four differences: it prints progress, it meters time
and memory, it goes on after a failed component with those that do not need it, so that one failing
student stops nobody else, and it works on several students at the same time where it is told to.
"""

from __future__ import annotations

import logging
import sys
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Literal

from ml_metadata.proto.metadata_store_pb2 import Execution
from tfx.dsl.compiler import compiler, constants
from tfx.orchestration import metadata
from tfx.orchestration.local import runner_utils
from tfx.orchestration.pipeline import Pipeline
from tfx.orchestration.portable import launcher, runtime_parameter_utils

from tfx_distill.components.model_evaluator import ModelEvaluator
from tfx_distill.components.promotion_gate import PromotionGate
from tfx_distill.components.serving_validator import ServingValidator
from tfx_distill.components.student_trainer import StudentTrainer
from tfx_distill.pipeline.meter import Meter
from tfx_distill.pipeline.side_process import Cost
from tfx_distill.pipeline.side_processes import SideProcesses
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
      cpu_seconds: CPU time of the process that executed it, and of its children.
      peak_mib: Largest resident memory of that process meanwhile, in MiB.
      error: Why it failed, in words.
      phases: Seconds of the wall time by phase, see `phases.PHASES`; the rest was work.
    """

    component: str
    state: State
    seconds: float = 0.0
    cpu_seconds: float = 0.0
    peak_mib: float = 0.0
    error: str | None = None
    phases: Mapping[str, float] = field(default_factory=dict)


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
    beside: SideProcesses | None = None,
    report: Callable[[str], None] = lambda line: print(
        f"{line}\n", end="", file=sys.stderr, flush=True
    ),
) -> Outcome:
    """Runs all components, or those that `until` needs and itself.

    Args:
      pipeline: What to run; its metadata must be a SQLite file.
      until: Id of the last component to run.
      stop: Asked before each component; what is running is always finished.
      beside: Where students and twins are trained, side by side, and all students but the last
        evaluated and judged; everything runs one after the other in this process if not given.
      report: Takes the lines of the progress.

    Raises:
      ConfigError: There is no component `until`.
    """
    doing = _Run(pipeline, until, beside, report)
    stopped = False
    with ThreadPoolExecutor(max(1, len(doing.nodes))) as background:
        try:
            for node in doing.nodes:
                # What has begun is finished, here and in the background.
                if stopped := stop():
                    break
                doing.begin(node, background)
        except BaseException:
            # Interrupted: the end of this block would wait for what is done beside this process.
            background.shutdown(wait=False, cancel_futures=True)
            if beside is not None:
                beside.end()
            raise
    steps, errors = doing.results()
    return Outcome(doing.id, steps, errors, stopped)


Result = tuple[Step, "Exception | None"]


class _Run:
    """One run of a pipeline: what there is to do, and what became of it so far."""

    def __init__(
        self,
        pipeline: Pipeline,
        until: str | None,
        beside: SideProcesses | None,
        report: Callable[[str], None],
    ) -> None:
        self._ir = compiler.Compiler().compile(pipeline)
        self.id = datetime.now(timezone.utc).strftime("%Y%m%dT%H%M%S.%fZ")
        runtime_parameter_utils.substitute_runtime_parameter(
            self._ir, {constants.PIPELINE_RUN_ID_PARAMETER_NAME: self.id}
        )
        self._deployment = runner_utils.extract_local_deployment_config(self._ir)
        kind = self._deployment.metadata_connection_config.WhichOneof("connection_config")
        self._connection = getattr(self._deployment.metadata_connection_config, kind)
        Path(self._connection.sqlite.filename_uri).parent.mkdir(parents=True, exist_ok=True)
        self.nodes = _needed([node.pipeline_node for node in self._ir.nodes], until)
        for node in self.nodes:
            _leave_out_pipeline_context(node)
        self._beside = beside
        self._aside_ids = _aside_ids(self.nodes) if beside is not None else frozenset()
        self._report = report
        self._begun: dict[str, Future[Result]] = {}
        # One writer of the metadata at a time.
        self._metadata = threading.Lock()

    def begin(self, node: Any, background: ThreadPoolExecutor) -> None:
        """Runs a node, or has it run in the background, once all that it needs has ended.

        Whoever measures how fast a model answers waits for all that runs in the background.
        """
        is_trial = node.node_info.type.name == ServingValidator.get_class_type()
        for name in self._begun if is_trial else node.upstream_nodes:
            if name in self._begun:
                self._begun[name].result()
        if self._aside(node) is None:
            ended: Future[Result] = Future()
            ended.set_result(self._run(node))
        else:
            ended = background.submit(self._run, node)
        self._begun[node.node_info.id] = ended

    def results(self) -> tuple[tuple[Step, ...], tuple[Exception, ...]]:
        """What became of the nodes, in their order, and their errors."""
        every = [ended.result() for ended in self._begun.values()]
        return tuple(s for s, _ in every), tuple(e for _, e in every if e is not None)

    def _aside(self, node: Any) -> SideProcesses | None:
        """Where a node runs that does not run here."""
        return self._beside if node.node_info.id in self._aside_ids else None

    def _has_failed(self, name: str) -> bool:
        if name not in self._begun:
            return False
        step, _ = self._begun[name].result()
        return step.state in ("failed", "skipped")

    def _run(self, node: Any) -> Result:
        name = node.node_info.id
        number = 1 + next(k for k, other in enumerate(self.nodes) if other is node)
        title = f"[{number}/{len(self.nodes)}] {name}"
        if any(self._has_failed(other) for other in node.upstream_nodes):
            self._report(f"{title}: skipped, it needs what failed")
            return Step(name, "skipped"), None
        self._report(title)
        found, error = None, None
        with Meter() as meter:
            try:
                found = self._launched(node)
            except Exception as caught:  # noqa: BLE001 (whatever it is, the others go on)
                error = caught
                _log.exception("%s failed", name)
        state: State = "failed" if error else "cached" if found == Execution.CACHED else "ran"
        if state == "ran" and self._beside is not None and self._aside_ids:
            # Not all comes from the cache: while this process reads and transforms, others start.
            self._beside.warm()
        cost: Meter | Cost = meter
        if self._beside is not None:
            cost = self._beside.costs.get(name, meter)
        if error is not None:
            self._report(f"{title}: failed")
        else:
            was = "from cache, " if state == "cached" else ""
            self._report(f"{title}: {was}{cost.seconds:.1f} s, peak {cost.peak_mib:,.0f} MiB")
        told = None if error is None else str(error)
        spent = (cost.seconds, cost.cpu_seconds, cost.peak_mib)
        return Step(name, state, *spent, told, cost.phases), error

    def _launched(self, node: Any) -> Any:
        """The state of a node's execution after it was launched."""
        name = node.node_info.id
        aside = self._aside(node)
        info = _Launcher(
            self._metadata,
            pipeline_node=node,
            mlmd_connection=metadata.Metadata(self._connection),
            pipeline_info=self._ir.pipeline_info,
            pipeline_runtime_spec=self._ir.runtime_spec,
            executor_spec=runner_utils.extract_executor_spec(self._deployment, name),
            custom_driver_spec=runner_utils.extract_custom_driver_spec(self._deployment, name),
            custom_executor_operators=None if aside is None else aside.operators,
        ).launch()
        with self._metadata:
            found = _last_state(self._connection, info)
        if found == Execution.FAILED:
            # TFX logs what keeps it from resolving a node's inputs, and raises nothing.
            raise RuntimeError(f"the inputs of {name} could not be resolved")
        return found


class _Launcher(launcher.Launcher):
    """TFX's launcher, which lets others at the metadata while its component executes."""

    def __init__(self, lock: threading.Lock, **arguments: Any) -> None:
        super().__init__(**arguments)
        self._lock = lock

    def launch(self) -> Any:
        with self._lock:
            return super().launch()

    def _run_executor(self, execution_info: Any) -> Any:
        self._lock.release()
        try:
            return super()._run_executor(execution_info)
        finally:
            self._lock.acquire()


def _aside_ids(nodes: list[Any]) -> frozenset[str]:
    """Which nodes run beside this process.

    All trainings of students and twins. Of evaluations, and of gates, that follow each other, those
    of several students, all but the last: that one runs here, where the models are loaded.
    """
    kinds = [node.node_info.type.name for node in nodes]
    training = StudentTrainer.get_class_type()
    shared = {ModelEvaluator.get_class_type(), PromotionGate.get_class_type()}
    return frozenset(
        node.node_info.id
        for node, kind, following in zip(nodes, kinds, [*kinds[1:], ""], strict=True)
        if kind == training or (kind in shared and following == kind)
    )


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
