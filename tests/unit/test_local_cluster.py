"""What a cluster on this machine hands to a step, on a pipeline of two steps."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from tfx_distill.kubeflow.local_cluster import Command, LocalCluster

KIND = {"artifactType": {"schemaTitle": "system.Artifact"}}
ARTIFACT = "minio/bucket/run/first/made"


def pipeline(**second: Any) -> str:
    """`first` makes an artifact that `second` reads."""
    source = {"taskOutputArtifact": {"producerTask": "first", "outputArtifactKey": "made"}}
    spec = {
        "components": {
            "one": {"executorLabel": "one", "outputDefinitions": {"artifacts": {"made": KIND}}},
            "two": {"executorLabel": "two", "inputDefinitions": {"artifacts": {"given": KIND}}},
        },
        "deploymentSpec": {
            "executors": {
                name: {"container": {"image": "image:1", "command": [name], "args": []}}
                for name in ("one", "two")
            }
        },
        "root": {
            "dag": {
                "tasks": {
                    "first": {"componentRef": {"name": "one"}},
                    "second": {
                        "componentRef": {"name": "two"},
                        "inputs": {"artifacts": {"given": source}},
                    }
                    | second,
                }
            },
            "inputDefinitions": {"parameters": {}},
        },
    }
    mounts = {"two": {"pvcMount": [{"constant": "claim", "mountPath": "/mnt/logs"}]}}
    platform = {"platforms": {"kubernetes": {"deploymentSpec": {"executors": mounts}}}}
    return yaml.safe_dump_all([spec, platform])


class Steps:
    """Runs `first`, which makes its artifact unless it fails, and `second`."""

    def __init__(self, *, failing: bool = False) -> None:
        self.failing = failing
        self.commands: dict[str, Command] = {}

    def __call__(self, command: Command) -> int:
        self.commands[command.task] = command
        if command.task == "first" and not self.failing:
            (command.written / "made").write_text("content")
        return int(self.failing)


def run(folder: Path, steps: Steps, text: str) -> dict[str, str]:
    return dict(LocalCluster(folder, steps, "kfp", "minio://bucket").run(text, run="run"))


def test_a_step_is_told_where_its_declared_artifacts_are_stored(tmp_path: Path) -> None:
    steps = Steps()
    assert set(run(tmp_path, steps, pipeline()).values()) == {"succeeded"}
    (stored,) = steps.commands["second"].inputs.items()
    assert stored == (f"/{ARTIFACT}", tmp_path / "store" / ARTIFACT)
    assert stored[1].read_text() == "content"


def test_a_step_writes_below_one_folder_and_mounts_its_volumes(
    tmp_path: Path,
) -> None:
    steps = Steps()
    run(tmp_path, steps, pipeline())
    second = steps.commands["second"]
    assert second.output == "/minio/bucket/run/second"
    assert second.written == tmp_path / "synced/minio/bucket/run/second"
    assert second.written.is_dir()
    assert second.volumes == ("/mnt/logs",)
    assert steps.commands["first"].volumes == ()


def test_a_step_that_needs_what_was_not_made_is_skipped(tmp_path: Path) -> None:
    steps = Steps(failing=True)
    assert run(tmp_path, steps, pipeline()) == {"first": "failed", "second": "skipped"}


def test_a_step_that_always_runs_fails_without_its_artifact(tmp_path: Path) -> None:
    steps = Steps(failing=True)
    always = {"triggerPolicy": {"strategy": "ALL_UPSTREAM_TASKS_COMPLETED"}}
    assert run(tmp_path, steps, pipeline(**always)) == {"first": "failed", "second": "failed"}
    assert "second" not in steps.commands
