"""The judging of a served model, on numbers worked out by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tfx_distill.components.serving_report import (
    Latency,
    Measured,
    ServingReport,
    difference,
    judge,
)
from tfx_distill.schema.config import ServingLimits


def latency(model: str, candidates: int, p99_ms: float) -> Latency:
    return Latency(model=model, candidates=candidates, requests=9, p50_ms=0.5, p99_ms=p99_ms)


def measured(**changes: Any) -> Measured:
    """A candidate of 3 ms and 6 MiB beside a baseline of 2 ms and 4 MiB."""
    return Measured(
        **{
            "examples": 50,
            "differences": {"serving_raw": {"click": 2e-7}, "serving_default": {"click": 3e-7}},
            "latencies": (latency("candidate", 100, 3.0), latency("baseline", 100, 2.0)),
            "size_mib": {"candidate": 6.0, "baseline": 4.0},
            "baseline_reason": "Compared with the model in service.",
            "tensorflow": "2.16.2",
            **changes,
        }
    )


def limits(**changes: Any) -> ServingLimits:
    return ServingLimits(**{"candidates": (100,), **changes})


def failing(report: ServingReport) -> list[str]:
    return [check.rule for check in report.checks if not check.passed]


def test_percentiles_are_interpolated_and_in_milliseconds() -> None:
    # Ranks (n - 1) * q of 1..100 ms: 49.5 and 98.01 places after the first.
    found = Latency.of("candidate", 200, [i / 1000 for i in range(100, 0, -1)])
    assert found.p50_ms == pytest.approx(50.5)
    assert found.p99_ms == pytest.approx(99.01)
    assert (found.candidates, found.requests) == (200, 100)


def test_what_keeps_every_limit_is_blessed_with_a_sentence_for_each() -> None:
    report = judge("compact", measured(), limits(max_p99_ms={100: 3.0}, max_size_mib=6.0))
    assert report.blessed
    assert report.failures == ()
    assert [check.rule for check in report.checks] == [
        "serves",
        "own_files",
        "max_difference",
        "max_difference",
        "max_p99_ms",
        "max_p99_ratio",
        "max_size_mib",
        "max_size_ratio",
    ]
    assert all(check.sentence.endswith(".") for check in report.checks)


@pytest.mark.parametrize(
    ("changes", "rule", "sentence"),
    [
        (
            {"max_p99_ms": {100: 2.9}},
            "max_p99_ms",
            "The 99th percentile of the latency of 100 candidates is 3 ms; at most 2.9 ms is "
            "allowed.",
        ),
        (
            {"max_p99_ratio": 1.4},
            "max_p99_ratio",
            "The 99th percentile of the latency of 100 candidates is 3 ms, 1.50 times that of the "
            "model in service (2 ms); at most 1.4 times is allowed.",
        ),
        (
            {"max_size_mib": 5.9},
            "max_size_mib",
            "The model has 6 MiB; at most 5.9 MiB is allowed.",
        ),
        (
            {"max_size_ratio": 1.4},
            "max_size_ratio",
            "The model has 6 MiB, 1.50 times the model in service (4 MiB); at most 1.4 times is "
            "allowed.",
        ),
        (
            {"max_difference": 2.5e-7},
            "max_difference",
            "click by serving_default, on 50 examples: at most 3e-07 from the trainer's answers; "
            "2.5e-07 is allowed.",
        ),
    ],
)
def test_each_limit_refuses_alone(changes: dict[str, Any], rule: str, sentence: str) -> None:
    report = judge("compact", measured(), limits(**changes))
    assert not report.blessed
    assert failing(report) == [rule]
    assert report.failures == (sentence,)


def test_without_a_baseline_no_ratio_is_applied() -> None:
    alone = measured(
        latencies=(latency("candidate", 100, 3.0),),
        size_mib={"candidate": 6.0},
        baseline_reason="No model is in service: limits against it do not apply.",
    )
    report = judge("compact", alone, limits(max_p99_ratio=1e-3, max_size_ratio=1e-3))
    assert report.blessed
    assert not {check.rule for check in report.checks} & {"max_p99_ratio", "max_size_ratio"}


def test_a_missing_answer_and_a_foreign_file_refuse() -> None:
    report = judge(
        "compact",
        measured(differences={"serving_raw": {"click": None}}, foreign_files=("/data/words",)),
        limits(),
    )
    assert failing(report) == ["own_files", "max_difference"]
    assert "/data/words" in report.failures[0]


def test_nothing_is_blessed_without_a_check() -> None:
    assert not ServingReport.of("compact", []).blessed


def test_a_report_survives_its_file() -> None:
    report = judge("compact", measured(), limits())
    assert ServingReport.model_validate_json(report.model_dump_json()) == report


def test_differences_are_relative_above_one() -> None:
    expected = {"click": np.array([0.5, 0.25]), "watch": np.array([100.0, -0.5])}
    served = {
        "serving_raw/click": np.array([0.5, 0.3], np.float32),
        "serving_raw/watch": np.array([[101.0], [-0.5]], np.float32),
    }
    found = difference(served, expected, "serving_raw")
    assert found == {"click": pytest.approx(0.05), "watch": pytest.approx(0.01)}


@pytest.mark.parametrize(
    ("served", "expected"),
    [
        ([0.5, np.nan], [0.5, 0.5]),
        ([0.5, 0.5], [0.5, np.nan]),
        ([0.5, np.inf], [0.5, np.inf]),
        ([0.5], [0.5, 0.5]),
    ],
)
def test_answers_that_are_not_finite_or_not_there_have_no_difference(
    served: list[float], expected: list[float]
) -> None:
    got = {"serving_raw/click": np.array(served, np.float32)}
    assert difference(got, {"click": np.array(expected)}, "serving_raw") == {"click": None}
    assert difference({}, {"click": np.array(expected)}, "serving_raw") == {"click": None}


@given(p99=st.floats(1e-3, 1e3), base=st.floats(1e-3, 1e3), size=st.floats(1e-3, 1e3))
def test_a_model_is_as_good_as_itself_and_a_worse_one_never_better(
    p99: float, base: float, size: float
) -> None:
    def blessed(milliseconds: float) -> bool:
        pair = (latency("candidate", 100, milliseconds), latency("baseline", 100, base))
        sizes = {"candidate": size, "baseline": size}
        found = measured(latencies=pair, size_mib=sizes)
        return judge("compact", found, limits(max_p99_ratio=1, max_size_ratio=1)).blessed

    assert blessed(base)
    assert blessed(p99) >= blessed(p99 * 1.5)
