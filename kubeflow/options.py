"""Options that several commands of `distill kubeflow` have."""

from __future__ import annotations

import click

from tfx_distill.schema.errors import ConfigError

TARGET = click.option(
    "--target",
    type=click.Choice(["kfp", "vertex"]),
    default="kfp",
    show_default=True,
    help="Open-source Kubeflow Pipelines, or Vertex AI.",
)
PARAMETERS = click.option(
    "--parameter", "parameters", metavar="NAME=VALUE", multiple=True, help="Of the run; repeatable."
)


def parsed(parameters: tuple[str, ...]) -> dict[str, str | int]:
    """Parameters of a run by name.

    Raises:
      ConfigError: One is not of the form NAME=VALUE, or a seed is no number.
    """
    return dict(map(_parsed, parameters))


def _parsed(text: str) -> tuple[str, str | int]:
    name, _, value = text.partition("=")
    if not name or not value or (name == "seed" and not value.lstrip("-").isdecimal()):
        raise ConfigError(
            "--parameter",
            got=repr(text),
            expected="NAME=VALUE",
            fix="Write for example seed=1.",
        )
    return name, int(value) if name == "seed" else value
