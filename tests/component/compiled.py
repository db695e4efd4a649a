"""Run configs for a cluster, and records of what earlier runs on it would have made."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from tfx.dsl.components.base.base_component import BaseComponent
from tfx.types.standard_artifacts import Examples, ModelBlessing

from tfx_distill.kubeflow import dag, records
from tfx_distill.kubeflow.records import Made, Record
from tfx_distill.pipeline import graph
from tfx_distill.schema.config import RunConfig

REPOSITORY = Path(__file__).resolve().parents[2]
STORE = "minio://mlpipeline/v2/artifacts"
ANYWHERE = graph.Input(first=0, last=1, fingerprint="", schema_file=Path("schema.pbtxt"))


def config(name: str, folder: str | Path = "/mnt/distill", **sections: Any) -> RunConfig:
    """A shipped config, with everything on a volume."""
    content = yaml.safe_load((REPOSITORY / f"configs/{name}.yaml").read_text())
    content["data"]["spans"] = f"{folder}/{content['data']['spans']}"
    content["root"] = f"{folder}/runs"
    content["push"] = {"directory": f"{folder}/serving"}
    if "labels" in content and "table" in content["labels"]:
        content["labels"]["table"] = f"{folder}/{content['labels']['table']}"
    content["kubeflow"] = {
        "image": "registry.example/tfx-distill:1",
        "pipeline_root": STORE,
        "volumes": [{"claim": "distill", "mount": str(folder)}],
        "secrets": [{"name": "store", "env": {"AWS_ACCESS_KEY_ID": "accesskey"}}],
        "steps": {
            "default": {"cpu": 2, "memory_gb": 8},
            "TeacherTrainer": {
                "cpu": 8,
                "memory_gb": 32,
                "gpus": 1,
                "node_selector": {"pool": "gpu"},
                "tolerations": [{"key": "gpu", "operator": "Exists", "effect": "NoSchedule"}],
            },
            "StudentTrainer": {"cpu": 4, "memory_gb": 16},
        },
    }
    return RunConfig.model_validate(content | sections)


def run_before(
    of: RunConfig, span: int, first_id: int, source: graph.Input = ANYWHERE, **blessed: bool
) -> None:
    """Keeps the records of a run as if all its steps had ended well.

    Args:
      of: The run config.
      span: Last span of the run.
      first_id: Id of the first artifact that it made.
      source: What the run reads.
      blessed: By gate, without the dot, whether it blessed; all do by default.
    """
    number = first_id
    models: dict[str, int] = {}
    for node in graph.build(of, source).components:
        if not isinstance(node, BaseComponent):
            continue
        outputs: dict[str, tuple[Made, ...]] = {}
        for key, channel in node.outputs.items():
            item = channel.type()
            item.id = number
            item.uri = f"{STORE}/{span}/{node.id}/{key}"
            if issubclass(channel.type, Examples) or "span" in (channel.type.PROPERTIES or {}):
                item.span = span
            else:
                item.set_int_custom_property("span", span)
            if issubclass(channel.type, ModelBlessing):
                verdict = blessed.get(node.id.replace(".", "_"), True)
                item.set_int_custom_property("blessed", int(verdict))
                item.set_int_custom_property(
                    "current_model_id", models[_judged(node.inputs["model"])]
                )
            if key == "model":
                models[node.id] = number
            if key == "infra_blessing":
                item.set_int_custom_property("blessed", 1)
            outputs[key] = (Made.of(item),)
            number += 1
        inputs = {
            key: (models[_judged(channel)],)
            for key, channel in node.inputs.items()
            if _judged(channel) in models and key == "model"
        }
        records.write(
            Record(
                run=f"run-{span}",
                component=node.id,
                inputs=inputs,
                outputs=outputs,
                seconds=1,
                cpu_seconds=1,
                peak_mib=1,
                finished=number,
            ),
            of.run_folder,
        )


def _judged(channel: Any) -> str:
    return str(channel.producer_component_id)


def sources(task: dag.Task, key: str) -> list[str]:
    """Where the artifacts of an input come from: a component of this run, or a URI."""
    return [
        f"{source.component}.{source.key}" if isinstance(source, dag.Output) else source.item.uri
        for source in task.inputs.get(key, ())
    ]


def by_component(tasks: Sequence[dag.Task]) -> dict[str, dag.Task]:
    return {task.component: task for task in tasks}


def saved(folder: Path, name: str, **sections: Any) -> Path:
    """The file of a `config`."""
    file = folder / f"{name}.yaml"
    file.write_text(config(name, **sections).to_yaml())
    return file
