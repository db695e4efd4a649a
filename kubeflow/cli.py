"""The command `distill` with all its commands: those of a local machine, and `distill kubeflow`."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from tfx_distill.pipeline.cli import main
from tfx_distill.pipeline.telling import CONFIG, explained
from tfx_distill.schema.errors import ConfigError

if TYPE_CHECKING:
    from tfx_distill.kubeflow.local_cluster import Command

__all__ = ["main"]

TARGET = click.option(
    "--target",
    type=click.Choice(["kfp", "vertex"]),
    default="kfp",
    show_default=True,
    help="Open-source Kubeflow Pipelines, or Vertex AI.",
)


@main.group()
def kubeflow() -> None:
    """Run the pipeline on Kubeflow Pipelines or Vertex AI."""


@kubeflow.command("compile")
@CONFIG
@TARGET
@click.option("--output", type=click.Path(path_type=Path), required=True, help="A YAML file.")
@click.option("--span", type=int, help="A later span of a stream; left out for its bootstrap.")
@click.option("--students-only", is_flag=True, help="Learn from another pipeline's labels.")
@explained
def compile_(
    config_file: Path, target: str, output: Path, span: int | None, students_only: bool
) -> None:
    """Compile the pipeline of one run."""
    from tfx_distill.kubeflow.compilation import compile_pipeline
    from tfx_distill.schema import config as run_config

    text = compile_pipeline(
        run_config.load(config_file),
        "kfp" if target == "kfp" else "vertex",
        span=span,
        students_only=students_only,
    )
    output.write_text(text)
    click.echo(f"{output}: compiled for {target}")


@kubeflow.command("run-local")
@click.argument("file", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@TARGET
@click.option(
    "--into", type=click.Path(path_type=Path), required=True, help="Stands for the object store."
)
@click.option(
    "--parameter", "parameters", metavar="NAME=VALUE", multiple=True, help="Of the run; repeatable."
)
@explained
def run_local(file: Path, target: str, into: Path, parameters: tuple[str, ...]) -> None:
    """Run a compiled pipeline on this machine, each step by its compiled command."""
    from tfx_distill.kubeflow.local_cluster import LocalCluster

    cluster = LocalCluster(
        into,
        runner=in_process_of_its_own,
        target="kfp" if target == "kfp" else "vertex",
        pipeline_root="gs://local" if target == "vertex" else "minio://local",
        report=lambda line: click.echo(line, err=True),
    )
    given = dict(_parameter(text) for text in parameters)
    states = cluster.run(file.read_text(), given)
    failed = [task for task, state in states.items() if state != "succeeded"]
    if failed:
        click.secho(f"error: failed or skipped: {', '.join(failed)}", fg="red", err=True)
        sys.exit(1)
    click.echo(f"{len(states)} steps succeeded")


def in_process_of_its_own(command: Command) -> int:
    """Runs a step with this interpreter."""
    from tfx_distill.kubeflow import uris

    program, *arguments = command.arguments
    return subprocess.run(
        [sys.executable if program == "python" else program, *arguments],
        env=os.environ | {uris.ROOT: str(command.synced)},
        check=False,
    ).returncode


def _parameter(text: str) -> tuple[str, str | int]:
    name, equals, value = text.partition("=")
    if not equals:
        raise ConfigError(
            "--parameter",
            got=repr(text),
            expected="NAME=VALUE",
            fix="Write for example seed=1.",
        )
    return name, int(value) if name == "seed" else value
