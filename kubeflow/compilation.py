"""From a run config to a compiled pipeline, without a look at the logs."""

from __future__ import annotations

from pathlib import Path

from tfx_distill.kubeflow import compiler, dag, records
from tfx_distill.kubeflow.containers import Target
from tfx_distill.kubeflow.parameters import declared_parameters
from tfx_distill.kubeflow.preparation import Plan
from tfx_distill.kubeflow.settings import runnable_settings
from tfx_distill.pipeline import graph, span_records
from tfx_distill.pipeline.session import Spans
from tfx_distill.schema.config import RunConfig
from tfx_distill.schema.errors import ConfigError


def compile_pipeline(
    config: RunConfig, target: Target, *, span: int | None = None, students_only: bool = False
) -> str:
    """The pipeline of one run as YAML.

    Args:
      config: The run config.
      target: Where it is to run.
      span: A later span of a stream; None for a batch or a bootstrap.
      students_only: Train students from the labels of another pipeline's teacher.

    Raises:
      ConfigError: The config cannot run there, or a later span has nothing to start from.
    """
    settings = runnable_settings(config, target)
    later = None if span is None else _later(config, span)
    earlier = records.read(config.run_folder)
    pipeline = graph.build(config, _source(later, students_only=students_only))
    plan = Plan(
        config=config.to_yaml(),
        digest=dag.digest(pipeline),
        later=later,
        students_only=students_only,
    )
    return compiler.compiled(
        config,
        settings,
        dag.tasks(pipeline, 0 if later is None else later.last, earlier),
        plan=plan.model_dump_json(),
        parameters=declared_parameters(config, later=later is not None),
        target=target,
    )


def _source(later: Spans | None, *, students_only: bool) -> graph.Input:
    """As much of a run's input as its graph depends on."""
    spans = later or Spans(0, 0)
    return graph.Input(
        first=spans.first,
        last=spans.last,
        fingerprint="",
        schema_file=Path("schema.pbtxt"),
        carried=spans.carried,
        age=spans.age,
        labels_version=0 if students_only else None,
    )


def _later(config: RunConfig, span: int) -> Spans:
    """A later span of a stream, as `stream` would run it.

    Raises:
      ConfigError: The bootstrap has not ended well, or the span is not the next one.
    """
    ended = span_records.read(config.run_folder)
    states = {number: span_records.state(record) for number, record in ended.items()}
    bootstrap = next(iter(ended), None)
    if bootstrap is None or states[bootstrap] == "failed" or config.stream is None:
        raise ConfigError(
            f"--span {span}",
            got=f"no bootstrap of {config.name} in {config.run_folder}",
            expected="one that has ended well",
            fix="Run the bootstrap on the cluster first: compile and submit without `--span`.",
        )
    newest = max(number for number, state in states.items() if state != "failed")
    if not bootstrap < span <= newest + 1 or (span <= newest and states[span] == "done"):
        raise ConfigError(
            f"--span {span}",
            got=f"a stream that has come to span {newest}",
            expected=f"{newest + 1}, the next span",
            fix="Submit the spans in order, each once.",
        )
    return Spans(span, span, carried=span - 1, age=span - bootstrap)
