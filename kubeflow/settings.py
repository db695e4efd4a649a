"""The part of a run config without which nothing runs on a cluster."""

from __future__ import annotations

from tfx_distill.schema.config import RunConfig
from tfx_distill.schema.errors import ConfigError
from tfx_distill.schema.kubeflow_sections import KubeflowConfig


def settings_of(config: RunConfig) -> KubeflowConfig:
    """The section `kubeflow`.

    Raises:
      ConfigError: There is none.
    """
    if config.kubeflow is None:
        raise ConfigError(
            "kubeflow",
            got="a config without the section 'kubeflow'",
            expected="an image and a pipeline root at least",
            fix="Add the section; docs/kubeflow.md has one.",
        )
    return config.kubeflow
