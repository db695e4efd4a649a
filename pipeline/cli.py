"""The command `distill`.

TFX takes seconds to import: each command imports what it needs when it runs.
"""

from __future__ import annotations

import os
import sys
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import click

from tfx_distill.pipeline import telling
from tfx_distill.pipeline.bless_command import bless
from tfx_distill.pipeline.meter import Meter
from tfx_distill.pipeline.report_commands import after_run, report, serve_report
from tfx_distill.pipeline.stream_commands import (
    STUDENTS_ONLY,
    backfill,
    labels,
    process,
    require_own_run_folder,
    status,
    watch,
)
from tfx_distill.pipeline.telling import CONFIG, SPANS, explained
from tfx_distill.schema.errors import ConfigError

if TYPE_CHECKING:
    from tfx_distill.schema.config import RunConfig


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="tfx-distill")
def main() -> None:
    """Knowledge distillation for ranking models, as a TFX pipeline."""
    # Before TensorFlow is loaded: what its C++ side and Google's clients say at import is not for
    # the user of a command.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    warnings.filterwarnings("ignore", "You are using a non-supported Python version", FutureWarning)
    # kfp 2.5 wants google-cloud-storage < 3.
    warnings.filterwarnings("ignore", "Support for google-cloud-storage", FutureWarning)


@main.group()
def data() -> None:
    """Bring data to try the pipeline on."""


@data.command("simulator")
@click.option("--into", default="data", type=click.Path(path_type=Path), show_default=True)
@click.option("--spans", default=4, show_default=True, help="How many spans.")
@click.option("--examples", default=70_000, show_default=True, help="Examples a span.")
@click.option("--seed", default=0, show_default=True)
@explained
def simulator_(into: Path, spans: int, examples: int, seed: int) -> None:
    """Simulate the logs of a video and a music surface, with a known truth beside them."""
    from tfx_distill.datasets import simulator

    config = simulator.SimulatorConfig(seed=seed, spans=spans, examples_per_span=examples)
    with click.progressbar(length=spans * examples, label="Simulating", file=sys.stderr) as bar:
        seen = 0

        def progress(done: int, total: int) -> None:
            nonlocal seen
            bar.length = total
            bar.update(done - seen)
            seen = done

        written = simulator.write(into, config, progress)
    for span in written:
        state = "was there" if span.reused else "written"
        click.echo(
            f"{span.surface} span {span.span}: {span.train_rows:,} train, "
            f"{span.eval_rows:,} eval examples, {state}"
        )


@data.command("movielens-100k")
@click.option(
    "--into", default="data/movielens", type=click.Path(path_type=Path), show_default=True
)
@click.option("--source", type=click.Path(path_type=Path), help="Local folder of the data set.")
@explained
def movielens_(into: Path, source: Path | None) -> None:
    """Bring MovieLens-100K, as spans by month."""
    from tfx_distill.datasets import movielens

    for span in movielens.write(into, source):
        click.echo(
            f"span {span.span} ({span.month}): {span.train_rows:,} train, "
            f"{span.eval_rows:,} eval examples"
        )


@main.command()
@CONFIG
@SPANS
@explained
def check(config_file: Path, spans: str | None) -> None:
    """Validate a config and its data, and print the resolved config."""
    from tfx_distill.datasets import logs
    from tfx_distill.schema import config as run_config

    config = run_config.load(config_file)
    report = logs.check(config, telling.spans(spans))
    click.echo(config.to_yaml())
    for part in report.parts:
        click.echo(f"span {part.span} {part.split}: {part.rows:,} examples in {part.files} file(s)")
    for warning in report.warnings:
        click.secho(f"warning: {warning}", fg="yellow", err=True)
    click.secho(
        f"{config_file}: fine. {report.rows('train'):,} examples to train on, "
        f"{report.rows('eval'):,} later ones to evaluate on.",
        fg="green",
    )


@main.command()
@CONFIG
@SPANS
@STUDENTS_ONLY
@click.option("--until", metavar="COMPONENT", help="Stop after this component.")
@click.option("--seed", type=int, help="Instead of the config's seed.")
@explained
def run(
    config_file: Path, spans: str | None, students_only: bool, until: str | None, seed: int | None
) -> None:
    """Run the pipeline, or what is left of it to do: one batch, or every pending span."""
    start = Meter().start()
    from tfx_distill.schema import config as run_config

    config = run_config.load(config_file, {} if seed is None else {"seed": seed})
    chosen = telling.spans(spans)
    _refuse_batch_options(config, students_only=students_only, until=until)
    require_own_run_folder(config, students_only=students_only)
    telling.keep_out_others(config)
    log = telling.diverted(config)
    if config.stream is not None:
        start.stop()  # each span is measured by itself
        process(config, chosen, log, students_only=students_only)
        return
    from rich.console import Console

    from tfx_distill.pipeline import session, summary

    result, error = session.run(config, spans=chosen, until=until, start=start)
    summary.show(result, Console())
    after_run(config)
    if error is not None:
        telling.failed(error, log, telling.resumed_by("run"))
        sys.exit(1)


def _refuse_batch_options(config: RunConfig, *, students_only: bool, until: str | None) -> None:
    if config.stream is None and students_only:
        raise ConfigError(
            "--students-only",
            got="a config without the section 'stream'",
            expected="a stream",
            fix="Add `stream: {}` to the config.",
        )
    if config.stream is not None and until is not None:
        raise ConfigError(
            "--until",
            got="a stream",
            expected="a batch: the span after this one would lack what was left out",
            fix="Leave it out, or name the spans with --spans.",
        )


@main.command()
@CONFIG
@explained
def show(config_file: Path) -> None:
    """Print the last run of a config."""
    from rich.console import Console

    from tfx_distill.pipeline import summary
    from tfx_distill.schema import config as run_config

    summary.show(summary.read(run_config.load(config_file).run_folder), Console())


@main.command()
@click.option("--root", default="runs", show_default=True, help="Where runs would be kept.")
def doctor(root: str) -> None:
    """Check the installation, and name what to do about each fault."""
    from tfx_distill.pipeline import doctor as examination

    findings = examination.examine(root)
    for finding in findings:
        mark = click.style("ok  ", fg="green") if finding.ok else click.style("FAIL", fg="red")
        click.echo(f"{mark} {finding.name}: {finding.detail}")
        if not finding.ok:
            click.echo(f"     fix: {finding.fix}")
    sys.exit(0 if all(finding.ok for finding in findings) else 1)


for command in (watch, status, backfill, labels, bless, report, serve_report):
    main.add_command(command)
