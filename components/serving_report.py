"""What was measured of an exported model in processes of its own, and whether it may be pushed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from tfx_distill.components.evaluation_result import BASELINE, CANDIDATE
from tfx_distill.schema.config import Section, ServingLimits

if TYPE_CHECKING:
    from numpy.typing import NDArray

REPORT = "serving.json"
"""File of the InfraBlessing artifact that holds a `ServingReport`."""

Rule = Literal[
    "gate",
    "serves",
    "own_files",
    "baseline",
    "max_difference",
    "max_p99_ms",
    "max_p99_ratio",
    "max_size_mib",
    "max_size_ratio",
]


class Latency(Section):
    """What requests of one size took, in milliseconds of wall time."""

    model: str
    candidates: int
    requests: int
    p50_ms: float
    p99_ms: float

    @classmethod
    def of(cls, model: str, candidates: int, seconds: Sequence[float]) -> Latency:
        """Percentiles of the seconds of each request, interpolated linearly."""
        p50, p99 = np.percentile(seconds, [50, 99]) * 1e3
        return cls(
            model=model,
            candidates=candidates,
            requests=len(seconds),
            p50_ms=float(p50),
            p99_ms=float(p99),
        )


class Measured(Section):
    """A model in numbers.

    Attributes:
      examples: How many were answered and compared.
      differences: By signature and task, the largest difference of the served answers from the
        trainer's, relative where these are above 1; None where an answer is missing or not finite.
      latencies: By model and number of candidates.
      size_mib: By model, all files of its SavedModel.
      foreign_files: Files outside of its folder that the candidate names.
      baseline_reason: Which model was measured beside it, or why none.
      tensorflow: Version of the TensorFlow that served.
      rounds: How often latencies were measured; they are those of the quickest round.
    """

    examples: int
    differences: dict[str, dict[str, float | None]]
    latencies: tuple[Latency, ...]
    size_mib: dict[str, float]
    foreign_files: tuple[str, ...] = ()
    baseline_reason: str
    tensorflow: str
    rounds: int = 1

    def p99_ms(self, model: str, candidates: int) -> float | None:
        """The 99th percentile of a model's latency, if it was measured."""
        for latency in self.latencies:
            if (latency.model, latency.candidates) == (model, candidates):
                return latency.p99_ms
        return None


class ServingCheck(Section):
    """One condition for a push.

    `value` is what was measured and `allowed` what may be; None where there is no such number.
    """

    rule: Rule
    passed: bool
    sentence: str
    value: float | None = None
    allowed: float | None = None
    candidates: int | None = None
    task: str | None = None


class ServingReport(Section):
    """Whether a model may be pushed, and why; `measured` is None where nothing was measured."""

    candidate: str
    blessed: bool
    checks: tuple[ServingCheck, ...]
    measured: Measured | None

    @classmethod
    def of(
        cls, candidate: str, checks: Iterable[ServingCheck], measured: Measured | None = None
    ) -> ServingReport:
        """A report; without any check nothing is blessed."""
        made = tuple(checks)
        blessed = bool(made) and all(check.passed for check in made)
        return cls(candidate=candidate, blessed=blessed, checks=made, measured=measured)

    @classmethod
    def refused(cls, candidate: str, rule: Rule, sentence: str) -> ServingReport:
        """A report on a model that could not, or need not, be measured."""
        return cls.of(candidate, [ServingCheck(rule=rule, passed=False, sentence=sentence)])

    @property
    def failures(self) -> tuple[str, ...]:
        """A sentence for each condition that does not hold."""
        return tuple(check.sentence for check in self.checks if not check.passed)


def difference(
    served: Mapping[str, NDArray[Any]], expected: Mapping[str, NDArray[np.float64]], signature: str
) -> dict[str, float | None]:
    """The largest difference of served answers from the trainer's, by task.

    That of an answer s from an expected t is |s - t| / max(1, |t|).

    Args:
      served: By `<signature>/<task>`, of shape [rows].
      expected: By task, of shape [rows].
      signature: Whose answers to compare.
    """
    out: dict[str, float | None] = {}
    for task, wanted in expected.items():
        got = served.get(f"{signature}/{task}")
        out[task] = None
        if got is None or got.size != wanted.size:
            continue
        if np.isfinite(got).all() and np.isfinite(wanted).all():
            off = np.abs(got.reshape(-1) - wanted) / np.maximum(1, np.abs(wanted))
            out[task] = float(off.max())
    return out


