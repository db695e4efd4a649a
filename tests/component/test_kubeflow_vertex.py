"""Runs and schedules on Vertex AI by Google's client, against a stub of its API."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from compiled import config
from vertex_stub import VertexStub, serving

from tfx_distill.kubeflow.cli import main

SETTINGS = {"image": "registry.example/i:1", "pipeline_root": "gs://bucket/root"}
WHERE = ("--target", "vertex", "--project", "shop", "--region", "europe-west4")


@pytest.fixture
def stub() -> Iterator[VertexStub]:
    with serving() as server:
        yield server


@pytest.fixture
def stream(tmp_path: Path) -> Path:
    return saved(tmp_path)


def saved(folder: Path, **sections: int) -> Path:
    file = folder / "stream.yaml"
    file.write_text(config("stream", "/gcs/bucket", kubeflow=SETTINGS, **sections).to_yaml())
    return file


def distill(command: str, file: Path, *options: str) -> Result:
    return CliRunner().invoke(main, ["kubeflow", command, str(file), *WHERE, *options])


def test_a_run_is_created_once_and_again_after_a_failure(stub: VertexStub, stream: Path) -> None:
    options = ("--service-account", "steps@shop", "--parameter", "seed=7")
    first = distill("submit", stream, *options)
    assert first.output == (
        "stream-bootstrap: submitted, https://console.cloud.google.com/vertex-ai/locations/"
        "europe-west4/pipelines/runs/stream-bootstrap?project=shop\n"
    )
    (job,) = stub.jobs().values()
    assert job["serviceAccount"] == "steps@shop"
    assert job["runtimeConfig"]["gcsOutputDirectory"] == "gs://bucket/root"
    assert job["runtimeConfig"]["parameterValues"] == {"seed": 7}

    assert "was submitted before and is running" in distill("submit", stream, *options).output
    job["state"] = "PIPELINE_STATE_FAILED"
    assert "stream-bootstrap-retry1: submitted" in distill("submit", stream, *options).output
    stub.jobs()["stream-bootstrap-retry1"]["state"] = "PIPELINE_STATE_SUCCEEDED"
    assert "has ended well" in distill("submit", stream, *options).output
    assert list(stub.jobs()) == ["stream-bootstrap", "stream-bootstrap-retry1"]


def test_a_schedule_is_kept_replaced_and_never_doubled(stub: VertexStub, stream: Path) -> None:
    assert ": created, " in distill("schedule", stream, "--cron", "0 * * * *").output
    (made,) = stub.schedules.values()
    assert made["cron"] == "0 * * * *"
    assert made["maxConcurrentRunCount"] == "1"
    assert not made.get("allowQueueing", False)

    assert ": unchanged, " in distill("schedule", stream, "--cron", "0 * * * *").output
    made["state"] = "PAUSED"
    assert ": updated, " in distill("schedule", stream, "--cron", "0 * * * *").output
    saved(stream.parent, seed=5)
    assert ": updated, " in distill("schedule", stream, "--cron", "0 * * * *").output
    (made,) = stub.schedules.values()
    assert made["state"] == "ACTIVE"


def test_a_refusal_is_one_clear_error(stub: VertexStub, stream: Path) -> None:
    stub.refusal = (403, "Permission 'aiplatform.pipelineJobs.list' denied")
    result = distill("submit", stream)
    assert result.exit_code == 1
    assert result.output.startswith("error: Vertex AI, project shop in europe-west4\n")
    assert "aiplatform.pipelineJobs.list" in result.output
