"""The commands of a stream: `distill watch`, `status`, `backfill` and `labels`."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from tfx_distill.pipeline import telling
from tfx_distill.pipeline.report_commands import after_run
from tfx_distill.schema.errors import ConfigError

if TYPE_CHECKING:
    from tfx_distill.pipeline.session import Done
    from tfx_distill.schema.config import RunConfig

STUDENTS_ONLY = click.option(
    "--students-only",
    is_flag=True,
    help="Train students from the labels that another pipeline writes to labels.table.",
)


def process(
    config: RunConfig, spans: tuple[int, int] | None, log: Path, *, students_only: bool
) -> None:
    """`distill run` on a stream: every pending span; exits with 1 if something failed."""
    from tfx_distill.pipeline import stopping, stream

    with stopping.on_signals() as stop:
        runs = stream.run(config, spans=spans, students_only=students_only, stop=stop)
        count, failed = _show(runs, config, log, command="run")
        if stop.asked:
            click.echo("Stopped. `distill run` goes on from here.", err=True)
    if not count and not stop.asked:
        standing = stream.progress(config, students_only=students_only)
        waiting = f" Waiting: {standing.waiting}." if standing.waiting else ""
        click.echo(f"Nothing to do: all complete spans are processed.{waiting}")
    if failed:
        sys.exit(1)


@click.command()
@telling.CONFIG
@STUDENTS_ONLY
@click.option("--poll", default=10.0, show_default=True, help="Seconds between looks.")
@telling.explained
def watch(config_file: Path, students_only: bool, poll: float) -> None:
    """Process each span of a stream as soon as it is complete, until a signal comes."""
    config = _loaded(config_file)
    require_own_run_folder(config, students_only=students_only)
    log = telling.diverted(config)
    from tfx_distill.pipeline import stopping, stream

    with stopping.on_signals() as stop:
        runs = stream.watch(
            config,
            students_only=students_only,
            poll_seconds=poll,
            stop=stop,
            waiting=lambda reason: click.echo(f"Waiting for {reason}", err=True),
        )
        _show(runs, config, log, command="watch")
        if not stop.asked:
            # A span stopped the stream: somebody has to look.
            sys.exit(1)
    click.echo("Stopped. `distill watch` goes on from here.", err=True)


@click.command()
@telling.CONFIG
@STUDENTS_ONLY
@telling.explained
def status(config_file: Path, students_only: bool) -> None:
    """Say where a stream stands: spans, teacher, labels, and what serves."""
    config = _loaded(config_file)
    from rich.console import Console

    from tfx_distill.pipeline import status as state

    state.show(state.status(config, students_only=students_only), Console())


@click.command()
@telling.CONFIG
@click.option("--labels", is_flag=True, help="What to fill in: teacher labels.")
@click.option("--spans", metavar="A..B", required=True, help="First and last span.")
@click.option("--teacher", metavar="VERSION", required=True, help="As `distill labels show` says.")
@telling.explained
def backfill(config_file: Path, labels: bool, spans: str, teacher: str) -> None:
    """Label processed spans again, with another teacher."""
    if not labels:
        raise ConfigError(
            "backfill",
            got="nothing to fill in",
            expected="--labels",
            fix="Add --labels: it is the only thing that can be filled in.",
        )
    config = _loaded(config_file)
    chosen = telling.spans(spans)
    telling.keep_out_others(config)
    log = telling.diverted(config)
    from tfx_distill.pipeline import backfill as filling

    if chosen is None:
        raise ValueError("--spans is required")
    model = filling.chosen(config, teacher)
    for span, found in filling.backfill(config, chosen, model):
        if isinstance(found, Exception):
            telling.failed(found, log, telling.resumed_by("backfill"))
            sys.exit(1)
        click.echo(f"span {span}: labelled by teacher {model.version}, {found}")
        if model.span >= span:
            click.secho(
                f"  That teacher was trained on span {span}: its labels are overconfident there.",
                fg="yellow",
            )


@click.group()
def labels() -> None:
    """Look at a label table, and keep it small."""


@labels.command("show")
@telling.CONFIG
@telling.explained
def show_labels(config_file: Path) -> None:
    """List the labellings in the table: span, teacher, rows, quality."""
    config = _loaded(config_file)
    from rich.console import Console
    from rich.table import Table

    from tfx_distill.labels import catalogue

    _require_table(config)
    table = Table()
    titles = ("span", "teacher", "version", "train", "eval", "staleness h", "MiB")
    for title in titles:
        table.add_column(title, justify="right")
    for one in catalogue.labellings(config.label_table):
        hours = (one.quality or {}).get("staleness_mean_hours")
        table.add_row(
            str(one.span),
            f"{one.provenance.teacher_version} ({one.teacher})",
            str(one.version),
            *(f"{one.rows.get(split, 0):,}" for split in ("train", "eval")),
            "-" if hours is None else f"{hours:.1f}",
            f"{one.size / 2**20:.1f}",
        )
    Console().print(table)


@labels.command("vacuum")
@telling.CONFIG
@telling.explained
def vacuum(config_file: Path) -> None:
    """Delete the files of expired spans, and what crashed labellings left behind."""
    config = _loaded(config_file)
    from tfx_distill.labels import retention

    _require_table(config)
    found = retention.vacuum(config.label_table)
    click.echo(f"Deleted {len(found.files)} files, {found.bytes / 2**20:.1f} MiB")


@labels.command("compact")
@telling.CONFIG
@telling.explained
def compact(config_file: Path) -> None:
    """Merge the small files of each partition, and the log of the table."""
    config = _loaded(config_file)
    from tfx_distill.labels import retention

    _require_table(config)
    found = retention.compact(config.label_table)
    click.echo(f"Replaced {found.replaced} small files by {found.written}")


def require_own_run_folder(config: RunConfig, *, students_only: bool) -> None:
    """Refuses a students-only run in the folder of the teacher's pipeline, or without a table.

    Raises:
      ConfigError: It would share the metadata of the teacher's pipeline.
    """
    if not students_only:
        return
    from tfx_distill.labels.storage import absolute

    if config.labels.table is None:
        raise ConfigError(
            "labels.table",
            got="nothing",
            expected="the folder of the label table that the teacher's pipeline writes",
            fix="Name it; it is `<root>/<name>/labels` there, unless its config says otherwise.",
        )
    if absolute(config.label_table) == absolute(config.run_folder / "labels"):
        raise ConfigError(
            "name",
            got=f"{config.name!r}, the name of the teacher's pipeline",
            expected="a name of its own: students only keep their own metadata",
            fix="Copy the config and give it another name, and another push.directory.",
        )


def _show(runs: Iterable[Done], config: RunConfig, log: Path, *, command: str) -> tuple[int, bool]:
    """Shows and reports each run as it ends; how many there were, and whether anything failed."""
    from rich.console import Console

    from tfx_distill.pipeline import summary

    count, failed = 0, False
    for done in runs:
        count += 1
        summary.show(done.summary, Console())
        if done.error is not None:
            failed = True
            telling.failed(done.error, log, telling.resumed_by(command))
        after_run(config)
    return count, failed


def _loaded(config_file: Path) -> RunConfig:
    from tfx_distill.schema import config as run_config

    return run_config.load(config_file)


def _require_table(config: RunConfig) -> None:
    from tfx_distill.labels.storage import storage_of

    if not storage_of(config.label_table).is_table():
        raise ConfigError(
            config.label_table,
            got="no label table",
            expected="the label table of this config",
            fix="Run the pipeline first, or correct labels.table.",
        )