def judge(candidate: str, measured: Measured, limits: ServingLimits) -> ServingReport:
    """Holds what was measured against the limits, each limit with a sentence of its own."""
    checks = [
        ServingCheck(
            rule="serves",
            passed=True,
            sentence=f"TensorFlow {measured.tensorflow} alone loads the model and answers.",
        ),
        _own_files(measured.foreign_files),
        *_differences(measured, limits.max_difference),
        *_unserved_baseline(measured),
        *latency_checks(measured, limits),
        *_sizes(measured, limits),
    ]
    return ServingReport.of(candidate, checks, measured)


def latency_checks(measured: Measured, limits: ServingLimits) -> Iterator[ServingCheck]:
    """The limits on latencies; those against the baseline where it was measured."""
    for candidates in limits.candidates:
        p99 = measured.p99_ms(CANDIDATE, candidates)
        if p99 is None:
            raise ValueError(f"requests of {candidates} candidates were not measured")
        what = f"The 99th percentile of the latency of {candidates} candidates"
        most = limits.max_p99_ms.get(candidates)
        if most is not None:
            yield ServingCheck(
                rule="max_p99_ms",
                passed=p99 <= most,
                sentence=f"{what} is {p99:.3g} ms; at most {most:g} ms is allowed.",
                value=p99,
                allowed=most,
                candidates=candidates,
            )
        base = measured.p99_ms(BASELINE, candidates)
        if base is not None and limits.max_p99_ratio is not None:
            ratio, most = p99 / base, limits.max_p99_ratio
            yield ServingCheck(
                rule="max_p99_ratio",
                passed=ratio <= most,
                sentence=f"{what} is {p99:.3g} ms, {ratio:.2f} times that of the model in service "
                f"({base:.3g} ms); at most {most:g} times is allowed.",
                value=ratio,
                allowed=most,
                candidates=candidates,
            )


def _own_files(foreign: tuple[str, ...]) -> ServingCheck:
    if foreign:
        sentence = f"The model needs {', '.join(foreign)}, which is not in its folder."
    else:
        sentence = "The model names no file outside of its folder."
    return ServingCheck(rule="own_files", passed=not foreign, sentence=sentence)


def _unserved_baseline(measured: Measured) -> Iterator[ServingCheck]:
    """A model in service without latencies: it can be replaced, and somebody should know."""
    served = {latency.model for latency in measured.latencies}
    if BASELINE in measured.size_mib.keys() - served:
        yield ServingCheck(rule="baseline", passed=True, sentence=measured.baseline_reason)


def _differences(measured: Measured, most: float) -> Iterator[ServingCheck]:
    for signature, by_task in measured.differences.items():
        for task, value in by_task.items():
            what = f"{task} by {signature}, on {measured.examples} examples:"
            if value is None:
                sentence = f"{what} an answer is missing or not finite."
            else:
                sentence = (
                    f"{what} at most {value:.2g} from the trainer's answers; {most:g} is allowed."
                )
            yield ServingCheck(
                rule="max_difference",
                passed=value is not None and value <= most,
                sentence=sentence,
                value=value,
                allowed=most,
                task=task,
            )


def _sizes(measured: Measured, limits: ServingLimits) -> Iterator[ServingCheck]:
    size, base = measured.size_mib[CANDIDATE], measured.size_mib.get(BASELINE)
    if limits.max_size_mib is not None:
        most = limits.max_size_mib
        yield ServingCheck(
            rule="max_size_mib",
            passed=size <= most,
            sentence=f"The model has {size:.3g} MiB; at most {most:g} MiB is allowed.",
            value=size,
            allowed=most,
        )
    if base is not None and limits.max_size_ratio is not None:
        ratio, most = size / base, limits.max_size_ratio
        yield ServingCheck(
            rule="max_size_ratio",
            passed=ratio <= most,
            sentence=f"The model has {size:.3g} MiB, {ratio:.2f} times the model in service "
            f"({base:.3g} MiB); at most {most:g} times is allowed.",
            value=ratio,
            allowed=most,
        )
