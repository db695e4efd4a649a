"""Where pipelines are submitted to."""

from __future__ import annotations

import re

from tfx_distill.kubeflow.containers import Target
from tfx_distill.kubeflow.service import Service
from tfx_distill.kubeflow.settings import section_of
from tfx_distill.schema.config import RunConfig
from tfx_distill.schema.errors import ConfigError
from tfx_distill.schema.sections import Section


class Connection(Section):
    """An installation of Kubeflow Pipelines, or a region of Vertex AI.

    Attributes:
      target: Which of the two.
      host: Address of Kubeflow Pipelines.
      namespace: Of the runs, where several users share an installation.
      project: On Google Cloud.
      region: Of Vertex AI.
      service_account: As which the steps run; None for the service's default.
    """

    target: Target = "kfp"
    host: str | None = None
    namespace: str | None = None
    project: str | None = None
    region: str | None = None
    service_account: str | None = None

    def service(self, config: RunConfig) -> Service:
        """The service, for the runs of a config.

        Raises:
          ConfigError: An address is missing or is none, or the config has no section `kubeflow`.
          EnvironmentProblem: The client of the service is not installed.
        """
        settings = section_of(config)
        if self.target == "vertex":
            from tfx_distill.kubeflow.vertex_client import VertexClient

            return VertexClient(
                project=_given(self.project, "--project", "the id of a Google Cloud project"),
                region=_given(self.region, "--region", "a region, such as europe-west4"),
                service_account=self.service_account,
                pipeline_root=settings.pipeline_root,
            )
        from tfx_distill.kubeflow.client import KfpClient

        host = _given(self.host, "--host", "the address of Kubeflow Pipelines")
        if not re.match(r"https?://[^/]", host):
            raise ConfigError(
                "--host",
                got=repr(host),
                expected="an address with its protocol",
                fix="Write for example http://localhost:8080.",
            )
        return KfpClient(
            host.rstrip("/"),
            experiment=config.name,
            namespace=self.namespace,
            service_account=self.service_account,
            pipeline_root=settings.pipeline_root,
        )


def _given(value: str | None, option: str, meaning: str) -> str:
    if not value:
        raise ConfigError(option, got="nothing", expected=meaning, fix=f"Add {option}.")
    return value
