"""The rules of the PromotionGate: from thresholds, metrics and intervals to a verdict.

A model may replace another only if it is *shown* not to lose more than is allowed: what counts is
not the difference that was measured but the lower bound of what it may truly be. All comparisons of
a candidate are bounded together: the more of them there are, the more of them look bad, or good, by
chance.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from statistics import NormalDist
from typing import Literal

from tfx_distill.components import verdict_words as words
from tfx_distill.components.bootstrap_result import Bootstrap, Bounds, Difference
from tfx_distill.components.evaluation_result import (
    BASELINE,
    CANDIDATE,
    OVERALL,
    TWIN,
    ByModel,
    Evaluated,
)
from tfx_distill.components.gate_settings import GateSettings
from tfx_distill.components.verdict import Check, NotJudged, Rule, Verdict
from tfx_distill.schema.config import HIGHER_IS_BETTER, Threshold

Metrics = Mapping[str, ByModel]
"""Value by slice, model, task and metric; NaN where it is undefined."""

FEWEST = 20
"""Queries below which nothing is judged: bounds of a bootstrap of 10 normal values are wrong in 8%
of all cases instead of 5%, of 3 in 21%."""

_POWER = NormalDist().inv_cdf(0.8)
"""In 80% of all cases a normal variable is less than this many deviations above its mean."""


def judge(
    settings: GateSettings, evaluated: Evaluated, metrics: Metrics, bootstrap: Bootstrap
) -> Verdict:
    """Holds a candidate against every condition of every threshold.

    - `min` and `max` are limits of the value over all examples.
    - `max_regression` is judged against the model in service *and* against the undistilled twin,
      over all examples and on each slice (there `max_slice_regression`, where it is given): the
      simultaneous lower bound of the difference must not be below what is allowed.

    Every task is judged alike, distilled or not: a task without distillation that shares layers
    with a distilled one must not pay for it.

    A value over all examples that is undefined, or of less than 20 queries, fails. Slices of few
    queries, or without a value, are listed as not judged, and so is what `settings.slices` asks for
    and the evaluation lacks. Without any threshold nothing is blessed.

    Args:
      settings: The thresholds, and how sure the gate has to be.
      evaluated: Which models there are. A task that the model in service lacks is compared with the
        twin alone, so that a task added to a student can pass.
      metrics: Of these models.
      bootstrap: Of these models, on the same examples.
    """
    return _Case(settings, evaluated, metrics, bootstrap).verdict()


@dataclass(frozen=True)
class _Numbers:
    """What a difference that can be judged consists of; `gain` is how much better the candidate is.

    `error` is the standard error of the gain.
    """

    value: float
    other_value: float
    gain: float
    error: float


@dataclass(frozen=True)
class _Case:
    """One candidate before the gate."""

    settings: GateSettings
    evaluated: Evaluated
    metrics: Metrics
    bootstrap: Bootstrap

    def verdict(self) -> Verdict:
        numbers = {
            difference.key: found
            for threshold in self.settings.thresholds
            for difference in self._compared(threshold)
            if (found := self._numbers(difference)) is not None
        }
        bounds = self.bootstrap.lower_bounds(list(numbers), self.settings.confidence)
        checks: list[Check] = []
        not_judged: list[NotJudged] = []
        for threshold in self.settings.thresholds:
            checks += self._limits(threshold)
            if threshold.max_regression is None:
                continue
            not_judged += self._left_out(threshold)
            if not self._others(threshold):
                checks.append(self._alone(threshold))
            for difference in self._compared(threshold):
                if found := numbers.get(difference.key):
                    checks.append(self._comparison(threshold, difference, found, bounds))
                elif difference.slice == OVERALL:
                    checks.append(self._undefined(threshold, difference))
                else:
                    not_judged.append(self._not_judged(threshold, difference))
            not_judged += self._lacking(threshold)
        return Verdict(
            candidate=self.settings.candidate,
            blessed=bool(checks) and all(check.passed for check in checks),
            baseline=None if self._is_accepted else self.evaluated.baseline,
            baseline_reason=words.ACCEPTED if self._is_accepted else self.evaluated.reason,
            checks=tuple(checks),
            not_judged=tuple(not_judged),
            confidence=self.settings.confidence,
            critical=bounds.critical if numbers else None,
            replicates=self.settings.replicates,
            seed=self.settings.seed,
        )

    @property
    def _is_accepted(self) -> bool:
        """Whether the candidate is the first one, and needs no comparison."""
        return self.settings.first == "accept" and not self.evaluated.in_service

    def _others(self, threshold: Threshold) -> list[str]:
        """The models that a task of the candidate is compared with."""
        pair = () if self._is_accepted else (BASELINE, TWIN)
        found = [o for o in pair if threshold.task in self.evaluated.models.get(o, ())]
        return [TWIN] if TWIN in found and self._broken(threshold.task) else found

    def _broken(self, task: str) -> int:
        """How many predictions of the model in service are not finite where the candidate's are.

        A model that is so broken is no measure; or nothing could ever take its place.
        """
        ours, theirs = (
            self.metrics.get(OVERALL, {}).get(model, {}).get(task, {}).get("not_finite_count", 0)
            for model in (CANDIDATE, BASELINE)
        )
        return 0 if ours else int(theirs)

    def _compared(self, threshold: Threshold) -> list[Difference]:
        """The differences that a threshold is about; of each model all examples come first."""
        if threshold.max_regression is None:
            return []
        others = self._others(threshold)
        about = (threshold.task, threshold.metric)
        found = [d for d in self.bootstrap.differences if (d.task, d.metric) == about]
        found = sorted((d for d in found if d.other in others), key=lambda d: (d.other, d.slice))
        whole = [d.other for d in found if d.slice == OVERALL]
        if whole != others:
            # Nothing would then stand between a candidate and its blessing.
            raise ValueError(f"the bootstrap compares {about} with {whole}, not with {others}")
        return found

    def _numbers(self, difference: Difference) -> _Numbers | None:
        """The numbers of a difference; None if it is undefined, or its slice too small."""
        value = self._value(difference.task, difference.metric, difference.slice, CANDIDATE)
        other = self._value(difference.task, difference.metric, difference.slice, difference.other)
        if (
            difference.queries < self._needed(difference.slice)
            or value is None
            or other is None
            or difference.value is None
            or difference.standard_error is None
        ):
            return None
        sign = 1 if HIGHER_IS_BETTER[difference.metric] else -1
        return _Numbers(value, other, sign * difference.value, difference.standard_error)

    def _needed(self, part: str) -> int:
        """How many queries must count for a comparison to be judged."""
        return FEWEST if part == OVERALL else max(FEWEST, self.settings.min_slice_queries)

    def _limits(self, threshold: Threshold) -> Iterator[Check]:
        """The checks of `min` and `max`."""
        about = (OVERALL, threshold.task, threshold.metric, CANDIDATE)
        (estimate,) = (
            e for e in self.bootstrap.estimates if (e.slice, e.task, e.metric, e.model) == about
        )
        value = self._value(threshold.task, threshold.metric, OVERALL, CANDIDATE)
        rules: tuple[tuple[Literal["min", "max"], float | None], ...] = (
            ("min", threshold.min),
            ("max", threshold.max),
        )
        for rule, allowed in rules:
            if allowed is None:
                continue
            if value is None:
                passed, sentence = False, self._missing(threshold, OVERALL, CANDIDATE)
            else:
                passed = value >= allowed if rule == "min" else value <= allowed
                sentence = words.limit(
                    words.subject(threshold),
                    value,
                    (estimate.low, estimate.high),
                    rule,
                    allowed,
                    self.settings.confidence,
                )
            yield Check(
                task=threshold.task,
                metric=threshold.metric,
                rule=rule,
                allowed=allowed,
                value=value,
                low=estimate.low,
                high=estimate.high,
                queries=estimate.queries,
                passed=passed,
                sentence=sentence,
            )

    def _alone(self, threshold: Threshold) -> Check:
        """The check of a `max_regression` where there is no model to compare with."""
        value = self._value(threshold.task, threshold.metric, OVERALL, CANDIDATE)
        what = words.subject(threshold)
        if value is None:
            sentence = self._missing(threshold, OVERALL, CANDIDATE)
        elif self._is_accepted:
            sentence = words.accepted(what, value)
        elif self.evaluated.baseline is None:
            sentence = words.incomparable(what, self.evaluated.reason)
        else:
            lacking = f"The {self.evaluated.baseline} does not serve the task."
            sentence = words.incomparable(what, lacking)
        rule, allowed = _allowed(threshold, OVERALL)
        return Check(
            task=threshold.task,
            metric=threshold.metric,
            rule=rule,
            allowed=allowed,
            value=value,
            passed=self._is_accepted and value is not None,
            sentence=sentence,
        )

    def _comparison(
        self,
        threshold: Threshold,
        difference: Difference,
        numbers: _Numbers,
        bounds: Bounds,
    ) -> Check:
        """The check of a difference that is judged."""
        rule, allowed = _allowed(threshold, difference.slice)
        bound = bounds.by_key[difference.key]
        return Check(
            task=threshold.task,
            metric=threshold.metric,
            slice=difference.slice,
            rule=rule,
            allowed=allowed,
            other=difference.other,
            value=numbers.value,
            other_value=numbers.other_value,
            difference=difference.value,
            low=difference.low,
            high=difference.high,
            bound=bound,
            queries=difference.queries,
            # It is refused if gain - critical * error < -allowed, and the gain is the true one give
            # or take that error.
            detectable=max(0.0, allowed - (bounds.critical - _POWER) * numbers.error),
            passed=bound >= -allowed,
            sentence=words.comparison(
                words.subject(threshold, difference.slice),
                (numbers.value, numbers.other_value),
                difference.other,
                numbers.gain,
                bound,
                allowed,
                difference.queries,
                self.settings.confidence,
            ),
        )

    def _undefined(self, threshold: Threshold, difference: Difference) -> Check:
        """The check of a difference over all examples that has no value."""
        rule, allowed = _allowed(threshold, OVERALL)
        return Check(
            task=threshold.task,
            metric=threshold.metric,
            rule=rule,
            allowed=allowed,
            other=difference.other,
            value=self._value(threshold.task, threshold.metric, OVERALL, CANDIDATE),
            other_value=self._value(threshold.task, threshold.metric, OVERALL, difference.other),
            queries=difference.queries,
            passed=False,
            sentence=self._why_undefined(threshold, difference),
        )

    def _left_out(self, threshold: Threshold) -> Iterator[NotJudged]:
        """The comparison with a model in service that is broken, if the twin stands in for it."""
        broken = self._broken(threshold.task)
        if broken and self._others(threshold) == [TWIN]:
            yield NotJudged(
                task=threshold.task,
                metric=threshold.metric,
                slice=OVERALL,
                other=BASELINE,
                queries=0,
                sentence=words.broken(words.subject(threshold), broken),
            )

    def _not_judged(self, threshold: Threshold, difference: Difference) -> NotJudged:
        return NotJudged(
            task=threshold.task,
            metric=threshold.metric,
            slice=difference.slice,
            other=difference.other,
            queries=difference.queries,
            sentence=self._why_undefined(threshold, difference),
        )

    def _lacking(self, threshold: Threshold) -> Iterator[NotJudged]:
        """The configured slices that were not resampled, and columns without a value."""
        resampled = {estimate.slice for estimate in self.bootstrap.estimates}
        for column in self.settings.slices:
            measured = {part for part in self.metrics if part.startswith(f"{column}=")}
            lacking = sorted(measured - resampled)
            if not measured and not any(part.startswith(f"{column}=") for part in resampled):
                lacking = [column]
            for other, part in itertools.product(self._others(threshold), lacking):
                yield NotJudged(
                    task=threshold.task,
                    metric=threshold.metric,
                    slice=part,
                    other=other,
                    queries=0,
                    sentence=words.lacking(
                        words.subject(threshold, part), other, is_column=part == column
                    ),
                )

    def _why_undefined(self, threshold: Threshold, difference: Difference) -> str:
        needed = self._needed(difference.slice)
        for model in (CANDIDATE, difference.other):
            if self._value(threshold.task, threshold.metric, difference.slice, model) is None:
                return self._missing(threshold, difference.slice, model)
        what = words.subject(threshold, difference.slice)
        if difference.queries < needed:
            return words.too_few(what, difference.other, difference.queries, needed)
        return words.unsteady(what, difference.other)

    def _missing(self, threshold: Threshold, part: str, model: str) -> str:
        what = words.subject(threshold, part)
        if part not in self.metrics:
            return words.unmeasured(what, model)
        return words.missing(what, model, self.metrics[part].get(model, {}).get(threshold.task, {}))

    def _value(self, task: str, metric: str, part: str, model: str) -> float | None:
        """The metric, or None if it is missing, NaN or infinite."""
        values = self.metrics.get(part, {}).get(model, {}).get(task, {})
        value = values.get(metric, math.nan)
        return value if math.isfinite(value) else None


def _allowed(threshold: Threshold, part: str) -> tuple[Rule, float]:
    """Which condition bounds the loss on a slice, and by how much."""
    most = threshold.max_regression or 0.0
    if part == OVERALL:
        return "max_regression", most
    if threshold.max_slice_regression is None:
        return "max_slice_regression", most
    return "max_slice_regression", threshold.max_slice_regression
