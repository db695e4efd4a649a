"""Compiled pipelines whose steps are containers of the real image."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import polars as pl
import probes
import pytest
import yaml
from clusters import cluster, on_cluster
from conftest import Run
from projects import REPOSITORY, Project

from tfx_distill.kubeflow.compilation import compile_pipeline
from tfx_distill.kubeflow.podman import podman_runner
from tfx_distill.pipeline import summary
from tfx_distill.pipeline.summary import Summary

pytestmark = [pytest.mark.containers, pytest.mark.timeout(3600)]
PODMAN = str(REPOSITORY / ".ci/podman")


@pytest.fixture(scope="module")
def image() -> str:
    """The image of this checkout, built unless it is there."""
    if "CI" not in os.environ and shutil.which("podman") is None:
        # Elsewhere nobody needs it to distil; with CI set a missing one fails below.
        pytest.skip("podman is missing, so no container was run; .ci/image installs it")
    building = subprocess.run([REPOSITORY / ".ci/image"], stdout=subprocess.PIPE, text=True)
    assert building.returncode == 0, "no image: see what .ci/image says"
    return building.stdout.strip()


def on_volumes(project: Project, folder: Path, image: str) -> Project:
    """The project on a cluster, on volumes that the user of the image may write to."""
    made = on_cluster(project, folder, project.folder, image=image)
    # TFX would make it, for whoever compiles the pipeline.
    made.config().run_folder.mkdir(parents=True)
    subprocess.run(["chmod", "--recursive", "a+rwX", folder, project.folder], check=True)
    return made


class Ended:
    """The batch, each step of which was a container."""

    def __init__(self, project: Project) -> None:
        self.config = project.config()
        text = compile_pipeline(self.config, "kfp")
        on = cluster(project.folder / "cluster", "kfp", podman_runner(PODMAN))
        self.states = on.run(text)

    @property
    def summary(self) -> Summary:
        return summary.read(self.config.run_folder)


@pytest.fixture(scope="module")
def ended(image: str, tiny_project: Project, tmp_path_factory: pytest.TempPathFactory) -> Ended:
    return Ended(on_volumes(tiny_project, tmp_path_factory.mktemp("containers"), image))


def test_every_step_succeeds_and_a_student_is_pushed(ended: Ended) -> None:
    assert set(ended.states.values()) == {"succeeded"}
    for student in ended.summary.students:
        assert student.pushed is not None
        assert (Path(student.pushed) / "saved_model.pb").exists()


def test_it_makes_what_a_local_run_makes(ended: Ended, tiny_run: Run) -> None:
    metrics, local = (
        {student.name: student.metrics for student in run.summary.students}
        for run in (ended, tiny_run)
    )
    assert metrics == local
    labels, local_labels = (
        pl.read_delta(str(run.config.label_table)).drop("scored_at", "teacher").sort("example_id")
        for run in (ended, tiny_run)
    )
    assert labels.equals(local_labels)


def test_a_step_that_fails_fails_the_run(image: str, tiny_project: Project, tmp_path: Path) -> None:
    project = on_volumes(tiny_project, tmp_path / "volume", image)
    documents = list(yaml.safe_load_all(compile_pipeline(project.config(), "kfp")))
    executor = documents[0]["deploymentSpec"]["executors"]["exec-statistics-gen"]
    executor["container"] |= {"command": ["sh", "-c"], "args": ["exit 3"]}
    file = tmp_path / "pipeline.yaml"
    file.write_text(yaml.safe_dump_all(documents))
    command = [Path(sys.executable).with_name("distill"), "kubeflow", "run-local", file]
    command += ["--into", tmp_path / "cluster", "--containers", "--podman", PODMAN]
    done = subprocess.run(command, stderr=subprocess.PIPE, text=True)
    told = dict(re.findall(r"^\[\d+/\d+\] (\S+): (\w+), [\d.]+ s$", done.stderr, re.MULTILINE))
    assert done.returncode == 1
    assert told["prepare"] == "succeeded"
    assert told["statistics-gen"] == "failed"
    assert told["transform"] == "skipped"
    assert told["finish"] == "failed"


@pytest.fixture(scope="module")
def seen(image: str, tmp_path_factory: pytest.TempPathFactory) -> Any:
    on = cluster(tmp_path_factory.mktemp("probes"), "kfp", podman_runner(PODMAN))
    assert on.run(probes.pipeline(image)) == {"write": "succeeded", "look": "succeeded"}
    return probes.seen(on.store)


def test_a_step_is_not_root(seen: Any) -> None:
    assert (seen["user"] == 0, seen["capabilities"]) == (False, 0)


def test_a_step_has_no_network(seen: Any) -> None:
    assert seen["interfaces"] == ["lo"]


def test_a_step_sees_the_artifacts_that_it_declares_and_no_others(seen: Any) -> None:
    assert seen["artifacts"] == {"declared": "declared"}


def test_a_step_writes_to_nothing_but_its_outputs_and_tmp(seen: Any) -> None:
    assert [name for name, can in seen["writable"].items() if can] == ["scratch"]
