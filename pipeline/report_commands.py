"""The commands of the report: `distill report` and `distill serve-report`."""

from __future__ import annotations

import functools
import http.server
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tfx_distill.pipeline import telling
from tfx_distill.schema.errors import ConfigError

if TYPE_CHECKING:
    from tfx_distill.schema.config import RunConfig

_log = logging.getLogger(__name__)
_ADDRESS = "127.0.0.1"


@click.command()
@telling.CONFIG
@click.option("--into", type=click.Path(path_type=Path), help="Instead of the run folder's report.")
@click.option("--no-views", is_flag=True, help="Leave out TFMA's and TFDV's own: much faster.")
@telling.explained
def report(config_file: Path, into: Path | None, no_views: bool) -> None:
    """Write the report of a config's runs: static pages, to be opened in any browser."""
    from tfx_distill.schema import config as run_config

    config = run_config.load(config_file)
    _require_run_folder(config)
    if not no_views:
        telling.diverted(config)
    from tfx_distill.pipeline.report import site

    first = site.write(config, into, with_views=not no_views)
    click.echo(f"Report: {first.absolute()}")


@click.command("serve-report")
@telling.CONFIG
@click.option("--port", default=8000, show_default=True, help="0 takes a free one.")
@telling.explained
def serve_report(config_file: Path, port: int) -> None:
    """Serve the report on this machine, until it is interrupted."""
    from tfx_distill.pipeline.report import site
    from tfx_distill.schema import config as run_config

    folder = run_config.load(config_file).run_folder / site.FOLDER
    if not (folder / "index.html").exists():
        raise ConfigError(
            str(folder),
            got="no report",
            expected="the report of this config",
            fix="Write it, with `distill report`.",
        )
    with server(folder, port) as serving:
        click.echo(f"The report is at http://{_ADDRESS}:{serving.server_port}/ (Ctrl-C ends)")
        try:
            serving.serve_forever()
        except KeyboardInterrupt:
            click.echo("Stopped.", err=True)


def server(folder: Path, port: int) -> http.server.ThreadingHTTPServer:
    """A server of a folder, for this machine only.

    Raises:
      OSError: The port is taken.
    """
    handler = functools.partial(_Quiet, directory=str(folder))
    return http.server.ThreadingHTTPServer((_ADDRESS, port), handler)


def after_run(config: RunConfig) -> None:
    """Writes the report at the end of a run; if that fails, the run has not failed."""
    try:
        from tfx_distill.pipeline.report import site

        first = site.write(config)
    except Exception as error:  # noqa: BLE001 (the run itself is done)
        _log.debug("report", exc_info=True)
        click.secho(
            f"warning: no report was written: {type(error).__name__}: {error}",
            fg="yellow",
            err=True,
        )
        return
    click.echo(f"Report: {first}")


def _require_run_folder(config: RunConfig) -> None:
    if not config.run_folder.exists():
        raise ConfigError(
            str(config.run_folder),
            got="no run folder",
            expected="that of a config which was run",
            fix="Run the config first, with `distill run`.",
        )


class _Quiet(http.server.SimpleHTTPRequestHandler):
    """Serves files without a line for each."""

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 (named by the base class)
        """Logs to the log instead of the terminal."""
        _log.debug(format, *args)
