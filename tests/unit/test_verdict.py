"""Thresholds against metrics: what passes, what fails, and in which words."""

from __future__ import annotations

import math
from typing import Any, Literal

import pytest

from tfx_distill.components.verdict import Check, Verdict, judge
from tfx_distill.schema.config import Threshold

WHY = "No model was blessed before. There is no undistilled twin either."


def metrics(**models: float) -> dict[str, dict[str, dict[str, float]]]:
    return {model: {"click": {"auc": value, "log_loss": value}} for model, value in models.items()}


def verdict(
    threshold: dict[str, Any],
    values: dict[str, dict[str, dict[str, float]]],
    baseline: Literal["baseline", "twin"] | None = None,
) -> Verdict:
    full = Threshold(**{"task": "click", "metric": "auc", **threshold})
    return judge("compact", [full], values, baseline, WHY)


def check(
    threshold: dict[str, Any],
    values: dict[str, dict[str, dict[str, float]]],
    baseline: Literal["baseline", "twin"] | None = None,
) -> Check:
    result = verdict(threshold, values, baseline)
    (only,) = result.checks
    assert result.blessed == only.passed
    assert result.failures == (() if only.passed else (only.sentence,))
    return only


@pytest.mark.parametrize(
    ("threshold", "value", "passed"),
    [
        ({"min": 0.7}, 0.7, True),
        ({"min": 0.7}, 0.6999, False),
        ({"max": 0.7}, 0.7, True),
        ({"max": 0.7}, 0.7001, False),
        ({"min": 0.7}, math.nan, False),
        ({"max": 0.7}, math.nan, False),
        ({"max": 0.7}, -math.inf, False),
    ],
)
def test_absolute(threshold: dict[str, Any], value: float, passed: bool) -> None:
    assert check(threshold, metrics(candidate=value)).passed is passed


@pytest.mark.parametrize(
    ("metric", "candidate", "passed"),
    [
        ("auc", 0.80, True),  # better
        ("auc", 0.74, True),  # worse, within what is allowed
        ("auc", 0.72, False),
        ("log_loss", 0.70, True),
        ("log_loss", 0.76, True),
        ("log_loss", 0.78, False),
        ("auc", math.nan, False),
    ],
)
def test_regression_against_the_baseline(metric: str, candidate: float, passed: bool) -> None:
    values = metrics(candidate=candidate, baseline=0.75, twin=0.1)
    found = check({"metric": metric, "max_regression": 0.02}, values, "baseline")
    assert found.passed is passed
    assert found.baseline == 0.75


def test_the_sentence_says_it_all() -> None:
    found = check({"max_regression": 0.01}, metrics(candidate=0.7, twin=0.75), "twin")
    assert found.sentence == (
        "auc of click is 0.7 against 0.75 of the twin: 0.05 worse; up to 0.01 worse is allowed."
    )
    found = check({"min": 0.8}, metrics(candidate=0.7))
    assert found.sentence == "auc of click is 0.7; at least 0.8 is required."


def test_no_baseline_is_refused_and_not_waved_through() -> None:
    found = check({"max_regression": 1e9}, metrics(candidate=0.99))
    assert not found.passed
    assert found.sentence == f"auc of click has nothing to be compared with. {WHY}"


@pytest.mark.parametrize("worth", [math.nan, math.inf])
def test_a_baseline_without_a_value_is_refused(worth: float) -> None:
    assert not check(
        {"max_regression": 1}, metrics(candidate=0.9, baseline=worth), "baseline"
    ).passed


def test_a_task_that_the_baseline_lacks_is_compared_with_the_twin() -> None:
    values = metrics(candidate=0.7, baseline=0.9, twin=0.7)
    del values["baseline"]["click"]
    found = check({"max_regression": 0.01}, values, "baseline")
    assert (found.passed, found.compared_with) == (True, "twin")
    del values["twin"]
    found = check({"max_regression": 0.01}, values, "baseline")
    assert (found.passed, found.compared_with) == (False, None)
    assert "The baseline does not serve the task." in found.sentence


def test_nothing_is_blessed_without_a_threshold() -> None:
    assert not judge("compact", [], metrics(candidate=0.9), None, WHY).blessed


def test_one_failure_refuses_and_each_condition_is_listed() -> None:
    result = verdict(
        {"min": 0.5, "max": 0.9, "max_regression": 0.1}, metrics(candidate=0.6, twin=0.8), "twin"
    )
    assert [(c.rule, c.passed) for c in result.checks] == [
        ("min", True),
        ("max", True),
        ("max_regression", False),
    ]
    assert not result.blessed
    assert Verdict.model_validate_json(result.model_dump_json()) == result


@pytest.mark.parametrize(
    ("extra", "reason"),
    [
        ({"not_finite_count": 3.0}, "3 predictions are NaN or infinite"),
        ({"weighted_example_count": 0.0}, "applies to no example"),
        ({"weighted_example_count": 9.0}, "the labels of the eval split do not determine it"),
    ],
)
def test_the_reason_of_a_missing_number(extra: dict[str, float], reason: str) -> None:
    values = metrics(candidate=math.nan)
    values["candidate"]["click"] |= extra
    assert reason in check({"min": 0.5}, values).sentence
