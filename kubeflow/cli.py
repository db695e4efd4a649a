"""The command `distill` with all its commands: those of a local machine, and `distill kubeflow`."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from tfx_distill.kubeflow.options import PARAMETERS, TARGET, parsed
from tfx_distill.kubeflow.submission import schedule, submit
from tfx_distill.pipeline.cli import main
from tfx_distill.pipeline.telling import CONFIG, explained
from tfx_distill.schema.errors import ConfigError

if TYPE_CHECKING:
    from tfx_distill.kubeflow.containers import Target
    from tfx_distill.kubeflow.local_cluster import Command

__all__ = ["main"]

_QUIET = {
    "TF_CPP_MIN_LOG_LEVEL": "3",
    "PYTHONWARNINGS": "ignore::FutureWarning:google.api_core._python_version_support",
}
"""Silences what libraries say at import, as the image does."""


@main.group()
def kubeflow() -> None:
    """Run the pipeline on Kubeflow Pipelines or Vertex AI."""


for command in (submit, schedule):
    kubeflow.add_command(command)


@kubeflow.command("compile")
@CONFIG
@TARGET
@click.option(
    "--output",
    type=click.Path(path_type=Path, dir_okay=False),
    required=True,
    help="A YAML file.",
)
@click.option("--span", type=int, help="A later span of a stream; left out for its bootstrap.")
@click.option("--students-only", is_flag=True, help="Learn from another pipeline's labels.")
@explained
def compile_(
    config_file: Path, target: str, output: Path, span: int | None, students_only: bool
) -> None:
    """Compile the pipeline of one run."""
    from tfx_distill.kubeflow.settings import runnable_settings
    from tfx_distill.schema import config as run_config

    config = run_config.load(config_file)
    on: Target = "kfp" if target == "kfp" else "vertex"
    # It takes ten seconds to import TFX: what can be refused without it is.
    runnable_settings(config, on)
    if not output.parent.is_dir():
        raise ConfigError(
            "--output",
            got=f"a file in {output.parent}, which is no folder",
            expected="a file in a folder that exists",
            fix=f"mkdir -p {output.parent}",
        )
    from tfx_distill.kubeflow.compilation import compile_pipeline

    text = compile_pipeline(config, on, span=span, students_only=students_only)
    output.write_text(text)
    click.echo(f"{output}: compiled for {target}")


@kubeflow.command("run-local")
@click.argument("file", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@TARGET
@click.option(
    "--into", type=click.Path(path_type=Path), required=True, help="Stands for the object store."
)
@PARAMETERS
@click.option("--containers", is_flag=True, help="Run each step in a container of its image.")
@click.option("--podman", default="podman", show_default=True, help="What runs containers.")
@explained
def run_local(
    file: Path,
    target: str,
    into: Path,
    parameters: tuple[str, ...],
    containers: bool,
    podman: str,
) -> None:
    """Run a compiled pipeline on this machine, each step by its compiled command."""
    from tfx_distill.kubeflow.local_cluster import LocalCluster
    from tfx_distill.kubeflow.podman import podman_runner

    if containers and target == "vertex":
        raise ConfigError(
            "--containers",
            got="a pipeline for Vertex AI, which does not say what its containers mount",
            expected="one that was compiled for Kubeflow Pipelines",
            fix="Compile it with `--target kfp`, or leave --containers out.",
        )
    cluster = LocalCluster(
        into,
        runner=podman_runner(podman) if containers else in_process_of_its_own,
        target="kfp" if target == "kfp" else "vertex",
        pipeline_root="gs://local" if target == "vertex" else "minio://local",
        report=lambda line: click.echo(line, err=True),
    )
    given = parsed(parameters)
    states = cluster.run(file.read_text(), given)
    failed = [task for task, state in states.items() if state != "succeeded"]
    if failed:
        click.secho(f"error: failed or skipped: {', '.join(failed)}", fg="red", err=True)
        sys.exit(1)
    click.echo(f"{len(states)} steps succeeded; their artifacts are in {cluster.store}")


def in_process_of_its_own(command: Command) -> int:
    """Runs a step with this interpreter."""
    from tfx_distill.kubeflow import uris

    program, *arguments = command.arguments
    return subprocess.run(
        [sys.executable if program == "python" else program, *arguments],
        env={**_QUIET, **os.environ, **command.environment, uris.ROOT: str(command.synced)},
        check=False,
    ).returncode
