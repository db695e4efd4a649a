"""The form of a pipeline spec of Kubeflow Pipelines, version 2.1, which Vertex AI reads as well."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from tfx_distill.kubeflow.containers import Target, container, kubernetes
from tfx_distill.schema.kubeflow_sections import KubeflowConfig

EXECUTOR_INPUT = "{{$}}"
RUN_ID = "{{$.pipeline_job_uuid}}"
Parameters = Mapping[str, str | int]


class Spec:
    """Tasks, the components that they run, and their containers.

    Args:
      settings: The section `kubeflow` of the run config.
      target: `kfp` adds the document on volumes, nodes and secrets.

    Attributes:
      components: By `comp-<task>`.
      executors: By `exec-<task>`.
      tasks: By name.
    """

    def __init__(self, settings: KubeflowConfig, target: Target) -> None:
        self._settings = settings
        self._target = target
        self._platform: dict[str, Any] = {}
        self.components: dict[str, Any] = {}
        self.executors: dict[str, Any] = {}
        self.tasks: dict[str, Any] = {}

    def add(self, name: str, executor: dict[str, Any]) -> None:
        """A task that needs nothing yet, and what executes it."""
        self.components[f"comp-{name}"] = {"executorLabel": f"exec-{name}"}
        self.executors[f"exec-{name}"] = executor
        self.tasks[name] = {
            "componentRef": {"name": f"comp-{name}"},
            "taskInfo": {"name": name},
            # What a step made depends on logs and tables that Kubeflow does not know of.
            "cachingOptions": {},
        }

    def add_container(
        self, name: str, component: str, module: str, arguments: Sequence[str], *, retries: int = 0
    ) -> None:
        """A task whose container runs a Python module.

        Args:
          name: Of the task.
          component: By which cores, memory and GPUs are looked up.
          module: Is told what the launcher says, after `arguments`.
          arguments: Of the module.
          retries: How often it is tried again.
        """
        told = [*arguments, "--executor_input", EXECUTOR_INPUT]
        content = container(self._settings, component, module, told, self._target)
        self.add(name, {"container": content})
        self._platform[f"exec-{name}"] = kubernetes(self._settings, component)
        if retries:
            self.tasks[name]["retryPolicy"] = {
                "maxRetryCount": retries,
                "backoffDuration": "30s",
                "backoffFactor": 2.0,
                "backoffMaxDuration": "600s",
            }

    def give(self, task: str, constants: Parameters, parameters: Parameters) -> None:
        """Hands constants, and the parameters of the run, to a task."""
        given = {**constants, **parameters}
        self.components[f"comp-{task}"]["inputDefinitions"] = {
            "parameters": {name: _type(value) for name, value in given.items()}
        }
        self.tasks[task]["inputs"] = {
            "parameters": {
                name: {"componentInputParameter": name}
                if name in parameters
                else {"runtimeValue": {"constant": value}}
                for name, value in given.items()
            }
        }

    def text(self, name: str, parameters: Parameters) -> str:
        """All of it as YAML.

        Args:
          name: Of the pipeline.
          parameters: Of a run, with their defaults.
        """
        declared = {
            parameter: _type(value) | {"defaultValue": value, "isOptional": True}
            for parameter, value in parameters.items()
        }
        spec: dict[str, Any] = {
            "components": self.components,
            "deploymentSpec": {"executors": self.executors},
            "pipelineInfo": {"name": name},
            "root": {
                "dag": {"tasks": self.tasks},
                "inputDefinitions": {"parameters": declared},
            },
            "schemaVersion": "2.1.0",
            "sdkVersion": "tfx-distill",
        }
        documents = [spec]
        if self._target == "kfp":
            platform = {"deploymentSpec": {"executors": self._platform}}
            documents.append({"platforms": {"kubernetes": platform}})
        return yaml.safe_dump_all(documents, sort_keys=True, width=100)


def pipeline_name(config_name: str) -> str:
    """A name of a run config, as Kubeflow wants names."""
    return config_name.replace("_", "-")


def _type(value: str | int) -> dict[str, Any]:
    return {"parameterType": "NUMBER_INTEGER" if isinstance(value, int) else "STRING"}
