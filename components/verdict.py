"""The verdict on a candidate: every threshold, the values compared, and the reason in words."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Literal

from tfx_distill.schema.config import HIGHER_IS_BETTER, Section, Threshold

Metrics = Mapping[str, Mapping[str, Mapping[str, float]]]
"""Value by model, task and metric."""

Rule = Literal["min", "max", "max_regression"]


class Check(Section):
    """One condition of a threshold.

    `candidate` and `baseline` are None where there is no such number. `bound` is the configured
    one; for `max_regression` that is the largest loss against the baseline.
    """

    task: str
    metric: str
    rule: Rule
    bound: float
    candidate: float | None
    baseline: float | None
    compared_with: str | None
    passed: bool
    sentence: str


class Verdict(Section):
    """Whether a candidate is blessed, and why.

    `baseline` says which model stood for the baseline: `baseline` (the latest blessed model),
    `twin`, or None.
    """

    candidate: str
    blessed: bool
    baseline: Literal["baseline", "twin"] | None
    baseline_reason: str
    checks: tuple[Check, ...]

    @property
    def failures(self) -> tuple[str, ...]:
        """A sentence for each condition that does not hold."""
        return tuple(check.sentence for check in self.checks if not check.passed)


def judge(
    candidate: str,
    thresholds: Sequence[Threshold],
    metrics: Metrics,
    baseline: Literal["baseline", "twin"] | None,
    baseline_reason: str,
) -> Verdict:
    """Compares a candidate's metrics over all examples with every threshold.

    A value that is not a number fails; so does a comparison with a baseline that is not there.
    Without any threshold nothing is blessed.

    Args:
      candidate: What the candidate is called, for the sentences.
      thresholds: Conditions on its tasks.
      metrics: Of the models `candidate`, and where they exist `baseline` and `twin`.
      baseline: Which model is the baseline. A task that it does not serve is compared with the
        twin, so that a task added to a student can pass.
      baseline_reason: Why that one, or why none.
    """
    checks = []
    for threshold in thresholds:
        if threshold.min is not None:
            checks.append(_absolute(threshold, "min", threshold.min, metrics))
        if threshold.max is not None:
            checks.append(_absolute(threshold, "max", threshold.max, metrics))
        if threshold.max_regression is not None:
            checks.append(
                _relative(threshold, threshold.max_regression, metrics, baseline, baseline_reason)
            )
    return Verdict(
        candidate=candidate,
        blessed=bool(checks) and all(check.passed for check in checks),
        baseline=baseline,
        baseline_reason=baseline_reason,
        checks=tuple(checks),
    )


def _absolute(
    threshold: Threshold, rule: Literal["min", "max"], bound: float, metrics: Metrics
) -> Check:
    value = _value(metrics, "candidate", threshold)
    passed = value is not None and (value >= bound if rule == "min" else value <= bound)
    if value is None:
        sentence = _not_a_number("candidate", threshold, metrics)
    else:
        side = "at least" if rule == "min" else "at most"
        what = f"{threshold.metric} of {threshold.task}"
        sentence = f"{what} is {value:.6g}; {side} {bound:.6g} is required."
    return _check(threshold, rule, bound, value, None, None, passed, sentence)


def _relative(
    threshold: Threshold,
    bound: float,
    metrics: Metrics,
    baseline: Literal["baseline", "twin"] | None,
    baseline_reason: str,
) -> Check:
    reference: str | None = baseline
    if reference is not None and threshold.task not in metrics.get(reference, {}):
        reference = "twin" if threshold.task in metrics.get("twin", {}) else None
    value = _value(metrics, "candidate", threshold)
    other = None if reference is None else _value(metrics, reference, threshold)
    what = f"{threshold.metric} of {threshold.task}"
    passed = False
    if reference is None:
        why = baseline_reason if baseline is None else f"The {baseline} does not serve the task."
        sentence = f"{what} has nothing to be compared with. {why}"
    elif value is None or other is None:
        model = "candidate" if value is None else reference
        sentence = _not_a_number(model, threshold, metrics)
    else:
        loss = other - value if HIGHER_IS_BETTER[threshold.metric] else value - other
        passed = loss <= bound
        sentence = (
            f"{what} is {value:.6g} against {other:.6g} of the {reference}: "
            f"{abs(loss):.6g} {'worse' if loss > 0 else 'better'}; "
            f"up to {bound:.6g} worse is allowed."
        )
    return _check(threshold, "max_regression", bound, value, other, reference, passed, sentence)


def _value(metrics: Metrics, model: str, threshold: Threshold) -> float | None:
    """The metric, or None if it is missing, NaN or infinite."""
    value = metrics.get(model, {}).get(threshold.task, {}).get(threshold.metric, math.nan)
    return value if math.isfinite(value) else None


def _not_a_number(model: str, threshold: Threshold, metrics: Metrics) -> str:
    task = metrics.get(model, {}).get(threshold.task, {})
    what = f"{threshold.metric} of {threshold.task} of the {model}"
    if not task:
        return f"{what} does not exist: the {model} does not serve the task."
    if broken := task.get("not_finite_count", 0):
        return f"{what} is not a number: {broken:.0f} predictions are NaN or infinite."
    if not task.get("weighted_example_count", 0):
        return f"{what} is not a number: the task applies to no example of the eval split."
    return f"{what} is not a number: the labels of the eval split do not determine it."


def _check(
    threshold: Threshold,
    rule: Rule,
    bound: float,
    value: float | None,
    other: float | None,
    compared_with: str | None,
    passed: bool,
    sentence: str,
) -> Check:
    return Check(
        task=threshold.task,
        metric=threshold.metric,
        rule=rule,
        bound=bound,
        candidate=value,
        baseline=other,
        compared_with=compared_with,
        passed=passed,
        sentence=sentence,
    )
