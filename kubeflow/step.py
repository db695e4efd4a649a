"""The command of every container: `python -m tfx_distill.kubeflow.step`."""

from __future__ import annotations

import shutil
import sys
import time
from pathlib import Path

import click
from tfx.types import artifact
from tfx.types.standard_artifacts import Examples, Model, PushedModel, TransformGraph

from tfx_distill.kubeflow import records
from tfx_distill.kubeflow.compiler import RUN
from tfx_distill.kubeflow.execution import Execution
from tfx_distill.kubeflow.executor import execute
from tfx_distill.kubeflow.finishing import finish
from tfx_distill.kubeflow.preparation import Plan, Prepared, prepare
from tfx_distill.kubeflow.records import Failure, Made, Record
from tfx_distill.pipeline import graph
from tfx_distill.pipeline.meter import Meter
from tfx_distill.pipeline.report_commands import after_run
from tfx_distill.pipeline.telling import explained
from tfx_distill.schema.errors import LabelsRefused, own_error

LARGE = (Examples, Model, TransformGraph, PushedModel)
"""Artifacts of which no copy is kept on the shared file system."""

EXECUTOR_INPUT = click.option(
    "--executor_input", required=True, callback=lambda context, option, text: Execution.parse(text)
)


@click.group()
def main() -> None:
    """Run one step of a compiled pipeline."""


@main.command("prepare")
@EXECUTOR_INPUT
@explained
def prepare_(executor_input: Execution) -> None:
    """Look at config and logs."""
    given = executor_input.parameter
    prepared = prepare(
        Plan.model_validate_json(given("plan")),
        given("run_id"),
        config_uri=given("config_uri"),
        seed=int(given("seed")),
        spans=given("spans", ""),
    )
    file = executor_input.path("outputs", RUN)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(prepared.model_dump_json(indent=1))
    executor_input.published({})


@main.command()
@click.option("--id", "component", required=True, help="Id of the component.")
@EXECUTOR_INPUT
@explained
def component(component: str, executor_input: Execution) -> None:
    """Run a component."""
    prepared = _prepared(executor_input)
    folder = prepared.run_config.run_folder
    records.begin(prepared.run, component, folder)
    try:
        record = run(component, prepared, executor_input)
    except Exception as error:
        own = own_error(error)
        failure = Failure(
            run=prepared.run,
            component=component,
            error=str(own or error),
            labels_refused=isinstance(own, LabelsRefused),
        )
        records.write_failure(failure, folder)
        if own is None:
            raise
        raise own from error
    records.write(record, folder)


@main.command("finish")
@EXECUTOR_INPUT
@explained
def finish_(executor_input: Execution) -> None:
    """Sum up the run; fails if a step did."""
    prepared = _prepared(executor_input)
    outcome = finish(prepared)
    after_run(prepared.run_config)
    executor_input.published({})
    for error in outcome.errors:
        click.echo(f"error: {error}", err=True)
    if outcome.errors:
        sys.exit(1)


def _prepared(execution: Execution) -> Prepared:
    return Prepared.model_validate_json(execution.path("inputs", RUN).read_text())


def run(component: str, prepared: Prepared, execution: Execution) -> Record:
    """Runs a component on the artifacts that the launcher brought.

    Args:
      component: Its id.
      prepared: What the run starts from.
      execution: What the launcher says of it; gets the outputs.
    """
    config = prepared.run_config
    pipeline = graph.build(config, prepared.source)
    (node,) = (node for node in pipeline.components if node.id == component)
    inputs = execution.inputs({key: channel.type for key, channel in node.inputs.items()})
    outputs = execution.outputs({key: channel.type for key, channel in node.outputs.items()})
    with Meter() as meter:
        made = execute(pipeline, component, prepared.run, inputs, outputs)
    stored = execution.published(made)
    kept = config.run_folder / "artifacts" / component
    return Record(
        run=prepared.run,
        component=component,
        inputs={key: tuple(item.id for item in items) for key, items in inputs.items()},
        outputs={
            key: (Made.of(item, _kept(made[key][0], kept / key)),)
            for key, (item,) in stored.items()
        },
        seconds=meter.seconds,
        cpu_seconds=meter.cpu_seconds,
        peak_mib=meter.peak_mib,
        finished=time.time(),
    )


def _kept(item: artifact.Artifact, folder: Path) -> Path | None:
    """A copy of a small artifact, where people and later runs find it."""
    if isinstance(item, LARGE):
        return None
    copy = folder / str(item.id)
    shutil.copytree(item.uri, copy)
    return copy


if __name__ == "__main__":
    main()
