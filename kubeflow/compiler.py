"""Tasks as a compiled pipeline: every component a container, earlier artifacts as importers.

TFX's own compiler writes specs that open-source Kubeflow Pipelines cannot run, and it bakes the
properties of every component into them. Here a spec holds the graph alone; what its steps need
besides artifacts they read from what the first one, `prepare`, wrote.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from tfx.types import artifact
from tfx.types.standard_artifacts import Examples, Model

from tfx_distill.kubeflow.containers import Target
from tfx_distill.kubeflow.dag import Source, Task
from tfx_distill.kubeflow.records import Made
from tfx_distill.kubeflow.spec import RUN_ID, Parameters, Spec, pipeline_name
from tfx_distill.schema.config import RunConfig
from tfx_distill.schema.kubeflow_sections import KubeflowConfig

PREPARE = "prepare"
FINISH = "finish"
RUN = "run"
"""Name of the artifact that `prepare` writes and every other step reads."""
NEEDED = "needed"
"""Inputs that no component asks for: files that others name."""
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
    parameters: Parameters,
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
    return builder.spec.text(pipeline_name(config.name), parameters)


class _Builder:
    """Adds the tasks to a spec."""

    def __init__(self, settings: KubeflowConfig, tasks: Iterable[Task], target: Target) -> None:
        self._retries = settings.retries
        self._by_component = {task.component: task for task in tasks}
        self._importers: dict[int, str] = {}
        self.spec = Spec(settings, target)

    def add_prepare(self, plan: str, parameters: Parameters) -> None:
        """The step that looks at config and logs; what it finds changes from run to run."""
        self._container(PREPARE, PREPARE, ["prepare"])
        self.spec.give(PREPARE, {"plan": plan, "run_id": RUN_ID}, parameters)
        made = {"artifacts": {RUN: _artifact(artifact.Artifact)}}
        self.spec.components[f"comp-{PREPARE}"]["outputDefinitions"] = made

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
        self.spec.components[f"comp-{task.name}"] |= {
            "inputDefinitions": {"artifacts": types},
            "outputDefinitions": {
                "artifacts": {key: _artifact(kind) for key, kind in task.outputs.items()}
            },
        }
        after = [self._by_component[component].name for component in task.after]
        self.spec.tasks[task.name] |= {
            "dependentTasks": sorted({PREPARE, *after, *_producers(wired)}),
            "inputs": {"artifacts": wired},
        }

    def add_finish(self) -> None:
        """The step that sums up the run, also where others failed."""
        self._container(FINISH, FINISH, ["finish"])
        self.spec.components[f"comp-{FINISH}"] |= {
            "inputDefinitions": {"artifacts": {RUN: _artifact(artifact.Artifact)}}
        }
        own = [task.name for task in self._by_component.values()]
        self.spec.tasks[FINISH] |= {
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
            self.spec.add(
                name,
                {
                    "importer": {
                        "artifactUri": {"constant": item.uri},
                        "metadata": {"tfx": made.content},
                        "typeSchema": kind["artifactType"],
                    }
                },
            )
            self.spec.give(name, {"uri": item.uri}, {})
            self.spec.components[f"comp-{name}"]["outputDefinitions"] = {
                "artifacts": {"artifact": kind}
            }
        return self._importers[item.id]

    def _container(self, name: str, component: str, arguments: list[str]) -> None:
        self.spec.add_container(name, component, MODULE, arguments, retries=self._retries)


def _from(task: str, output: str) -> dict[str, Any]:
    return {"taskOutputArtifact": {"outputArtifactKey": output, "producerTask": task}}


def _producers(wired: dict[str, dict[str, Any]]) -> set[str]:
    return {source["taskOutputArtifact"]["producerTask"] for source in wired.values()}


def _artifact(kind: type[artifact.Artifact]) -> dict[str, Any]:
    title = next((t for base, t in _TYPES if issubclass(kind, base)), "system.Artifact")
    return {"artifactType": {"schemaTitle": title, "schemaVersion": "0.0.1"}}
