"""The summary of a run: the transfer ratio, the file, and what people see of it."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from tfx_distill.components.serving_report import ServingCheck, ServingReport
from tfx_distill.components.verdict import Check, NotJudged, Override, Verdict
from tfx_distill.pipeline import summary as summaries
from tfx_distill.pipeline.summary import StepSummary, StudentSummary, Summary
from tfx_distill.schema.errors import ConfigError

# Transfer ratio


def transfer(metric: str, student: Any, twin: Any, teacher: Any) -> float | None:
    metrics = {
        model: {"click": {metric: value}}
        for model, value in (("candidate", student), ("twin", twin), ("teacher", teacher))
    }
    return summaries.transfer(metrics)["click"][metric]


@pytest.mark.parametrize(
    ("metric", "student", "twin", "teacher", "expected"),
    [
        # Higher is better: (0.72 - 0.70) / (0.75 - 0.70).
        ("auc", 0.72, 0.70, 0.75, 0.4),
        # Lower is better: (0.50 - 0.47) / (0.50 - 0.40).
        ("log_loss", 0.47, 0.50, 0.40, 0.3),
        ("mse", 2.0, 4.0, 0.0, 0.5),
        # All that there was, more than there was, and harm.
        ("gauc", 0.75, 0.70, 0.75, 1.0),
        ("ndcg", 0.80, 0.70, 0.75, 2.0),
        ("mae", 1.2, 1.0, 0.8, -1.0),
        # A student no better than its twin got nothing.
        ("auc", 0.70, 0.70, 0.75, 0.0),
    ],
)
def test_the_transfer_ratio_is_the_share_of_the_teachers_lead(
    metric: str, student: float, twin: float, teacher: float, expected: float
) -> None:
    assert transfer(metric, student, twin, teacher) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("metric", "teacher"),
    [("auc", 0.70), ("auc", 0.69), ("log_loss", 0.70), ("log_loss", 0.71), ("auc", None)],
)
def test_without_a_lead_of_the_teacher_there_is_no_ratio(metric: str, teacher: Any) -> None:
    assert transfer(metric, 0.72, 0.70, teacher) is None
    assert transfer(metric, None, 0.70, 0.9) is None
    assert transfer(metric, 0.72, None, 0.9) is None


@given(st.floats(0.5, 0.9), st.floats(0.001, 0.1), st.floats(-1, 2))
def test_the_ratio_does_not_depend_on_the_direction(twin: float, lead: float, share: float) -> None:
    assert transfer("auc", twin + share * lead, twin, twin + lead) == pytest.approx(share, abs=1e-6)
    assert transfer("mse", twin - share * lead, twin, twin - lead) == pytest.approx(share, abs=1e-6)


def test_calibration_has_no_transfer_and_a_task_without_a_twin_none() -> None:
    metrics = {
        "candidate": {"click": {"auc": 0.8, "calibration": 1.0, "example_count": 9.0}},
        "teacher": {"click": {"auc": 0.9, "calibration": 1.1}},
    }
    assert summaries.transfer(metrics) == {"click": {"auc": None}}


# The file


def check(sentence: str, *, passed: bool) -> Check:
    return Check(
        task="click",
        metric="auc",
        rule="max_regression",
        allowed=0.1,
        other="twin",
        value=0.7,
        passed=passed,
        sentence=sentence,
    )


def verdict(*failures: str) -> Verdict:
    checks = (check("fine", passed=True), *(check(text, passed=False) for text in failures))
    return Verdict(
        candidate="compact",
        blessed=not failures,
        baseline="twin",
        baseline_reason="Nothing is in service yet.",
        checks=checks,
        confidence=0.95,
        replicates=1000,
        seed=0,
    )


def served(*failures: str) -> ServingReport:
    checks = [ServingCheck(rule="serves", passed=True, sentence="It loads.")]
    checks += [ServingCheck(rule="max_p99_ms", passed=False, sentence=text) for text in failures]
    return ServingReport.of("compact", checks)


def student(**changes: Any) -> StudentSummary:
    return StudentSummary(
        **{
            "name": "compact",
            "parameters": {"student": 1200, "twin": 1100},
            "metrics": {
                "candidate": {"click": {"auc": 0.7212, "log_loss": 0.4, "calibration": 1.02}},
                "twin": {"click": {"auc": 0.70, "log_loss": None}},
                "teacher": {"click": {"auc": 0.75, "log_loss": 0.3}},
            },
            "transfer": {"click": {"auc": 0.4249, "log_loss": None}},
            "coverage": 0.987654,
            "verdict": verdict(),
            "serving": served(),
            "pushed": "/serving/compact/17",
        }
        | changes
    )


def summary(**changes: Any) -> Summary:
    return Summary(
        **{
            "name": "video",
            "run_id": "20240101T000000.000000Z",
            "seed": 3,
            "first_span": 0,
            "last_span": 3,
            "finished": 1_704_067_200.0,
            "examples": {"train": 210_000, "eval": 14_000},
            "failed": None,
            "teacher": verdict(),
            "teacher_parameters": 54_321,
            "labels": {"table": "/runs/labels", "version": 2, "teacher": "ab12", "span": 3},
            "students": (student(),),
            "steps": (
                StepSummary(
                    component="Transform",
                    state="ran",
                    seconds=20.04,
                    cpu_seconds=31.0,
                    peak_mib=1234.5,
                    error=None,
                ),
                StepSummary(
                    component="TeacherTrainer",
                    state="cached",
                    seconds=0.2,
                    cpu_seconds=0.1,
                    peak_mib=900,
                    error=None,
                ),
            ),
        }
        | changes
    )


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    before = summary()
    file = summaries.write(before, tmp_path)
    assert file == tmp_path / "summary.json"
    assert summaries.read(tmp_path) == before
    content = json.loads(file.read_text())
    assert content["students"][0]["metrics"]["candidate"]["click"]["auc"] == 0.7212
    assert before.seconds == pytest.approx(20.24)


def test_a_summary_appears_whole_or_not_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    summaries.write(summary(seed=1), tmp_path)

    def full(self: Path, text: str) -> int:
        with self.open("w") as file:
            file.write(text[: len(text) // 2])
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_text", full)
        with pytest.raises(OSError, match="No space"):
            summaries.write(summary(seed=2), tmp_path)
    assert summaries.read(tmp_path).seed == 1
    summaries.write(summary(seed=3), tmp_path)
    assert summaries.read(tmp_path).seed == 3
    assert [file.name for file in tmp_path.iterdir()] == ["summary.json"]


def test_without_a_run_there_is_nothing_to_read(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="distill run"):
        summaries.read(tmp_path)


# What people see


def shown(what: Summary, width: int = 100) -> str:
    out = io.StringIO()
    summaries.show(what, Console(file=out, width=width))
    return out.getvalue()


def rows(text: str) -> list[list[str]]:
    """The cells of all tables."""
    return [[cell.strip() for cell in line.split("│")[1:-1]] for line in text.splitlines()]


def test_models_stand_side_by_side() -> None:
    text = shown(summary())
    assert "video, run 20240101T000000.000000Z, spans 0-3, seed 3: 210,000 train, 14,000" in text
    cells = rows(text)
    assert ["click", "auc ↑", "0.7500", "0.7212", "0.7000", "0.42"] in cells
    assert ["click", "log_loss ↓", "0.3000", "0.4000", "-", ""] in cells
    assert ["click", "calibration", "-", "1.0200", "-", ""] in cells
    for parameters in ("54,321", "1,200", "1,100"):
        assert parameters in text
    assert "Label table /runs/labels, version 2" in text
    assert "Label coverage 98.77%" in text
    assert "Student compact: blessed (1 checks against its twin)" in text
    assert "Serving: fit (1 checks)" in text
    assert "Pushed to /serving/compact/17" in text
    assert ["Transform", "ran", "20.0", "31.0", "1,234"] in cells
    assert ["TeacherTrainer", "cached", "0.2", "0.1", "900"] in cells
    assert ["all", "", "20.2", "", ""] in cells


def test_a_refused_student_is_shown_with_its_reasons() -> None:
    reasons = ("auc of click is 0.7; at least 0.9 is required.", "mse [of] watch [/] is too high.")
    unserved = served("The gate refused compact: it was not measured.")
    refused = student(verdict=verdict(*reasons), serving=unserved, pushed=None)
    text = shown(summary(students=(refused,)))
    assert "Student compact: refused" in text
    for reason in reasons:
        assert f"  - {reason}" in text
    assert "Not pushed" in text
    assert "Pushed to" not in text
    assert "fine" not in text
    assert "not measured" not in text
    assert refused.refused


def test_of_many_reasons_the_first_are_shown() -> None:
    reasons = [f"reason {number:02d} is bad." for number in range(25)]
    text = shown(summary(students=(student(verdict=verdict(*reasons), pushed=None),)))
    assert [reason in text for reason in reasons] == [True] * 20 + [False] * 5
    assert "and 5 more" in text


def test_a_student_that_cannot_be_served_is_shown_with_its_reasons() -> None:
    slow = student(serving=served("It is slow."), pushed=None)
    text = shown(summary(students=(slow,)))
    assert "Student compact: blessed" in text
    assert "Serving: unfit\n  - It is slow." in text
    assert "Not pushed" in text
    assert slow.refused


def test_a_student_that_the_pusher_was_not_asked_about_is_not_refused() -> None:
    assert not student(pushed=None, serving=None).refused
    assert not student().refused


def test_slices_that_were_left_out_and_who_overrode_a_verdict_are_shown() -> None:
    small = NotJudged(
        task="click", metric="auc", slice="tv", other="twin", queries=3, sentence="too small"
    )
    why = Override(because="a [hot] fix", by="ada", at="2024-01-01T00:00:00Z")
    changes = {"blessed": True, "not_judged": (small, small), "overridden": why}
    overridden = verdict("mse is too high.").model_copy(update=changes)
    text = shown(summary(students=(student(verdict=overridden),)))
    assert "blessed (2 checks against its twin, 2 not judged)" in text
    assert "Let through by ada at 2024-01-01T00:00:00Z: a [hot] fix" in text
    assert "  - mse is too high." in text


def test_a_run_that_failed_early_is_shown_as_far_as_it_came() -> None:
    failed = "/data/[x]/a.parquet, row 3: got [/]; expected a label."
    text = shown(
        summary(failed=failed, examples={}, teacher=None, labels=None, students=(), steps=())
    )
    assert f"Failed: {failed}" in text
    assert "spans 0-3, seed 3\n" in text
    assert "Student" not in text
    assert "Label table" not in text


def test_paths_are_not_broken_into_lines() -> None:
    path = "/serving/" + "long/" * 40 + "17"
    labels = {"table": path, "version": 2, "teacher": "ab12", "span": 3}
    text = shown(summary(students=(student(pushed=path),), labels=labels), width=80)
    assert f"Pushed to {path}" in text
    assert f"Label table {path}, version 2" in text
