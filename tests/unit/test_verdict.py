"""The rules of the gate, on numbers made by hand: what passes, what fails, and in which words."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from judged_values import ALONE, CRITICAL, Fixed, Values, check, click, resampled, verdict
from scipy.stats import norm

from tfx_distill.components.verdict import Verdict

# Limits


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
def test_limits_are_of_the_value(threshold: dict[str, Any], value: float, passed: bool) -> None:
    assert check(threshold, {"": click(candidate=value)}).passed is passed


def test_a_limit_is_shown_with_its_interval() -> None:
    found = check({"min": 0.8}, {"": click(candidate=0.7)})
    assert found.sentence == (
        "auc of click is 0.7 (95% interval 0.65 to 0.75); at least 0.8 is required."
    )
    assert (found.value, found.allowed, found.queries) == (0.7, 0.8, 500)
    assert (found.low, found.high) == pytest.approx((0.65, 0.75))


def test_limits_do_not_hold_for_slices() -> None:
    values = {"": click(candidate=0.7), "device=tv": click(candidate=0.1)}
    assert check({"min": 0.6}, values).passed


@pytest.mark.parametrize(
    ("extra", "reason"),
    [
        ({"not_finite_count": 3.0}, "3 predictions are NaN or infinite"),
        ({"weighted_example_count": 0.0}, "applies to no example"),
        ({"weighted_example_count": 9.0}, "the labels of the eval split do not determine it"),
    ],
)
@pytest.mark.parametrize("threshold", [{"min": 0.5}, {"max_regression": 0.5}])
def test_the_reason_of_a_missing_number(
    threshold: dict[str, Any], extra: dict[str, float], reason: str
) -> None:
    values = {"": click(candidate=math.nan, twin=0.7)}
    values[""]["candidate"]["click"] |= extra
    found = check(threshold, values)
    assert not found.passed
    assert reason in found.sentence
    assert "of the candidate" in found.sentence


# Comparisons


@pytest.mark.parametrize(
    ("metric", "candidate", "error", "passed"),
    [
        # Against 0.75, up to 0.02 worse; what counts is 2 errors below the difference.
        ("auc", 0.80, 0.01, True),
        ("auc", 0.74, 0.004, True),  # 0.01 worse, at most 0.018
        ("auc", 0.74, 0.006, False),  # 0.01 worse, but perhaps 0.022
        ("auc", 0.72, 0.0, False),
        ("log_loss", 0.70, 0.01, True),
        ("log_loss", 0.76, 0.004, True),
        ("log_loss", 0.76, 0.006, False),
        ("log_loss", 0.78, 0.0, False),
        ("auc", math.nan, 0.01, False),
    ],
)
def test_what_counts_is_the_lower_bound(
    metric: str, candidate: float, error: float, passed: bool
) -> None:
    values = {"": click(candidate=candidate, baseline=0.75)}
    found = check({"metric": metric, "max_regression": 0.02}, values, resampled(values, error))
    assert found.passed is passed
    assert (found.other, found.other_value, found.allowed) == ("baseline", 0.75, 0.02)


def test_the_numbers_and_the_sentence_of_a_comparison() -> None:
    values = {"": click(candidate=0.7, twin=0.75)}
    found = check({"metric": "log_loss", "max_regression": 0.01}, values)
    # An error may go down: -0.05 is a gain, which is at least 0.05 - 2 * 0.01.
    assert found.difference == pytest.approx(-0.05)
    assert (found.low, found.high, found.bound) == pytest.approx((-0.15, 0.05, 0.03))
    assert found.sentence == (
        "log_loss of click is 0.7 against 0.75 of the twin: 0.05 better, with 95% confidence at "
        "least 0.03 better; up to 0.01 worse is allowed."
    )
    found = check({"max_regression": 0.01}, values)
    assert found.sentence == (
        "auc of click is 0.7 against 0.75 of the twin: 0.05 worse, with 95% confidence no more "
        "than 0.07 worse; up to 0.01 worse is allowed."
    )
    values = {"": click(candidate=0.745, twin=0.75)}
    found = check({"max_regression": 0.01}, values, confidence=0.975)
    assert found.sentence == (
        "auc of click is 0.745 against 0.75 of the twin: 0.005 worse, with 97.5% confidence no "
        "more than 0.025 worse; up to 0.01 worse is allowed. 500 queries are too few to tell that "
        "it is not worse than that."
    )


def test_identical_models_pass_without_any_allowance() -> None:
    values = {"": click(candidate=0.7, baseline=0.7, twin=0.7)}
    found = verdict({"max_regression": 0}, values, resampled(values, 0.0))
    assert found.blessed
    assert "is 0.7 against 0.7 of the baseline: equal, with 95% confidence not worse" in (
        found.checks[0].sentence
    )


@pytest.mark.parametrize(("baseline", "twin"), [(0.70, 0.60), (0.60, 0.70)])
def test_a_student_must_hold_against_both_models(baseline: float, twin: float) -> None:
    values = {"": click(candidate=0.65, baseline=baseline, twin=twin)}
    found = verdict({"max_regression": 0.03}, values)
    assert not found.blessed
    assert found.others == ("baseline", "twin")
    assert [c.passed for c in found.checks] == [baseline < 0.65, twin < 0.65]


def test_a_task_that_is_not_distilled_must_not_pay_for_one_that_is() -> None:
    # Nothing says which task is distilled: `share` fell while `click` rose.
    values = {"": click(candidate=0.9, twin=0.6)}
    values[""]["candidate"]["share"], values[""]["twin"]["share"] = {"auc": 0.6}, {"auc": 0.9}
    found = verdict([{"max_regression": 0.02}, {"task": "share", "max_regression": 0.02}], values)
    assert [c.passed for c in found.checks] == [True, False]
    assert not found.blessed
    assert found.failures[0].startswith("auc of share is 0.6 against 0.9 of the twin: 0.3 worse")


@given(
    gain=st.floats(-0.2, 0.2),
    error=st.floats(0, 0.1),
    allowed=st.floats(0, 0.2),
    more=st.floats(0, 0.2),
)
def test_a_wider_allowance_never_refuses_what_a_narrower_one_lets_through(
    gain: float, error: float, allowed: float, more: float
) -> None:
    values = {"": click(candidate=0.5 + gain, twin=0.5)}
    boot = resampled(values, error)
    narrow = check({"max_regression": allowed}, values, boot)
    wide = check({"max_regression": allowed + more}, values, boot)
    assert wide.passed >= narrow.passed
    # More data can only help one that is not worse than what is allowed.
    if narrow.passed:
        assert check({"max_regression": allowed}, values, resampled(values, error / 2)).passed


def test_the_smallest_loss_that_is_likely_to_be_refused() -> None:
    values = {"": click(candidate=0.75, twin=0.75)}
    found = check({"max_regression": 0.02}, values)
    assert found.detectable is not None
    assert 0 < found.detectable < 0.02
    # With that loss the gain scatters about it; refused if less than 2 errors above -0.02.
    assert norm.cdf(CRITICAL * 0.01 - 0.02, -found.detectable, 0.01) == pytest.approx(0.8)
    assert check({"max_regression": 0.02}, values, resampled(values, 0.1)).detectable == 0
    assert check({"max_regression": 0.02}, values, resampled(values, 0.0)).detectable == 0.02


# Slices


def sliced(**gains: float) -> Values:
    """By value of the device, how much better the candidate is; overall it is as good."""
    values = {f"device={d}": click(candidate=0.7 + g, twin=0.7) for d, g in gains.items()}
    return {"": click(candidate=0.7, twin=0.7)} | values


def test_a_slice_that_lost_refuses() -> None:
    found = verdict({"max_regression": 0.03}, sliced(phone=0.02, tv=-0.02))
    assert [(c.slice, c.rule, c.passed) for c in found.checks] == [
        ("", "max_regression", True),
        ("device=phone", "max_slice_regression", True),
        ("device=tv", "max_slice_regression", False),
    ]
    assert found.failures[0].startswith("auc of click on device=tv is 0.68 against 0.7 of the twin")


def test_slices_may_be_allowed_more_or_less_than_the_whole() -> None:
    values = sliced(phone=0.02, tv=-0.02)
    found = verdict({"max_regression": 0.03, "max_slice_regression": 0.05}, values)
    assert found.blessed
    assert [c.allowed for c in found.checks] == [0.03, 0.05, 0.05]
    found = verdict({"max_regression": 0.03, "max_slice_regression": 0.0}, values)
    assert [c.passed for c in found.checks] == [True, True, False]


def test_a_small_slice_is_not_judged_but_named() -> None:
    values = sliced(phone=0.02, tv=-0.5)
    counts = {"device=phone": 100, "device=tv": 99, "": 20}
    found = verdict({"max_regression": 0.03}, values, resampled(values, queries=counts))
    assert found.blessed  # all examples are judged, if they are 20 queries
    assert [c.slice for c in found.checks] == ["", "device=phone"]
    assert [n.sentence for n in found.not_judged] == [
        "auc of click on device=tv is not compared with the twin: 99 queries count, 100 are needed."
    ]
    more = verdict(
        {"max_regression": 0.03}, values, resampled(values, queries=counts), min_slice_queries=99
    )
    assert not more.blessed


@pytest.mark.parametrize(("broken", "replaced"), [("baseline", True), ("twin", False)])
def test_a_broken_model_in_service_can_be_replaced(broken: str, replaced: bool) -> None:
    values = {"": click(**{"candidate": 0.7, "baseline": 0.7, "twin": 0.7, broken: math.nan})}
    values[""][broken]["click"]["not_finite_count"] = 3.0
    values[""]["candidate"]["click"]["not_finite_count"] = 0.0
    found = verdict({"max_regression": 0.03}, values)
    assert found.blessed is replaced
    if replaced:
        assert found.others == ("twin",)
        (left_out,) = found.not_judged
        assert "3 of the predictions of the model in service" in left_out.sentence
        # Without a twin nothing else could be compared with.
        del values[""]["twin"]
        alone = verdict({"max_regression": 0.03}, values)
        assert (alone.blessed, alone.others, alone.not_judged) == (False, ("baseline",), ())
        assert "of the baseline is not a number: 3 predictions" in alone.failures[0]
    # One that is as broken itself is not let through.
    values[""]["candidate"]["click"] |= {"auc": math.nan, "not_finite_count": 1.0}
    assert not verdict({"max_regression": 0.03}, values).blessed


def test_a_handful_of_queries_blesses_nothing() -> None:
    values = sliced(phone=0.02, tv=0.02)
    few = resampled(values, queries=dict.fromkeys(values, 19))
    found = verdict({"max_regression": 0.03}, values, few, min_slice_queries=1)
    assert not found.blessed
    assert found.failures == (
        "auc of click is not compared with the twin: 19 queries count, 20 are needed.",
    )
    assert {n.slice for n in found.not_judged} == {"device=phone", "device=tv"}


def test_a_slice_without_a_value_is_not_judged_but_named() -> None:
    values = sliced(phone=0.02, tv=math.nan)
    found = verdict({"max_regression": 0.03}, values)
    assert found.blessed
    (left_out,) = found.not_judged
    assert (left_out.slice, left_out.other, left_out.queries) == ("device=tv", "twin", 500)
    assert "on device=tv of the candidate is not a number" in left_out.sentence


def test_values_without_an_interval_refuse() -> None:
    values = {"": click(candidate=0.9, twin=0.1)}
    found = check({"max_regression": 0.5}, values, resampled(values, None))
    assert not found.passed
    assert found.sentence == (
        "auc of click cannot be compared with the twin: too few queries have labels that "
        "determine it."
    )


def test_all_comparisons_of_a_candidate_are_bounded_together() -> None:
    values = sliced(phone=0.02, tv=0.0, pad=0.0)
    for part in values.values():
        part["baseline"] = {"click": {"auc": 0.6, "log_loss": 0.9}}
    boot = resampled(values, queries={"device=pad": 10})
    found = verdict(
        [
            {"max_regression": 0.03},
            {"max_regression": 0.1, "min": 0.5},  # the same comparisons count once
            {"metric": "log_loss", "max_regression": 0.3},
        ],
        values,
        boot,
        confidence=0.9,
        seed=7,
    )
    ((asked, confidence),) = boot.asked
    expected = {
        (part, "click", metric, other)
        for part in ("", "device=phone", "device=tv")
        for metric in ("auc", "log_loss")
        for other in ("baseline", "twin")
    }
    assert set(asked) == expected
    assert len(asked) == 12
    assert confidence == found.confidence == 0.9
    assert (found.critical, found.replicates, found.seed) == (CRITICAL, 1000, 7)
    assert len(found.checks) == 6 + 7 + 6


# What there is to compare with


def test_no_other_model_is_refused_and_not_waved_through() -> None:
    found = check({"max_regression": 1e9}, {"": click(candidate=0.99)})
    assert not found.passed
    assert found.sentence == f"auc of click has nothing to be compared with. {ALONE}"


@pytest.mark.parametrize("worth", [math.nan, math.inf])
def test_another_model_without_a_value_is_refused(worth: float) -> None:
    found = check({"max_regression": 1}, {"": click(candidate=0.9, baseline=worth)})
    assert not found.passed
    assert "of the baseline is not a number" in found.sentence


def test_a_task_that_the_baseline_lacks_is_compared_with_the_twin_alone() -> None:
    values = {"": click(candidate=0.7, baseline=0.9, twin=0.7)}
    values[""]["baseline"] = {"like": {"auc": 0.9}}
    values[""]["candidate"]["like"] = {"auc": 0.9}
    found = check({"max_regression": 0.03}, values)
    assert (found.passed, found.other) == (True, "twin")
    del values[""]["twin"]
    found = check({"max_regression": 0.03}, values)
    assert (found.passed, found.other) == (False, None)
    assert "The baseline does not serve the task." in found.sentence


def test_the_first_model_may_be_accepted_on_its_limits_alone() -> None:
    values = {"": click(candidate=0.7, twin=0.9)}
    threshold = {"max_regression": 0.01, "min": 0.6}
    assert not verdict(threshold, values).blessed
    accepted = verdict(threshold, values, first="accept")
    assert accepted.blessed
    assert (accepted.baseline, accepted.critical, accepted.others) == (None, None, ())
    assert "the first one is judged by its limits alone" in accepted.baseline_reason
    assert accepted.baseline_reason in accepted.checks[1].sentence
    assert not verdict({**threshold, "min": 0.8}, values, first="accept").blessed
    broken = {"": click(candidate=math.nan, twin=0.9)}
    assert not verdict({"max_regression": 0.01}, broken, first="accept").blessed


def test_only_the_first_model_is_accepted() -> None:
    # What is in service cannot be evaluated any more: the twin stands for it.
    values = {"": click(candidate=0.7, twin=0.9)}
    found = verdict({"max_regression": 0.01}, values, first="accept", in_service=True)
    assert (found.blessed, found.others) == (False, ("twin",))


# The verdict as a whole


def test_nothing_is_blessed_without_a_threshold() -> None:
    assert not verdict([], {"": click(candidate=0.9, twin=0.1)}).blessed


def test_one_failure_refuses_and_each_condition_is_listed() -> None:
    values = {"": click(candidate=0.6, twin=0.8)}
    result = verdict({"min": 0.5, "max": 0.9, "max_regression": 0.1}, values)
    assert [(c.rule, c.passed) for c in result.checks] == [
        ("min", True),
        ("max", True),
        ("max_regression", False),
    ]
    assert not result.blessed
    assert Verdict.model_validate_json(result.model_dump_json()) == result


def test_a_bootstrap_without_the_comparison_is_a_defect_and_not_a_pass() -> None:
    values = {"": click(candidate=0.9, twin=0.1)}
    with pytest.raises(ValueError, match="the bootstrap compares"):
        verdict({"max_regression": 0.1}, values, Fixed(resampled(values).estimates, (), {}))
