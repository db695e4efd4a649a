"""What podman is told of a step."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tfx_distill.kubeflow.local_cluster import Command
from tfx_distill.kubeflow.podman import podman_runner
from tfx_distill.schema.errors import EnvironmentProblem


@pytest.fixture
def command(tmp_path: Path) -> Command:
    made = Command(
        task="trainer",
        image="registry.example/image:1",
        arguments=("python", "-m", "step", "--executor_input", "{}"),
        environment={"UNSAFE": "true"},
        synced=tmp_path / "synced",
        inputs={"/minio/bucket/run/gen/examples": tmp_path / "store/examples"},
        output="/minio/bucket/run/trainer",
        volumes=("/mnt/logs",),
    )
    made.written.mkdir(parents=True)
    return made


@pytest.fixture
def told(tmp_path: Path) -> Path:
    """Stands for podman: writes down its arguments, one a line, and ends with 7."""
    program = tmp_path / "podman"
    program.write_text(f'#!/bin/sh\nprintf "%s\\n" "$@" >{tmp_path}/told\nexit 7\n')
    program.chmod(0o755)
    return program


def test_the_exit_status_is_that_of_the_container(command: Command, told: Path) -> None:
    assert podman_runner(str(told))(command) == 7


def test_it_mounts_inputs_read_only_outputs_and_volumes(
    command: Command, told: Path, tmp_path: Path
) -> None:
    podman_runner(str(told))(command)
    arguments = told.with_name("told").read_text().splitlines()
    assert [a.removeprefix("--volume=") for a in arguments if a.startswith("--volume=")] == [
        f"{tmp_path}/store/examples:/minio/bucket/run/gen/examples:ro",
        f"{tmp_path}/synced/minio/bucket/run/trainer:/minio/bucket/run/trainer",
        "/mnt/logs:/mnt/logs",
    ]
    assert "--network=none" in arguments
    assert "--env=UNSAFE=true" in arguments


def test_the_command_takes_the_place_of_the_entrypoint(command: Command, told: Path) -> None:
    podman_runner(str(told))(command)
    arguments = told.with_name("told").read_text().splitlines()
    image = arguments.index("registry.example/image:1")
    assert "--entrypoint=python" in arguments[:image]
    assert arguments[image + 1 :] == ["-m", "step", "--executor_input", "{}"]


@pytest.mark.parametrize(("user", "kept"), [(0, False), (1234, True)])
def test_a_user_stays_that_user_but_root_does_not(
    command: Command, told: Path, monkeypatch: pytest.MonkeyPatch, user: int, kept: bool
) -> None:
    monkeypatch.setattr(os, "getuid", lambda: user)
    podman_runner(str(told))(command)
    assert ("--userns=keep-id" in told.with_name("told").read_text()) == kept


def test_podman_has_to_be_there(tmp_path: Path) -> None:
    with pytest.raises(EnvironmentProblem, match="no such program"):
        podman_runner(str(tmp_path / "missing"))
