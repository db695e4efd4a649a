"""How often a gate should refuse a student, how often it did, and what it can see."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import stats

from tfx_distill.components.bootstrap_result import Bootstrap
from tfx_distill.components.verdict import Verdict
from tfx_distill.schema.config import HIGHER_IS_BETTER, Metric

if TYPE_CHECKING:
    from numpy.typing import NDArray

JUDGED: tuple[Metric, ...] = ("auc", "log_loss")
VERDICT = "verdict"
_POWER = float(stats.norm.ppf(0.8))

Gains = Mapping[tuple[str, str], float]
"""By slice and metric, how much better the candidate is than the baseline."""


@dataclass(frozen=True)
class Judged:
    """What one evaluation says of one student.

    Attributes:
      gain: By metric over all examples, how much better than the baseline it seems.
      error: Standard errors of these.
      critical: Of the verdict.
      refused: By allowed loss, whether the check of each metric over all examples failed; under
        `VERDICT`, whether the student was not blessed.
      predicted: By allowed loss, the probability that it would not be; see `joint_refusal`.
    """

    gain: dict[str, float]
    error: dict[str, float]
    critical: float
    refused: dict[float, dict[str, bool]]
    predicted: dict[float, float]


def oriented(metric: str) -> int:
    """1 where a higher value of the metric is better, -1 where a lower one is."""
    return 1 if HIGHER_IS_BETTER[metric] else -1


def refusal(
    allowed: float | NDArray[np.float64], loss: float, error: float, critical: float
) -> NDArray[np.float64]:
    """The probability that a check refuses, if a difference errs normally about the truth.

    A check refuses if `gain - critical * error < -allowed`, and the gain is `-loss` give or take
    `error`.
    """
    return stats.norm.cdf(critical + (loss - np.asarray(allowed)) / error)


def joint_refusal(found: Bootstrap, verdict: Verdict, truth: Gains) -> float:
    """The probability that any check refuses, if differences err about the truth as resamples do.

    A resample's difference errs about the measured one. Moved to the truth, a share of them is
    below what the checks demand of a measured difference.
    """
    if verdict.critical is None:
        raise ValueError("nothing could be judged")
    failed: NDArray[np.bool_] = np.zeros(verdict.replicates, bool)
    known = {d.key: d for d in found.differences}
    for check in verdict.checks:
        key = (check.slice, check.task, check.metric, "baseline")
        value, error = known[key].value, known[key].standard_error
        if value is None or error is None:
            continue
        moved = truth[check.slice, check.metric] + oriented(check.metric) * (
            found.replicates[key] - value
        )
        failed |= moved - verdict.critical * error < -check.allowed
    return float(failed.mean())


def rates(found: Sequence[Judged], truth: Gains) -> list[dict[str, Any]]:
    """How often a student was refused, and how often it should have been.

    A row for each allowed loss and each check over all examples, and one for the whole verdict. Of
    a check the prediction is `refusal` with the medians over evaluations, of the verdict the mean
    of `joint_refusal`.
    """
    critical = statistics.median(one.critical for one in found)
    rows = []
    for allowed in found[0].refused:
        predicted = {VERDICT: statistics.mean(one.predicted[allowed] for one in found)}
        for metric in JUDGED:
            error = statistics.median(one.error[metric] for one in found)
            predicted[metric] = float(refusal(allowed, -truth["", metric], error, critical))
        for about in (*JUDGED, VERDICT):
            refused = sum(one.refused[allowed][about] for one in found)
            own = {"allowed": allowed, "about": about, "predicted": predicted[about]}
            rows.append(own | rate(refused, len(found)))
    return rows


def rate(refused: int, evaluations: int) -> dict[str, Any]:
    """A rate and its 95% interval (Clopper and Pearson 1934)."""
    interval = stats.binomtest(refused, evaluations).proportion_ci(0.95, method="exact")
    return {
        "refused": refused,
        "evaluations": evaluations,
        "rate": refused / evaluations,
        "low": float(interval.low),
        "high": float(interval.high),
    }


def sight(found: Sequence[Judged], metric: str) -> dict[str, float]:
    """What evaluations of this size can see in a metric over all examples.

    `tolerable` is the smallest loss to allow with which an equal student passes in 80% of all
    cases, `detectable` the smallest true loss that is then refused in 80%. `spread` is the standard
    deviation of the measured differences, which the standard error should be.
    """
    error = statistics.median(one.error[metric] for one in found)
    critical = statistics.median(one.critical for one in found)
    return {
        "evaluations": len(found),
        "error": error,
        "spread": float(np.std([one.gain[metric] for one in found], ddof=1)),
        "critical": critical,
        "tolerable": (critical + _POWER) * error,
        "detectable": 2 * _POWER * error,
    }
