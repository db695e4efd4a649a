"""What every command of `distill` shares: its arguments, and how errors are told."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tfx_distill.schema.errors import (
    ConfigError,
    DataError,
    DistillError,
    EnvironmentProblem,
    own_error,
)

if TYPE_CHECKING:
    from tfx_distill.schema.config import RunConfig

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


def keep_out_others(config: RunConfig) -> None:
    """Has the run folder for the command that runs, until it ends.

    Raises:
      FolderInUse: Another process has it.
    """
    from tfx_distill.pipeline import run_lock

    click.get_current_context().with_resource(run_lock.held(config.run_folder))


def diverted(config: RunConfig) -> Path:
    """Says that TFX is loaded, and sends what it logs to a file."""
    click.echo(f"Starting {config.name}: importing TFX and TensorFlow", err=True)
    from tfx_distill.pipeline import run_log

    return run_log.divert(config.run_folder)


def failed(error: Exception, log: Path, then: str) -> None:
    """Prints the error of a run, in our words if it is one of ours.

    Args:
      error: What went wrong.
      log: Where its stack trace is.
      then: What has become of the rest, and what to run once that is mended.
    """
    known = own_error(error)
    if known is None:
        click.secho(f"error: {_first_line(error)}", fg="red", err=True)
        click.echo(f"  The stack trace is in {log}", err=True)
    else:
        tell(known)
    click.echo(f"  {then}", err=True)


def resumed_by(command: str) -> str:
    """What to say of a command that takes what it had finished from the cache."""
    return f"What was finished is kept: `distill {command}` goes on from there."


def spans(text: str | None) -> tuple[int, int] | None:
    """The first and last span of `A..B`, or None.

    Raises:
      ConfigError: The text is something else.
    """
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
