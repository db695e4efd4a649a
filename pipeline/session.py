"""One run of a config on this machine, from the check of its data to the summary."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from tfx_distill.datasets import logs
from tfx_distill.pipeline import gathering, graph, local_runner, memory, summary
from tfx_distill.pipeline.meter import Meter
from tfx_distill.pipeline.side_processes import SideProcesses, available_cores
from tfx_distill.pipeline.span_records import PINNED
from tfx_distill.pipeline.summary import Summary
from tfx_distill.schema import tfmd
from tfx_distill.schema.config import RunConfig
from tfx_distill.schema.errors import ConfigError
from tfx_distill.trainer import device

RESOLVED = "config.yaml"


@dataclass(frozen=True)
class Spans:
    """The spans of one run: all of a batch or bootstrap, or one later span of a stream.

    Attributes:
      first: First span.
      last: Last span, on whose eval split the run is evaluated.
      carried: For a later span, the one before it, whose eval split is trained on now.
      age: For a later span, spans since the bootstrap.
    """

    first: int
    last: int
    carried: int | None = None
    age: int = 0

    @property
    def numbers(self) -> range:
        """All of them."""
        return range(self.first, self.last + 1)

    def __str__(self) -> str:
        return str(self.last) if self.first == self.last else f"{self.first}..{self.last}"


@dataclass(frozen=True)
class Done:
    """A run that has ended: its summary, which is also in the run folder, and the first error."""

    summary: Summary
    error: Exception | None


def run(
    config: RunConfig,
    *,
    spans: tuple[int, int] | None = None,
    until: str | None = None,
    start: Meter | None = None,
) -> tuple[Summary, Exception | None]:
    """Runs all spans as one batch; what was finished before and nothing changed is not done again.

    Args:
      config: What to run.
      spans: First and last span; all there are by default.
      until: Id of the last component to run.
      start: Measures since the start of the command; it is stopped at the first component.

    Returns:
      The summary, which is also in the run folder, and the first error.

    Raises:
      DistillError: Config or data cannot be used; nothing was done.
    """
    _refuse_folder_of_a_stream(config)
    chosen = logs.select_spans(config.data, spans)
    done = run_spans(config, Spans(chosen[0], chosen[-1]), until=until, start=start)
    if done is None:
        raise RuntimeError("a run that nobody stops has an end")
    return done.summary, done.error


def run_spans(
    config: RunConfig,
    spans: Spans,
    *,
    labels_version: int | None = None,
    until: str | None = None,
    stop: Callable[[], bool] = lambda: False,
    start: Meter | None = None,
) -> Done | None:
    """Runs the pipeline once.

    Args:
      config: What to run.
      spans: On which spans.
      labels_version: Without a teacher: the version of the label table to learn from.
      until: Id of the last component to run.
      stop: Asked before each component.
      start: As of `run`.

    Returns:
      What became of it; None if it was stopped.

    Raises:
      DistillError: Config or data cannot be used, or there is no GPU where the config wants one;
        nothing was done.
    """
    if config.trainer.workers == 1 or config.trainer.launch == "local":
        # Otherwise the GPUs are those of other machines.
        device.require(config.trainer.device)
    source = prepare(config, spans, labels_version=labels_version)
    pipeline = graph.build(config, source)
    if start is not None:
        start.stop()
    with _beside(config) as beside:
        outcome = local_runner.run(pipeline, until=until, stop=stop, beside=beside)
    if outcome.stopped:
        return None
    memory.settle()
    result = gathering.summarise(config, outcome, source, start)
    summary.write(result, config.run_folder)
    return Done(result, outcome.error)


@contextmanager
def _beside(config: RunConfig) -> Iterator[SideProcesses | None]:
    """Processes for the students of a run; None where this one does as well.

    A stream trains each model for a third of a second a span, with steps that were traced in this
    process for an earlier span.
    """
    models = 2 * len(config.students)
    count = min(config.trainer.parallel or available_cores(), models)
    if config.stream is not None or config.trainer.workers > 1 or count == 1:
        yield None
    else:
        with SideProcesses(count, config.run_folder) as processes:
            yield processes


def prepare(config: RunConfig, spans: Spans, *, labels_version: int | None = None) -> graph.Input:
    """Checks config and logs, and leaves config and schema in the run folder.

    Raises:
      DistillError: Config or data cannot be used.
    """
    if labels_version is None:
        _require_teacher_gate(config)
    folder = config.run_folder
    folder.mkdir(parents=True, exist_ok=True)
    settings = logs.LogConfig.of(config)
    chosen = logs.select_spans(config.data, (spans.first, spans.last))
    files = logs.split_files(config.data, chosen, carried=spans.carried)
    types = logs.column_types(settings, [*files["train"], *files["eval"]])
    logs.require_serving_values(config, types)
    (folder / RESOLVED).write_text(config.to_yaml())
    return graph.Input(
        first=spans.first,
        last=spans.last,
        fingerprint=logs.fingerprint(config.data, chosen, carried=spans.carried),
        schema_file=tfmd.write(tfmd.tfmd_schema(config, types), folder / "schema"),
        carried=spans.carried,
        age=spans.age,
        labels_version=labels_version,
    )


def _refuse_folder_of_a_stream(config: RunConfig) -> None:
    if (config.run_folder / PINNED).exists():
        raise ConfigError(
            "stream",
            got=f"a batch in the run folder of a stream, {config.run_folder}",
            expected="a run folder of its own: the stream would go on from its models",
            fix="Put the section 'stream' back, or give the batch another `name`.",
        )


def _require_teacher_gate(config: RunConfig) -> None:
    if config.gate.teacher:
        return
    raise ConfigError(
        "gate.teacher",
        got="no threshold",
        expected="at least one for every task: a teacher outside its bounds does not label",
        fix="Add thresholds, or use `--students-only` to learn from the labels of another "
        "pipeline's teacher.",
    )
