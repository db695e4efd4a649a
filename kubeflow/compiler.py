"""Tasks as a pipeline spec of Kubeflow Pipelines, version 2.1, which Vertex AI understands as well.

TFX's own compiler writes specs that open-source Kubeflow Pipelines cannot run, and it bakes the
properties of every component into them. Here a spec holds the graph alone; what its steps need
besides artifacts they read from what the first one, `prepare`, wrote.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Literal

import yaml
from tfx.types import artifact
from tfx.types.standard_artifacts import Examples, Model

from tfx_distill.kubeflow.containers import container, kubernetes
from tfx_distill.kubeflow.dag import Source, Task
from tfx_distill.kubeflow.records import Made
from tfx_distill.schema.config import RunConfig
from tfx_distill.schema.kubeflow_sections import KubeflowConfig

Target = Literal["kfp", "vertex"]
SCHEMA_VERSION = "2.1.0"
PREPARE = "prepare"
FINISH = "finish"
RUN = "run"
"""Name of the artifact that `prepare` writes and every other step reads."""
NEEDED = "needed"
"""Inputs that no component asks for: files that others name."""
RUN_ID = "{{$.pipeline_job_uuid}}"
EXECUTOR_INPUT = "{{$}}"
MODULE = "tfx_distill.kubeflow.step"
_TYPES: tuple[tuple[type[artifact.Artifact], str], ...] = (
    (Model, "system.Model"),
    (Examples, "system.Dataset"),
)


def input_name(key: str, place: int) -> str:
    """Name of one artifact of an input that takes several: Kubeflow's inputs take one."""
    return f"{key}_{place}"


def compiled(
    config: RunConfig,
    settings: KubeflowConfig,
    tasks: Sequence[Task],
    *,
    plan: str,
    parameters: dict[str, str | int],
    target: Target,
) -> str:
    """A pipeline as YAML: its spec, and for Kubernetes what its containers need.

    Args:
      config: The run config.
      settings: Its section `kubeflow`.
      tasks: In an order in which they can run.
      plan: What `prepare` is told about how this was compiled, as JSON.
      parameters: Of a run, with their defaults.
      target: `kfp` adds the document on volumes, nodes and secrets.
    """
    builder = _Builder(settings, tasks, target)
    builder.add_prepare(plan, parameters)
    for task in tasks:
        builder.add(task)
    builder.add_finish()
    spec = {
        "components": builder.components,
        "deploymentSpec": {"executors": builder.executors},
        "pipelineInfo": {"name": config.name.replace("_", "-")},
        "root": {
            "dag": {"tasks": builder.tasks},
            "inputDefinitions": {"parameters": {k: _default(v) for k, v in parameters.items()}},
        },
        "schemaVersion": SCHEMA_VERSION,
        "sdkVersion": "tfx-distill",
    }
    documents = [spec]
    if target == "kfp":
        platform = {"deploymentSpec": {"executors": builder.platform}}
        documents.append({"platforms": {"kubernetes": platform}})
    return yaml.safe_dump_all(documents, sort_keys=True, width=100)


