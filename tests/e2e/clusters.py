"""Clusters on this machine: compiled pipelines whose steps run in this process, or in their own."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml
from projects import Project

from tfx_distill.kubeflow import step, uris
from tfx_distill.kubeflow.local_cluster import Command, LocalCluster, Runner

ROOTS = {"kfp": "minio://mlpipeline/v2/artifacts", "vertex": "gs://bucket/root"}


def on_cluster(
    project: Project,
    folder: Path,
    *mounted: Path,
    image: str = "registry.example/tfx-distill:1",
    retries: int = 0,
    **sections: Any,
) -> Project:
    """A project whose run folder and pushes are in a folder that all steps see."""
    folder.mkdir(parents=True, exist_ok=True)
    content = yaml.safe_load(project.file.read_text())
    content["root"] = str(folder / "runs")
    content["push"] = {"directory": str(folder / "serving")}
    content["kubeflow"] = {
        "image": image,
        "pipeline_root": ROOTS["kfp"],
        "volumes": [
            {"claim": f"claim-{number}", "mount": str(path)}
            for number, path in enumerate((folder, *mounted))
        ],
        "retries": retries,
    }
    file = folder / project.file.name
    file.write_text(yaml.safe_dump(content | sections))
    return Project(folder, file)


def cluster(folder: Path, target: Any, runner: Runner) -> LocalCluster:
    return LocalCluster(folder, runner=runner, target=target, pipeline_root=ROOTS[target])


@contextmanager
def in_this_process(
    dies: Callable[[Command], bool] = lambda command: False,
) -> Iterator[Runner]:
    """Runs steps without a start of Python for each.

    Args:
      dies: Whether the container of a step dies, when its work is done but nobody knows of it.
    """
    with pytest.MonkeyPatch.context() as patch:

        def run(command: Command) -> int:
            assert command.arguments[:3] == ("python", "-m", step.__name__)
            patch.setenv(uris.ROOT, str(command.synced))
            for name, value in command.environment.items():
                patch.setenv(name, value)
            patch.setattr(sys, "argv", list(command.arguments))
            return _status(command.arguments[3:]) or int(dies(command))

        yield run


def once(task: str) -> Callable[[Command], bool]:
    """A task dies at its first attempt."""
    attempts: list[str] = []

    def dies(command: Command) -> bool:
        attempts.append(command.task)
        return command.task == task and attempts.count(task) == 1

    return dies


def _status(arguments: Sequence[str]) -> int:
    try:
        step.main(list(arguments), standalone_mode=False)
    except SystemExit as end:
        return int(end.code or 0)
    except Exception:  # noqa: BLE001  # as the interpreter does
        traceback.print_exc()
        return 1
    return 0
