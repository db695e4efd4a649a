"""The verdict on a candidate: every condition, the numbers compared, and the reason in words."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from tfx_distill.schema.config import Section

FILE = "verdict.json"
"""Name of the verdict in the blessing of a PromotionGate."""

Rule = Literal["min", "max", "max_regression", "max_slice_regression"]


class Check(Section):
    """One condition of a threshold.

    Numbers are in the units of the metric, and None where there is no such number.

    Attributes:
      task: Of the threshold.
      metric: Of the threshold.
      slice: `column=value`; empty for all examples.
      rule: Which condition of the threshold it is.
      allowed: What was configured: a bound of the metric, or the largest loss.
      other: `baseline` or `twin`, which the candidate is compared with; None for `min` and `max`.
      value: The metric of the candidate.
      other_value: The metric of the other model.
      difference: The candidate's value minus the other's.
      low: Lower end of the interval of the difference; for `min` and `max`, of the value.
      high: Its upper end.
      bound: What the difference is at least, together with all other comparisons of the verdict;
        higher is better, whatever the metric: a negative one is a loss.
      queries: How many count for the metric.
      detectable: The smallest true loss that is refused with a probability of 80%; 0 if even a
        candidate as good as the other model is refused that often.
      passed: Whether the condition holds.
      sentence: All of it in words.
    """

    task: str
    metric: str
    slice: str = ""
    rule: Rule
    allowed: float
    other: str | None = None
    value: float | None
    other_value: float | None = None
    difference: float | None = None
    low: float | None = None
    high: float | None = None
    bound: float | None = None
    queries: int | None = None
    detectable: float | None = None
    passed: bool
    sentence: str


class NotJudged(Section):
    """A comparison that no check was made of, and why.

    The slice is too small, or the metric has no value on it, or the evaluation lacks it; of a slice
    column that is empty, `slice` is its name. Or the model in service is broken.
    """

    task: str
    metric: str
    slice: str
    other: str
    queries: int
    sentence: str


class Override(Section):
    """Who let a refused model through, why, and when (ISO 8601)."""

    because: str
    by: str
    at: str


class Verdict(Section):
    """Whether a candidate is blessed, and why.

    Attributes:
      candidate: What was judged.
      blessed: Whether every check passed.
      baseline: Which model stood for the one in service: `baseline` (that model itself), `twin`, or
        None.
      baseline_reason: Why that one, or why none.
      checks: Every condition, in the order of the thresholds, all examples before the slices.
      not_judged: What was left out.
      confidence: With this probability all bounds hold together.
      critical: How many standard errors the bounds are below the differences; None without any.
      replicates: How many times the queries were resampled.
      seed: Of the resampling.
      overridden: Set if the model was let through in spite of its checks.
    """

    candidate: str
    blessed: bool
    baseline: Literal["baseline", "twin"] | None
    baseline_reason: str
    checks: tuple[Check, ...]
    not_judged: tuple[NotJudged, ...] = ()
    confidence: float
    critical: float | None = None
    replicates: int
    seed: int
    overridden: Override | None = None

    @property
    def failures(self) -> tuple[str, ...]:
        """A sentence for each condition that does not hold."""
        return tuple(check.sentence for check in self.checks if not check.passed)

    @property
    def others(self) -> tuple[str, ...]:
        """The models that the candidate was compared with."""
        return tuple(dict.fromkeys(c.other for c in self.checks if c.other is not None))


def read(blessing_uri: str | Path) -> Verdict:
    """The verdict in the blessing of a PromotionGate."""
    return Verdict.model_validate_json((Path(blessing_uri) / FILE).read_text())