class _Builder:
    """Collects the parts of a spec."""

    def __init__(self, settings: KubeflowConfig, tasks: Iterable[Task], target: Target) -> None:
        self._settings = settings
        self._target = target
        self._by_component = {task.component: task for task in tasks}
        self._importers: dict[int, str] = {}
        self.components: dict[str, Any] = {}
        self.executors: dict[str, Any] = {}
        self.platform: dict[str, Any] = {}
        self.tasks: dict[str, Any] = {}

    def add_prepare(self, plan: str, parameters: dict[str, str | int]) -> None:
        """The step that looks at config and logs; what it finds changes from run to run."""
        self._container(PREPARE, PREPARE, ["prepare"])
        given = {"plan": plan, "run_id": RUN_ID}
        self.components[f"comp-{PREPARE}"] |= {
            "inputDefinitions": {
                "parameters": {k: _type(v) for k, v in {**given, **parameters}.items()}
            },
            "outputDefinitions": {"artifacts": {RUN: _artifact(artifact.Artifact)}},
        }
        constants = {k: {"runtimeValue": {"constant": v}} for k, v in given.items()}
        passed = {k: {"componentInputParameter": k} for k in parameters}
        self.tasks[PREPARE] |= {"inputs": {"parameters": constants | passed}}

    def add(self, task: Task) -> None:
        """A component."""
        self._container(task.name, task.component, ["component", "--id", task.component])
        wired = {RUN: _from(PREPARE, RUN)}
        types = {RUN: _artifact(artifact.Artifact)}
        for key, sources in task.inputs.items():
            for place, source in enumerate(sources):
                name = input_name(key, place)
                wired[name], types[name] = self._wired(source)
        for place, source in enumerate(task.needed):
            name = input_name(NEEDED, place)
            wired[name], types[name] = self._wired(source)
        self.components[f"comp-{task.name}"] |= {
            "inputDefinitions": {"artifacts": types},
            "outputDefinitions": {
                "artifacts": {key: _artifact(kind) for key, kind in task.outputs.items()}
            },
        }
        after = [self._by_component[component].name for component in task.after]
        self.tasks[task.name] |= {
            "dependentTasks": sorted({PREPARE, *after, *_producers(wired)}),
            "inputs": {"artifacts": wired},
        }

    def add_finish(self) -> None:
        """The step that sums up the run, also where others failed."""
        self._container(FINISH, FINISH, ["finish"])
        self.components[f"comp-{FINISH}"] |= {
            "inputDefinitions": {"artifacts": {RUN: _artifact(artifact.Artifact)}}
        }
        own = [task.name for task in self._by_component.values()]
        self.tasks[FINISH] |= {
            "dependentTasks": sorted([PREPARE, *own]),
            "inputs": {"artifacts": {RUN: _from(PREPARE, RUN)}},
            "triggerPolicy": {"strategy": "ALL_UPSTREAM_TASKS_COMPLETED"},
        }

    def _wired(self, source: Source) -> tuple[dict[str, Any], dict[str, Any]]:
        if isinstance(source, Made):
            kind = type(source.item)
            return _from(self._importer(source), "artifact"), _artifact(kind)
        producer = self._by_component[source.component]
        return _from(producer.name, source.key), _artifact(producer.outputs[source.key])

    def _importer(self, made: Made) -> str:
        """The task that brings an artifact of an earlier run; one for all who need it."""
        item = made.item
        if item.id not in self._importers:
            name = f"import-{len(self._importers)}"
            self._importers[item.id] = name
            kind = _artifact(type(item))
            self.components[f"comp-{name}"] = {
                "executorLabel": f"exec-{name}",
                "inputDefinitions": {"parameters": {"uri": _type("")}},
                "outputDefinitions": {"artifacts": {"artifact": kind}},
            }
            self.executors[f"exec-{name}"] = {
                "importer": {
                    "artifactUri": {"constant": item.uri},
                    "metadata": {"tfx": made.content},
                    "typeSchema": kind["artifactType"],
                }
            }
            self.tasks[name] = _task(name) | {
                "inputs": {"parameters": {"uri": {"runtimeValue": {"constant": item.uri}}}}
            }
        return self._importers[item.id]

    def _container(self, name: str, component: str, arguments: list[str]) -> None:
        arguments = [*arguments, "--executor_input", EXECUTOR_INPUT]
        content = container(self._settings, component, MODULE, arguments)
        self.executors[f"exec-{name}"] = {"container": content}
        self.components[f"comp-{name}"] = {"executorLabel": f"exec-{name}"}
        self.tasks[name] = _task(name) | {
            "retryPolicy": {
                "maxRetryCount": self._settings.retries,
                "backoffDuration": "30s",
                "backoffFactor": 2.0,
                "backoffMaxDuration": "600s",
            }
        }
        self.platform[f"exec-{name}"] = kubernetes(self._settings, component)


def _task(name: str) -> dict[str, Any]:
    return {
        "componentRef": {"name": f"comp-{name}"},
        "taskInfo": {"name": name},
        # What a step made depends on logs and tables that Kubeflow does not know of.
        "cachingOptions": {},
    }


def _from(task: str, output: str) -> dict[str, Any]:
    return {"taskOutputArtifact": {"outputArtifactKey": output, "producerTask": task}}


def _producers(wired: dict[str, dict[str, Any]]) -> set[str]:
    return {source["taskOutputArtifact"]["producerTask"] for source in wired.values()}


def _artifact(kind: type[artifact.Artifact]) -> dict[str, Any]:
    title = next((t for base, t in _TYPES if issubclass(kind, base)), "system.Artifact")
    return {"artifactType": {"schemaTitle": title, "schemaVersion": "0.0.1"}}


def _type(value: str | int) -> dict[str, Any]:
    return {"parameterType": "NUMBER_INTEGER" if isinstance(value, int) else "STRING"}


def _default(value: str | int) -> dict[str, Any]:
    return _type(value) | {"defaultValue": value, "isOptional": True}
