"""Runs on Kubeflow Pipelines by its own client, against a stub of its API."""

from __future__ import annotations

import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner, Result
from compiled import STORE, config, saved
from kfp_stub import KfpStub, Refused, require_pipeline, serving

from tfx_distill.kubeflow import compilation
from tfx_distill.kubeflow.cli import main
from tfx_distill.kubeflow.client import TOKEN_FILE
from tfx_distill.kubeflow.compilation import compile_pipeline
from tfx_distill.pipeline import stream as streaming
from tfx_distill.pipeline.session import Spans
from tfx_distill.pipeline.stream import Progress
from tfx_distill.schema.config import RunConfig
from tfx_distill.schema.errors import DataError


@pytest.fixture
def stub() -> Iterator[KfpStub]:
    with serving() as server:
        yield server


@pytest.fixture(scope="module", autouse=True)
def compiled_once() -> Iterator[None]:
    """Every config is compiled only once."""
    texts: dict[Any, str] = {}

    def remembered(of: RunConfig, *others: Any, **more: Any) -> str:
        key = (of.to_yaml(), others, *more.items())
        if key not in texts:
            texts[key] = compile_pipeline(of, *others, **more)
        return texts[key]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(compilation, "compile_pipeline", remembered)
        yield


@pytest.fixture
def stream(tmp_path: Path) -> Path:
    return saved(tmp_path, "stream")


def submit(stub: KfpStub, file: Path, *options: str) -> Result:
    return CliRunner().invoke(
        main, ["kubeflow", "submit", str(file), "--host", stub.host, *options]
    )


def standing(*pending: Spans, partial: tuple[int, ...] = (), waiting: str | None = None) -> Any:
    return lambda config, students_only: Progress((), partial, None, pending, waiting)


# ---- once ----------------------------------------------------------------------------------------


def test_a_run_is_created_once(stub: KfpStub, stream: Path) -> None:
    first = submit(stub, stream)
    assert (first.exit_code, list(stub.by_name())) == (0, ["stream-bootstrap"])
    assert first.output == f"stream-bootstrap: submitted, {stub.host}/#/runs/details/runs-1\n"

    second = submit(stub, stream)
    assert "stream-bootstrap: was submitted before and is running" in second.output
    stub.end("stream-bootstrap", "SUCCEEDED")
    third = submit(stub, stream)
    assert "stream-bootstrap: was submitted before and has ended well" in third.output
    assert [second.exit_code, third.exit_code, len(stub.runs)] == [0, 0, 1]


def test_a_run_that_failed_may_be_submitted_again_so_often(stub: KfpStub, stream: Path) -> None:
    submit(stub, stream, "--attempts", "2")
    stub.end("stream-bootstrap", "FAILED")
    assert "stream-bootstrap-retry1: submitted" in submit(stub, stream, "--attempts", "2").output
    assert "retry1: was submitted before" in submit(stub, stream, "--attempts", "2").output

    stub.end("stream-bootstrap-retry1", "CANCELED")
    refused = submit(stub, stream, "--attempts", "2")
    assert refused.exit_code == 1
    assert "2 attempts that failed" in refused.output
    assert "stream-bootstrap-retry2: submitted" in submit(stub, stream).output


def test_an_archived_run_does_not_count(stub: KfpStub, stream: Path) -> None:
    submit(stub, stream)
    stub.by_name()["stream-bootstrap"] |= {"state": "SUCCEEDED", "storage_state": "ARCHIVED"}
    assert "stream-bootstrap: submitted" in submit(stub, stream).output
    assert len(stub.runs) == 2


def test_a_batch_is_known_by_its_config_and_parameters(stub: KfpStub, tmp_path: Path) -> None:
    video = saved(tmp_path, "video")
    submit(stub, video)
    assert "was submitted before" in submit(stub, video).output
    assert len(stub.runs) == 1
    submit(stub, video, "--parameter", "spans=0..1")
    saved(tmp_path, "video", seed=1)
    submit(stub, video)
    names = list(stub.by_name())
    assert len(names) == 3
    assert all(name.startswith("video-batch-") for name in names)


def test_runs_whose_names_only_begin_alike_are_others(stub: KfpStub, stream: Path) -> None:
    """More of them than one page holds."""
    submit(stub, stream)
    _, run = stub.runs.popitem()
    for number in range(10, 15):
        stub.runs[str(number)] = run | {
            "run_id": str(number),
            "display_name": f"stream-bootstrap-{number}",
        }
    assert "stream-bootstrap: submitted" in submit(stub, stream).output
    assert "was submitted before" in submit(stub, stream).output


# ---- what is sent --------------------------------------------------------------------------------


def test_everything_a_run_needs_is_sent(stub: KfpStub, stream: Path) -> None:
    submit(stub, stream, "--parameter", "seed=7", "--service-account", "distill")
    run = stub.by_name()["stream-bootstrap"]
    assert stub.experiments[run["experiment_id"]]["display_name"] == "stream"
    assert run["service_account"] == "distill"
    assert run["runtime_config"] == {"parameters": {"seed": 7}, "pipeline_root": STORE}
    tasks = run["pipeline_spec"]["pipeline_spec"]["root"]["dag"]["tasks"]
    assert {"prepare", "teacher-trainer", "finish"} <= set(tasks)
    assert "platforms" in run["pipeline_spec"]["platform_spec"]


