"""Runs a compiled pipeline on this machine, as a cluster would: each step by its own command.

What the drivers and launchers of Kubeflow Pipelines and Vertex AI do around a step is done here:
parameters and artifacts are put into its ExecutorInput, the artifacts that it declares are laid
where it looks for them and no others, what it made is taken to the object store, here a folder, and
a step that failed is tried again.
"""

from __future__ import annotations

import json
import shutil
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import yaml

from tfx_distill.kubeflow.containers import Target
from tfx_distill.kubeflow.parameters import refuse_unknown
from tfx_distill.kubeflow.spec import EXECUTOR_INPUT, RUN_ID
from tfx_distill.kubeflow.uris import local_path
from tfx_distill.schema.errors import ConfigError

State = Literal["succeeded", "failed", "skipped"]
_ROOT = Path("/")


@dataclass(frozen=True)
class Command:
    """What a step runs.

    Attributes:
      task: Its name.
      image: Of its container.
      arguments: Command and arguments.
      environment: Variables that are set for it.
      synced: Folder that holds its artifacts; it stands for `/`.
      inputs: The artifacts that it declares, by their paths in a container: where they are stored.
      output: Folder in a container below which it writes, and which is taken to the object store.
      volumes: Folders that all steps share, at the same place here and in a container.
    """

    task: str
    image: str
    arguments: tuple[str, ...]
    environment: Mapping[str, str]
    synced: Path
    inputs: Mapping[str, Path]
    output: str
    volumes: tuple[str, ...]

    @property
    def written(self) -> Path:
        """The folder on this machine that holds what it writes."""
        return self.synced / self.output.lstrip("/")


Runner = Callable[[Command], int]
"""Runs a command to its end: its exit status."""


@dataclass
class LocalCluster:
    """A folder that plays the object store, and a way to run commands.

    Attributes:
      folder: Gets `store` and, while a step runs, `synced`.
      runner: Runs the steps.
      target: Whose launcher is played.
      pipeline_root: Where the artifacts of runs are said to be.
    """

    folder: Path
    runner: Runner
    target: Target
    pipeline_root: str
    report: Callable[[str], None] = field(default=lambda line: None)

    @property
    def store(self) -> Path:
        """The folder that plays the object store."""
        return self.folder / "store"

    def run(
        self, text: str, parameters: Mapping[str, str | int] | None = None, run: str | None = None
    ) -> dict[str, State]:
        """Runs all steps, one after the other.

        Args:
          text: The compiled pipeline.
          parameters: Of the run, in place of their defaults.
          run: Id of the run; a new one by default.

        Returns:
          What became of each task.

        Raises:
          ConfigError: The text is no compiled pipeline, or one that takes no such parameter.
        """
        spec, *platforms = _documents(text)
        declared = spec["root"]["inputDefinitions"]["parameters"]
        refuse_unknown(parameters or {}, declared)
        values = {name: one["defaultValue"] for name, one in declared.items()}
        return _Run(
            self,
            spec,
            _volumes(platforms),
            values | dict(parameters or {}),
            run or str(uuid.uuid4()),
        ).to_its_end()


