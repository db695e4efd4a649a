"""The parameters of a run."""

from __future__ import annotations

from tfx_distill.kubeflow.spec import Parameters
from tfx_distill.schema.config import RunConfig
from tfx_distill.schema.errors import ConfigError


def declared_parameters(config: RunConfig, *, later: bool) -> dict[str, str | int]:
    """What a compiled pipeline takes, with the defaults.

    Args:
      config: The run config.
      later: Whether the run is on a later span of a stream.
    """
    declared: dict[str, str | int] = {"config_uri": "", "seed": config.seed}
    return declared if later else declared | {"spans": ""}


def refuse_unknown(given: Parameters, declared: Parameters) -> None:
    """Makes sure that a pipeline takes what it is given.

    Raises:
      ConfigError: It does not.
    """
    unknown = sorted(set(given) - set(declared))
    if unknown:
        raise ConfigError(
            "--parameter",
            got=", ".join(unknown),
            expected=f"parameters of this pipeline: {', '.join(sorted(declared))}",
            fix="Leave it out; everything else is in the config.",
        )
