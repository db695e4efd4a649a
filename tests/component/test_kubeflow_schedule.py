"""Schedules on Kubeflow Pipelines: kept by a stub of its API, and taken turns of."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner, Result
from compiled import STORE, config, saved
from kfp_stub import KfpStub, serving

from tfx_distill.kubeflow import compilation, scheduler_step
from tfx_distill.kubeflow.cli import main
from tfx_distill.kubeflow.local_cluster import Command, LocalCluster
from tfx_distill.pipeline import stream as streaming
from tfx_distill.pipeline.session import Spans
from tfx_distill.pipeline.stream import Progress

HOURLY = "0 * * * *"


@pytest.fixture
def stub() -> Iterator[KfpStub]:
    with serving() as server:
        yield server


@pytest.fixture
def stream(tmp_path: Path) -> Path:
    return saved(tmp_path, "stream")


def schedule(stub: KfpStub, file: Path, cron: str = HOURLY, *options: str) -> Result:
    where = ["--host", stub.host, "--cluster-host", stub.host]
    return CliRunner().invoke(
        main, ["kubeflow", "schedule", str(file), *where, "--cron", cron, *options]
    )


# ---- keeping it ----------------------------------------------------------------------------------


def test_a_schedule_is_created_once(stub: KfpStub, stream: Path) -> None:
    first = schedule(stub, stream)
    assert first.exit_code == 0
    assert ": created, " in first.output
    (made,) = stub.schedules()
    # Six fields, of which the first is seconds: five would run it every minute.
    assert made["trigger"] == {"cron_schedule": {"cron": "0 0 * * * *"}}
    assert made["no_catchup"] is True
    assert int(made["max_concurrency"]) == 1
    assert made["mode"] == "ENABLE"
    assert made["runtime_config"]["pipeline_root"] == STORE

    assert ": unchanged, " in schedule(stub, stream).output
    assert stub.schedules() == [made]


def test_another_time_or_config_replaces_it(stub: KfpStub, stream: Path) -> None:
    schedule(stub, stream)
    assert ": updated, " in schedule(stub, stream, "30 6 * * *").output
    (made,) = stub.schedules()
    assert made["trigger"]["cron_schedule"]["cron"] == "0 30 6 * * *"

    saved(stream.parent, "stream", seed=3)
    assert ": updated, " in schedule(stub, stream, "30 6 * * *").output
    assert len(stub.schedules()) == 1


def test_one_that_was_paused_or_doubled_is_set_right(stub: KfpStub, stream: Path) -> None:
    schedule(stub, stream)
    (first,) = stub.schedules()
    first["status"] = "DISABLED"
    assert ": updated, " in schedule(stub, stream).output
    (second,) = stub.schedules()
    assert second["status"] == "ENABLED"
    stub.recurringruns["double"] = second | {"recurring_run_id": "double"}
    assert ": updated, " in schedule(stub, stream).output
    assert len(stub.schedules()) == 1


def test_schedules_of_other_streams_stay(stub: KfpStub, stream: Path) -> None:
    schedule(stub, saved(stream.parent, "stream_students"), HOURLY, "--students-only")
    schedule(stub, stream)
    schedule(stub, stream, "30 6 * * *")
    assert len(stub.schedules()) == 2


@pytest.mark.parametrize(
    "cron",
    ["@hourly", "0 0 * * * *", "* * *"],
)
def test_other_times_than_five_fields_are_refused(stub: KfpStub, stream: Path, cron: str) -> None:
    result = schedule(stub, stream, cron)
    assert result.exit_code == 1
    assert "MINUTE HOUR DAY MONTH WEEKDAY" in result.output
    assert not stub.schedules()


def test_a_batch_has_no_schedule(stub: KfpStub, tmp_path: Path) -> None:
    result = schedule(stub, saved(tmp_path, "video"))
    assert result.exit_code == 1
    assert "`stream: {}`" in result.output


# ---- a turn --------------------------------------------------------------------------------------


@pytest.fixture
def turns(stub: KfpStub, stream: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """Takes turns as a cluster would; what is said, and the spans that are compiled."""
    text = compilation.compile_pipeline(config("stream"), "kfp")
    spans: list[int | None] = []

    def compile_instead(of: Any, target: str, *, span: int | None, students_only: bool) -> str:
        spans.append(span)
        return text

    monkeypatch.setattr(compilation, "compile_pipeline", compile_instead)

    def take(**parameters: str | int) -> tuple[str, list[int | None]]:
        said = []

        def run(command: Command) -> int:
            program, _, module, *arguments = command.arguments
            assert (program, module) == ("python", "tfx_distill.kubeflow.scheduler_step")
            result = CliRunner().invoke(scheduler_step.main, arguments)
            said.append(result.output)
            return result.exit_code

        (made,) = stub.schedules()
        package = made["pipeline_spec"]
        documents = [package["pipeline_spec"], package["platform_spec"]]
        cluster = LocalCluster(tmp_path / "cluster", run, "kfp", STORE)
        states = cluster.run(yaml.safe_dump_all(documents), parameters)
        assert states == {"submit": "succeeded"}, said
        return said[0], spans

    return take


def test_a_turn_submits_what_is_next_once(
    stub: KfpStub, stream: Path, turns: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def progress(of: Any, students_only: bool) -> Progress:
        return Progress((0, 1), (), None, (Spans(2, 2, carried=1, age=1),))

    monkeypatch.setattr(streaming, "progress", progress)
    schedule(stub, stream, HOURLY, "--service-account", "distill")
    said, spans = turns()
    assert said.startswith("stream-span-2: submitted")
    said, spans = turns()
    assert said.startswith("stream-span-2: was submitted before and is running")
    assert spans == [2]
    run = stub.by_name()["stream-span-2"]
    assert run["service_account"] == "distill"
    assert run["runtime_config"] == {"parameters": {"seed": 0}, "pipeline_root": STORE}


def test_a_turn_can_be_told_span_seed_and_config(stub: KfpStub, stream: Path, turns: Any) -> None:
    schedule(stub, stream)
    other = stream.parent / "other.yaml"
    other.write_text(config("stream").model_copy(update={"name": "other"}).to_yaml())
    said, spans = turns(span="4", seed=9, config_uri=str(other))
    assert said.startswith("other-span-4: submitted")
    assert spans == [4]
    assert stub.by_name()["other-span-4"]["runtime_config"]["parameters"] == {"seed": 9}


def test_the_step_has_what_the_others_have(stub: KfpStub, stream: Path) -> None:
    schedule(stub, stream)
    package = stub.schedules()[0]["pipeline_spec"]
    first = yaml.safe_load(
        compilation.compile_pipeline(config("stream"), "kfp").partition("---")[0]
    )
    ours = package["pipeline_spec"]["deploymentSpec"]["executors"]["exec-submit"]["container"]
    theirs = first["deploymentSpec"]["executors"]["exec-prepare"]["container"]
    assert ours["image"] == theirs["image"]
    assert ours["resources"] == theirs["resources"]
    platform = package["platform_spec"]["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
    assert platform["exec-submit"]["pvcMount"] == [
        {"constant": "distill", "mountPath": "/mnt/distill"}
    ]
    assert platform["exec-submit"]["secretAsEnv"][0]["secretName"] == "store"
