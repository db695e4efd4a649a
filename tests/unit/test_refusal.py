"""Which student `distill bless` may let through, and what it says of the others."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner
from config_basis import changed

from tfx_distill.components.serving_report import ServingReport
from tfx_distill.components.verdict import Override, Verdict
from tfx_distill.pipeline import cli, refusal, span_records, status
from tfx_distill.pipeline import stream as stream_state
from tfx_distill.pipeline import summary as summaries
from tfx_distill.pipeline.summary import StudentSummary, Summary
from tfx_distill.schema.config import RunConfig
from tfx_distill.schema.errors import ConfigError

WHY = Override(because="a new market", by="ada", at="2024-01-01T00:00:00+00:00")


def student(**changes: Any) -> StudentSummary:
    """A student that its gate refused."""
    blessed = changes.pop("blessed", False)
    verdict = Verdict(
        candidate="student compact",
        blessed=blessed,
        baseline=None,
        baseline_reason="none in service",
        checks=(),
        confidence=0.95,
        replicates=1000,
        seed=0,
    )
    values = {"metrics": {}, "transfer": {}, "parameters": {}, "coverage": None, "pushed": None}
    return StudentSummary(**values | {"name": "compact", "verdict": verdict} | changes)


def record(span: int, *students: StudentSummary) -> Summary:
    return Summary(
        name="video",
        run_id=f"run-{span}",
        seed=0,
        first_span=span,
        last_span=span,
        finished=0.0,
        examples={},
        failed=None,
        teacher=None,
        teacher_parameters=None,
        labels=None,
        students=students,
        steps=(),
    )


@pytest.fixture
def config(tmp_path: Path) -> RunConfig:
    content = changed("root", str(tmp_path / "runs"))
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(content))
    config = RunConfig.model_validate(content)
    config.run_folder.mkdir(parents=True)
    return config


def batch(config: RunConfig, *students: StudentSummary) -> None:
    summaries.write(record(3, *students), config.run_folder)


def stream(config: RunConfig, **students: tuple[StudentSummary, ...]) -> None:
    """Processed spans in order, by `span_<number>`."""
    for name, found in students.items():
        span_records.write(record(int(name.partition("_")[2]), *found), config.run_folder)
        summaries.write(record(int(name.partition("_")[2]), *found), config.run_folder)


def error(config: RunConfig, name: str = "compact") -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        refusal.newest(config, name)
    return caught.value


def test_the_student_of_the_last_batch(config: RunConfig) -> None:
    batch(config, student(name="other", pushed="/serving/other/1"), student())
    assert refusal.newest(config, "compact").run_id == "run-3"


def test_of_a_stream_the_newest_span_that_had_the_student(config: RunConfig) -> None:
    refused = student()
    stream(
        config, span_8=(student(pushed="/1"),), span_9=(refused,), span_10=(refused,), span_11=()
    )
    assert refusal.newest(config, "compact").run_id == "run-10"


def test_an_earlier_refusal_of_a_stream_is_over(config: RunConfig) -> None:
    stream(config, span_9=(student(),), span_10=(student(pushed="/serving/compact/10"),))
    assert "serves from /serving/compact/10" in error(config).got


def test_a_student_that_could_not_be_served_may_be_tried_again(config: RunConfig) -> None:
    tried = student(serving=ServingReport.refused("student compact", "serves", "It crashed."))
    tried = tried.model_copy(
        update={"verdict": tried.verdict.model_copy(update={"overridden": WHY})}
    )
    batch(config, tried)
    assert refusal.newest(config, "compact").run_id == "run-3"


def test_a_name_that_the_config_lacks(config: RunConfig) -> None:
    batch(config, student(name="unknown"))
    found = error(config, "unknown")
    assert (found.got, found.expected) == ("'unknown'", "one of compact")


def test_a_config_without_a_run(config: RunConfig) -> None:
    found = error(config)
    assert found.got == "no such file"
    assert "distill run" in found.fix


def test_a_run_that_did_not_come_to_the_gate(config: RunConfig) -> None:
    batch(config)
    assert "no run has brought to its gate" in error(config).got


def test_a_student_that_its_gate_blessed(config: RunConfig) -> None:
    batch(config, student(blessed=True, pushed="/serving/compact/7"))
    found = error(config)
    assert "was not refused: it serves from /serving/compact/7" in found.got
    assert found.expected == "a student that its gate refused"


def test_a_student_that_cannot_be_served_is_not_the_gates_affair(config: RunConfig) -> None:
    unfit = ServingReport.refused("student compact", "serves", "It crashed.")
    batch(config, student(blessed=True, serving=unfit))
    found = error(config)
    assert "blessed by its gate but cannot be served: It crashed." in found.got
    assert "gate.serving" in found.fix


def test_a_blessed_student_whose_run_failed_needs_another_run(config: RunConfig) -> None:
    batch(config, student(blessed=True))
    found = error(config)
    assert "its run failed before" in found.got
    assert "distill run" in found.fix


def test_the_records_are_amended_and_the_status_says_that_it_serves(
    config: RunConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = student(name="other")
    stream(config, span_9=(student(),), span_10=(other, student()))
    before = refusal.newest(config, "compact")
    now = student(pushed="/serving/compact/10")
    refusal.amend(config.run_folder, before, now)
    records = span_records.read(config.run_folder)
    assert records[10].students == (other, now)
    assert records[9].students == (student(),)
    assert summaries.read(config.run_folder) == records[10]
    monkeypatch.setattr(stream_state, "progress", lambda config, **_: None)
    (serving,) = status.status(config).serving
    assert (serving.path, serving.span, serving.refused) == ("/serving/compact/10", 10, ())


def test_the_last_summary_of_another_run_is_left_alone(config: RunConfig) -> None:
    stream(config, span_9=(student(),), span_10=())
    refusal.amend(config.run_folder, refusal.newest(config, "compact"), student(pushed="/9"))
    assert summaries.read(config.run_folder) == record(10)
    assert span_records.read(config.run_folder)[9].students[0].pushed == "/9"


def test_a_batch_gets_no_record_of_a_span(config: RunConfig) -> None:
    batch(config, student())
    refusal.amend(config.run_folder, refusal.newest(config, "compact"), student(pushed="/3"))
    assert summaries.read(config.run_folder).students[0].pushed == "/3"
    assert not span_records.read(config.run_folder)


@pytest.mark.parametrize("reason", ["", "  "])
def test_a_reason_has_to_be_given(config: RunConfig, tmp_path: Path, reason: str) -> None:
    batch(config, student())
    arguments = ["bless", str(tmp_path / "run.yaml"), "--student", "compact", "--because", reason]
    result = CliRunner().invoke(cli.main, arguments)
    assert result.exit_code == 1
    assert "error: --because" in result.output
    assert "expected: why this student is let through" in result.output
