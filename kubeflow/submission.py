"""The commands that hand a pipeline to a cluster: `distill kubeflow submit` and `schedule`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tfx_distill.kubeflow.options import PARAMETERS, TARGET, parsed
from tfx_distill.pipeline.stream_commands import STUDENTS_ONLY, require_own_run_folder
from tfx_distill.pipeline.telling import CONFIG, explained

if TYPE_CHECKING:
    from tfx_distill.kubeflow.connection import Connection
    from tfx_distill.kubeflow.service import Service
    from tfx_distill.schema.config import RunConfig

ATTEMPTS = click.option(
    "--attempts",
    type=click.IntRange(min=1),
    default=3,
    show_default=True,
    help="How often a run that fails is tried.",
)


def connection_options(command: Callable[..., None]) -> Callable[..., None]:
    """The options that say where pipelines run: the fields of `Connection`."""
    for option in (
        click.option("--region", help="Of Vertex AI."),
        click.option("--project", help="On Google Cloud, for Vertex AI."),
        click.option("--service-account", help="As which the steps run."),
        click.option("--namespace", help="Of the runs, where users share an installation."),
        click.option(
            "--host", envvar="KF_PIPELINES_ENDPOINT", help="Address of Kubeflow Pipelines."
        ),
        TARGET,
    ):
        command = option(command)
    return command


def _reached(
    config_file: Path, students_only: bool, where: dict[str, Any]
) -> tuple[RunConfig, Connection, Service]:
    """The config, where its runs go, and the client of that; before TFX is imported."""
    from tfx_distill.kubeflow.connection import Connection
    from tfx_distill.kubeflow.settings import runnable_settings
    from tfx_distill.schema import config as run_config

    config = run_config.load(config_file)
    require_own_run_folder(config, students_only=students_only)
    connection = Connection(**where)
    service = connection.service(config)
    runnable_settings(config, connection.target)
    return config, connection, service


@click.command()
@CONFIG
@connection_options
@click.option("--span", metavar="N|next", help="A later span of a stream, or whatever is next.")
@STUDENTS_ONLY
@PARAMETERS
@ATTEMPTS
@explained
def submit(
    config_file: Path,
    span: str | None,
    students_only: bool,
    parameters: tuple[str, ...],
    attempts: int,
    **where: Any,
) -> None:
    """Compile a run and begin it on a cluster, unless it was begun before."""
    config, connection, service = _reached(config_file, students_only, where)
    given = parsed(parameters)
    from tfx_distill.kubeflow import submitting

    order = submitting.Order(config, connection.target, students_only, given, attempts)
    click.echo(submitting.words(submitting.submit(service, order, span)))


@click.command()
@CONFIG
@connection_options
@click.option(
    "--cron", required=True, help="Five fields of Unix, in UTC: '0 * * * *' is every hour."
)
@click.option(
    "--cluster-host",
    default="http://ml-pipeline.kubeflow:8888",
    show_default=True,
    help="Address of Kubeflow Pipelines as the steps see it.",
)
@click.option("--config-uri", default="", help="A config there, to be read each time instead.")
@STUDENTS_ONLY
@ATTEMPTS
@explained
def schedule(
    config_file: Path,
    cron: str,
    cluster_host: str,
    config_uri: str,
    students_only: bool,
    attempts: int,
    **where: Any,
) -> None:
    """Have a cluster submit what is next of a stream, again and again."""
    config, connection, service = _reached(config_file, students_only, where)
    from tfx_distill.kubeflow import scheduler

    turn = scheduler.Turn(
        config=config.to_yaml(),
        connection=connection.model_copy(update={"host": cluster_host}),
        students_only=students_only,
        attempts=attempts,
    )
    found = scheduler.schedule(service, config, turn, config_uri, cron)
    click.echo(f"{found.schedule.name}: {found.change}, {found.schedule.link}")