class _Run:
    """One run of a pipeline."""

    def __init__(
        self,
        cluster: LocalCluster,
        spec: dict[str, Any],
        volumes: dict[str, tuple[str, ...]],
        parameters: dict[str, Any],
        run: str,
    ) -> None:
        self._cluster = cluster
        self._spec = spec
        self._volumes = volumes
        self._parameters = parameters
        self._run = run
        self._states: dict[str, State] = {}
        self._made: dict[tuple[str, str], dict[str, Any]] = {}

    def to_its_end(self) -> dict[str, State]:
        tasks = self._spec["root"]["dag"]["tasks"]
        waiting = dict(tasks)
        while waiting:
            ready = [name for name in waiting if self._upstream(name) <= self._states.keys()]
            if not ready:
                raise ValueError(f"tasks wait for each other: {sorted(waiting)}")
            for name in ready:
                place = f"[{len(self._states) + 1}/{len(tasks)}] {name}"
                self._cluster.report(place)
                started = time.monotonic()
                self._states[name] = self._task(name, waiting.pop(name))
                seconds = time.monotonic() - started
                self._cluster.report(f"{place}: {self._states[name]}, {seconds:.1f} s")
        return self._states

    def _upstream(self, name: str) -> set[str]:
        task = self._spec["root"]["dag"]["tasks"][name]
        return {*task.get("dependentTasks", ()), *_producers(task)}

    def _task(self, name: str, task: dict[str, Any]) -> State:
        always = task.get("triggerPolicy", {}).get("strategy") == "ALL_UPSTREAM_TASKS_COMPLETED"
        upstream = {self._states[other] for other in self._upstream(name)}
        if not always and upstream - {"succeeded"}:
            return "skipped"
        if any(self._states[other] != "succeeded" for other in _producers(task)):
            # It runs whatever happens, but there is nothing to hand to it.
            return "failed"
        component = self._spec["components"][task["componentRef"]["name"]]
        executor = self._spec["deploymentSpec"]["executors"][component["executorLabel"]]
        if "importer" in executor:
            self._import(name, executor["importer"])
            return "succeeded"
        for _ in range(1 + task.get("retryPolicy", {}).get("maxRetryCount", 0)):
            if self._attempt(name, task, component):
                return "succeeded"
        return "failed"

    def _import(self, name: str, importer: dict[str, Any]) -> None:
        self._made[name, "artifact"] = {
            "name": f"{self._run}/{name}",
            "uri": importer["artifactUri"]["constant"],
            "metadata": importer["metadata"],
        }

    def _attempt(self, name: str, task: dict[str, Any], component: dict[str, Any]) -> bool:
        label = component["executorLabel"]
        container = self._spec["deploymentSpec"]["executors"][label]["container"]
        synced = self._cluster.folder / "synced"
        shutil.rmtree(synced, ignore_errors=True)
        inputs = self._inputs(task, component)
        outputs = self._outputs(name, component)
        stored = {}
        for item in inputs["artifacts"].values():
            (found,) = item["artifacts"]
            source = Path(local_path(found["uri"], self._cluster.store)).resolve()
            place = Path(local_path(found["uri"], synced))
            place.parent.mkdir(parents=True, exist_ok=True)
            place.symlink_to(source)
            stored[local_path(found["uri"], _ROOT)] = source
        given = json.dumps({"inputs": inputs, "outputs": outputs})
        arguments = [
            given if argument == EXECUTOR_INPUT else argument
            for argument in (*container["command"], *container["args"])
        ]
        command = Command(
            task=name,
            image=container["image"],
            arguments=tuple(arguments),
            environment={one["name"]: one["value"] for one in container.get("env", ())},
            synced=synced.resolve(),
            inputs=stored,
            output=str(Path(local_path(outputs["outputFile"], _ROOT)).parent),
            volumes=self._volumes.get(label, ()),
        )
        command.written.mkdir(parents=True)
        if self._cluster.runner(command):
            return False
        self._publish(name, outputs, synced)
        return True

    def _inputs(self, task: dict[str, Any], component: dict[str, Any]) -> dict[str, Any]:
        wired = task.get("inputs", {})
        types = component.get("inputDefinitions", {}).get("artifacts", {})
        artifacts = {}
        for key, source in wired.get("artifacts", {}).items():
            producer = source["taskOutputArtifact"]
            made = self._made[producer["producerTask"], producer["outputArtifactKey"]]
            artifacts[key] = {"artifacts": [made | {"type": self._type(types[key])}]}
        values = {key: self._value(one) for key, one in wired.get("parameters", {}).items()}
        return {"parameterValues": values, "artifacts": artifacts}

    def _value(self, source: dict[str, Any]) -> Any:
        if "componentInputParameter" in source:
            return self._parameters[source["componentInputParameter"]]
        constant = source["runtimeValue"]["constant"]
        return self._run if constant == RUN_ID else constant

    def _type(self, declared: dict[str, Any]) -> dict[str, Any]:
        """Vertex AI says of which type an artifact is, the open-source launcher does not."""
        return dict(declared["artifactType"]) if self._cluster.target == "vertex" else {}

    def _outputs(self, name: str, component: dict[str, Any]) -> dict[str, Any]:
        keys = dict(component.get("outputDefinitions", {}).get("artifacts", {}))
        folder = f"{self._cluster.pipeline_root}/{self._run}/{name}"
        artifacts = {
            key: {
                "artifacts": [
                    {
                        "name": f"{self._run}/{name}/{key}",
                        "uri": f"{folder}/{key}",
                        "type": self._type(declared),
                        "metadata": {},
                    }
                ]
            }
            for key, declared in keys.items()
        }
        if self._cluster.target == "kfp":
            artifacts["executor-logs"] = {
                "artifacts": [{"uri": f"{folder}/executor-logs", "type": {}, "metadata": {}}]
            }
        return {"artifacts": artifacts, "outputFile": f"{folder}/executor_output.json"}

    def _publish(self, name: str, outputs: dict[str, Any], synced: Path) -> None:
        file = Path(local_path(outputs["outputFile"], synced))
        written = json.loads(file.read_text())["artifacts"] if file.exists() else {}
        for key, item in outputs["artifacts"].items():
            (announced,) = item["artifacts"]
            made = Path(local_path(announced["uri"], synced))
            if key == "executor-logs" or not made.exists():
                continue
            stored = Path(local_path(announced["uri"], self._cluster.store))
            stored.parent.mkdir(parents=True, exist_ok=True)
            shutil.move(made, stored)
            told = written.get(key, {"artifacts": [{}]})["artifacts"][0]
            self._made[name, key] = announced | told


def _documents(text: str) -> list[dict[str, Any]]:
    """The spec, and what Kubernetes is told."""
    try:
        documents = list(yaml.safe_load_all(text))
    except yaml.YAMLError:
        documents = []
    if not documents or not isinstance(documents[0], dict) or "deploymentSpec" not in documents[0]:
        raise ConfigError(
            "the pipeline",
            got="a file that is no compiled pipeline",
            expected="what `distill kubeflow compile` writes",
            fix="Compile the config first: distill kubeflow compile CONFIG --output FILE",
        )
    return documents


def _producers(task: dict[str, Any]) -> set[str]:
    """The tasks whose artifacts a task is handed."""
    wired = task.get("inputs", {}).get("artifacts", {}).values()
    return {source["taskOutputArtifact"]["producerTask"] for source in wired}


def _volumes(platforms: Sequence[dict[str, Any]]) -> dict[str, tuple[str, ...]]:
    """Where each executor mounts volumes: the document on Kubernetes, if there is one, says so."""
    return {
        label: tuple(mount["mountPath"] for mount in content.get("pvcMount", ()))
        for document in platforms
        for label, content in document["platforms"]["kubernetes"]["deploymentSpec"][
            "executors"
        ].items()
    }