def test_a_shared_installation_gets_namespace_and_token(
    stub: KfpStub, stream: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "token").write_text("secret")
    monkeypatch.setenv(TOKEN_FILE, str(tmp_path / "token"))
    submit(stub, stream, "--namespace", "team")
    (experiment,) = stub.experiments.values()
    assert experiment["namespace"] == "team"
    assert stub.headers["authorization"] == "Bearer secret"


def test_the_stub_refuses_what_is_no_pipeline() -> None:
    for content in ({"no": "field"}, {"pipelineInfo": {"name": "x"}, "root": {"dag": 1}}):
        with pytest.raises(Refused):
            require_pipeline(content, {})


# ---- what is next --------------------------------------------------------------------------------


@pytest.fixture
def later(stub: KfpStub, stream: Path, monkeypatch: pytest.MonkeyPatch) -> list[int | None]:
    """The spans that were compiled; all get the text of the bootstrap."""
    compiled: list[int | None] = []
    text = compilation.compile_pipeline(config("stream"), "kfp")

    def instead(of: Any, target: str, *, span: int | None, students_only: bool) -> str:
        compiled.append(span)
        return text

    monkeypatch.setattr(compilation, "compile_pipeline", instead)
    return compiled


def test_next_is_the_bootstrap_then_span_after_span(
    stub: KfpStub, stream: Path, later: list[int | None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streaming, "progress", standing(Spans(0, 1)))
    assert "stream-bootstrap: submitted" in submit(stub, stream, "--span", "next").output
    assert "is running" in submit(stub, stream, "--span", "next").output
    stub.end("stream-bootstrap", "SUCCEEDED")
    two = Spans(2, 2, carried=1, age=1)
    three = Spans(3, 3, carried=2, age=2)
    monkeypatch.setattr(streaming, "progress", standing(two, three))
    assert "stream-span-2: submitted" in submit(stub, stream, "--span", "next").output
    assert "stream-span-2: was submitted" in submit(stub, stream, "--span", "next").output
    assert later == [None, 2]


def test_what_failed_in_part_is_left_for_the_next_span(
    stub: KfpStub, stream: Path, later: list[int | None], monkeypatch: pytest.MonkeyPatch
) -> None:
    two = Spans(2, 2, carried=1, age=1)
    three = Spans(3, 3, carried=2, age=2)
    monkeypatch.setattr(streaming, "progress", standing(two, partial=(2,)))
    assert "Nothing to do: all complete" in submit(stub, stream, "--span", "next").output
    monkeypatch.setattr(streaming, "progress", standing(two, three, partial=(2,)))
    assert "stream-span-3: submitted" in submit(stub, stream, "--span", "next").output


def test_nothing_to_do_is_no_failure(
    stub: KfpStub, stream: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def nothing(config: Any, students_only: bool) -> Progress:
        raise DataError("logs", got="no files", expected="logs", fix="")

    for progress, reason in (
        (standing(), "all complete spans are processed"),
        (standing(waiting="span 3 is missing"), "span 3 is missing"),
        (nothing, "logs: no files"),
    ):
        monkeypatch.setattr(streaming, "progress", progress)
        result = submit(stub, stream, "--span", "next")
        assert (result.exit_code, result.output) == (0, f"Nothing to do: {reason}\n")
    assert not stub.runs


def test_a_run_without_a_record_is_not_taken_for_done(
    stub: KfpStub, stream: Path, later: list[int | None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streaming, "progress", standing(Spans(0, 1)))
    submit(stub, stream, "--span", "next")
    stub.end("stream-bootstrap", "SUCCEEDED")
    result = submit(stub, stream, "--span", "next")
    assert result.exit_code == 1
    assert "without a record" in result.output


# ---- errors --------------------------------------------------------------------------------------


def test_a_host_that_is_down_is_one_clear_error(stub: KfpStub, stream: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        stub.host = f"http://127.0.0.1:{free.getsockname()[1]}"
    result = submit(stub, stream)
    assert result.exit_code == 1
    assert result.output.startswith(f"error: {stub.host}\n  got:      no answer")
    assert result.output.count("\n") == 4


def test_a_refusal_is_told_in_the_words_of_the_server(stub: KfpStub, stream: Path) -> None:
    stub.refusal = Refused(403, "user may not create runs")
    result = submit(stub, stream)
    assert result.exit_code == 1
    assert "HTTP status 403: user may not create runs" in result.output


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--host", "ml-pipeline:8888"], "an address with its protocol"),
        (["--host", ""], "Add --host"),
        (["--target", "vertex"], "Add --project"),
        (["--parameter", "seed"], "NAME=VALUE"),
        (["--parameter", "seed=x"], "NAME=VALUE"),
        (["--parameter", "epochs=2"], "config_uri, seed, spans"),
        (["--span", "last"], "a number, or next"),
    ],
)
def test_wrong_options_are_refused(
    stub: KfpStub, stream: Path, options: list[str], told: str
) -> None:
    result = submit(stub, stream, *options)
    assert result.exit_code == 1
    assert told in result.output
    assert not stub.runs


def test_without_the_extra_it_says_what_to_install(
    stub: KfpStub, stream: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "kfp", None)
    result = submit(stub, stream)
    assert result.exit_code == 1
    assert "the extra 'kubeflow'" in result.output


def test_a_config_without_the_section_is_refused(stub: KfpStub, tmp_path: Path) -> None:
    content = yaml.safe_load(saved(tmp_path, "video").read_text())
    del content["kubeflow"]
    (tmp_path / "video.yaml").write_text(yaml.safe_dump(content))
    result = submit(stub, tmp_path / "video.yaml")
    assert result.exit_code == 1
    assert "the section 'kubeflow'" in result.output
