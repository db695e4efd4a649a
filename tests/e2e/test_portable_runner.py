"""The whole pipeline on Beam's portable runner: a job service, and workers of a pool."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import polars as pl
import pytest
import yaml
from projects import Project

from tfx_distill.pipeline import session

# Many processes beside each other: on a busy machine they take their time.
pytestmark = pytest.mark.timeout(1500)

START_SECONDS = 120


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


@pytest.fixture
def path(tmp_path: Path) -> str:
    """A search path whose `python` is this one, and counts its starts in a file."""
    python = tmp_path / "bin/python"
    python.parent.mkdir()
    python.write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/started\nexec {sys.executable} "$@"\n')
    python.chmod(0o755)
    return f"{python.parent}{os.pathsep}{os.environ['PATH']}"


@contextmanager
def served(module: str, port: int, path: str, *arguments: str) -> Iterator[str]:
    """A Python module that serves on a port; yields its address."""
    server = subprocess.Popen(
        [sys.executable, "-m", module, *arguments],
        # A pool starts its workers by the plain name `python`.
        env=os.environ | {"PATH": path},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        deadline = time.monotonic() + START_SECONDS
        while True:
            assert server.poll() is None, f"{module} ended"
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
            except OSError:
                assert time.monotonic() < deadline, f"{module} does not listen"
                time.sleep(0.2)
            else:
                break
        yield f"localhost:{port}"
    finally:
        server.terminate()
        server.wait(timeout=30)


@pytest.fixture
def options(path: str) -> Iterator[list[str]]:
    """Of Beam's own job service, with an external pool of workers."""
    with ExitStack() as stack:
        ports = free_port(), free_port()
        job, pool = (
            stack.enter_context(served(module, port, path, f"--{name}={port}"))
            for module, name, port in (
                ("apache_beam.runners.portability.local_job_service_main", "port", ports[0]),
                ("apache_beam.runners.worker.worker_pool_main", "service_port", ports[1]),
            )
        )
        yield [
            f"--job_endpoint={job}",
            "--environment_type=EXTERNAL",
            f"--environment_config={pool}",
        ]


def test_the_pipeline_runs_on_the_portable_runner(
    tiny_project: Project, options: list[str], tmp_path: Path
) -> None:
    content = yaml.safe_load(tiny_project.file.read_text())
    content["root"] = str(tmp_path / "runs")
    content["push"] = {"directory": str(tmp_path / "serving")}
    content["students"] = content["students"][:1]
    content["beam"] = {"runner": "PortableRunner", "options": options}
    project = Project(tmp_path, tmp_path / "video.yaml")
    project.file.write_text(yaml.safe_dump(content))
    summary, error = session.run(project.config())
    assert error is None
    steps = {step.component for step in summary.steps}
    assert {"Transform", "FeatureMaterializer", "TeacherLabeler"} <= steps
    # A job of Beam has a worker of its own, begun by the pool.
    assert len((tmp_path / "started").read_text().splitlines()) >= 3
    (student,) = summary.students
    assert student.pushed is not None
    labels = pl.read_delta(str(project.config().label_table))
    assert labels.select("example_id", "split").n_unique() == len(labels)
    assert len(labels) == sum(summary.examples.values())
