"""The command `distill bless`."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from tfx_distill.pipeline import telling
from tfx_distill.pipeline.report_commands import after_run
from tfx_distill.schema.errors import ConfigError


@click.command()
@telling.CONFIG
@click.option("--student", metavar="NAME", required=True, help="Which one.")
@click.option("--because", metavar="REASON", required=True, help="Kept in the lineage.")
@telling.explained
def bless(config_file: Path, student: str, because: str) -> None:
    """Push the newest student that its gate refused, if it can be served."""
    from tfx_distill.pipeline import refusal
    from tfx_distill.schema import config as run_config

    if not because.strip():
        raise ConfigError(
            "--because",
            got="an empty reason",
            expected="why this student is let through: it stays in the lineage",
            fix='Say it in a sentence, as in --because "the eval split lacks the new market".',
        )
    config = run_config.load(config_file)
    # Before the record is read: a run would make it an old one.
    telling.keep_out_others(config)
    record = refusal.newest(config, student)
    log = telling.diverted(config)
    from tfx_distill.pipeline import bless as blessing

    found, error = blessing.bless(config, record, student, because=because.strip())
    after_run(config)
    if error is not None:
        telling.failed(error, log, "Nothing was pushed. Mend that, and bless it again.")
        sys.exit(1)
    if found.pushed is None:
        click.secho(f"Student {student} was not pushed: it cannot be served.", fg="red", err=True)
        for sentence in () if found.serving is None else found.serving.failures:
            click.echo(f"  - {sentence}", err=True)
        sys.exit(1)
    click.secho(f"Pushed to {found.pushed}", fg="green")
