"""The command `distill`.

TFX takes seconds to import: each command imports what it needs when it runs.
"""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any

import click

from tfx_distill.schema.errors import ConfigError, DataError, DistillError, EnvironmentProblem

CONFIG = click.argument("config_file", metavar="CONFIG", type=click.Path(path_type=Path))
SPANS = click.option("--spans", metavar="A..B", help="First and last span; all by default.")


def explained(command: Callable[..., None]) -> Callable[..., None]:
    """Prints a DistillError in words instead of a stack trace, and exits with 1."""

    @wraps(command)
    def wrapped(*args: Any, **kwargs: Any) -> None:
        try:
            command(*args, **kwargs)
        except DistillError as error:
            tell(error)
            sys.exit(1)
        except OSError as error:
            where = error.filename or "the file system"
            tell(
                EnvironmentProblem(
                    str(where),
                    got=error.strerror or str(error),
                    expected="a place that can be read and written",
                    fix="Check free space, permissions, and `root` in the config.",
                )
            )
            sys.exit(1)

    return wrapped


def tell(error: DistillError) -> None:
    """Prints where it went wrong, what was found and expected, and what to do."""
    click.secho(f"error: {error.where}", fg="red", err=True)
    for title, text in (("got", error.got), ("expected", error.expected), ("fix", error.fix)):
        click.echo(f"  {title + ':':<10}{text}", err=True)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="tfx-distill")
def main() -> None:
    """Knowledge distillation for ranking models, as a TFX pipeline."""
    # Before TensorFlow is loaded: what its C++ side and Google's clients say at import is not for
    # the user of a command.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    warnings.filterwarnings("ignore", "You are using a non-supported Python version", FutureWarning)


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
    report = logs.check(config, _spans(spans))
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
@click.option("--until", metavar="COMPONENT", help="Stop after this component.")
@click.option("--seed", type=int, help="Instead of the config's seed.")
@explained
def run(config_file: Path, spans: str | None, until: str | None, seed: int | None) -> None:
    """Run the pipeline, or what is left of it to do."""
    from tfx_distill.schema import config as run_config

    config = run_config.load(config_file, {} if seed is None else {"seed": seed})
    click.echo(f"Starting {config.name}: importing TFX and TensorFlow", err=True)
    from tfx_distill.pipeline import run_log

    log = run_log.divert(config.run_folder)
    from rich.console import Console

    from tfx_distill.pipeline import session, summary

    result, error = session.run(config, spans=_spans(spans), until=until)
    summary.show(result, Console())
    if error is not None:
        known = _known(error)
        if known is None:
            click.secho(f"error: {_first_line(error)}", fg="red", err=True)
            click.echo(f"  The stack trace is in {log}", err=True)
        else:
            tell(known)
        click.echo("  What was finished is kept: `distill run` goes on from there.", err=True)
        sys.exit(1)


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


def _spans(text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    from tfx_distill.datasets.logs import parse_spans

    try:
        return parse_spans(text.replace("..", "-"))
    except DataError:
        raise ConfigError(
            "--spans", got=repr(text), expected="A..B, or one number", fix="Write for example 0..3."
        ) from None


def _first_line(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}".splitlines()[0]


def _known(error: BaseException | None) -> DistillError | None:
    """Our own error behind what Beam or TFX made of it."""
    while error is not None:
        if isinstance(error, DistillError):
            return error
        error = error.__cause__ or error.__context__
    return None
