"""Candidates before the rules of the gate, with values and standard errors made by hand."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from tfx_distill.components.bootstrap_result import Bootstrap, Bounds, Difference, Estimate, Key
from tfx_distill.components.evaluation_result import Evaluated
from tfx_distill.components.gate_settings import GateSettings
from tfx_distill.components.judging import judge
from tfx_distill.components.verdict import Check, Verdict
from tfx_distill.schema.config import HIGHER_IS_BETTER, GateConfig, Threshold

ALONE = "No model is in service. There is no undistilled twin either."
CRITICAL = 2.0
"""Standard errors that every bound is below its difference."""

Values = dict[str, dict[str, dict[str, dict[str, float]]]]
"""Value by slice, model, task and metric."""


@dataclass(frozen=True)
class Fixed(Bootstrap):
    """Bounds that are `CRITICAL` errors below, and what they were asked for."""

    asked: list[tuple[list[Key], float]] = field(default_factory=list)

    def lower_bounds(self, chosen: Sequence[Key], confidence: float) -> Bounds:
        self.asked.append((list(chosen), confidence))
        found = {d.key: d for d in self.differences if d.key in chosen}
        by_key = {}
        for key, one in found.items():
            assert one.value is not None
            assert one.standard_error is not None
            sign = 1 if HIGHER_IS_BETTER[one.metric] else -1
            by_key[key] = sign * one.value - CRITICAL * one.standard_error
        return Bounds(CRITICAL, by_key)


def resampled(
    values: Values, error: float | None = 0.01, queries: dict[str, int] | None = None
) -> Fixed:
    """A bootstrap of these values; all standard errors are the same, None leaves them undefined."""
    estimates, differences = [], []
    for part, models in values.items():
        count = (queries or {}).get(part, 500)
        for model, tasks in models.items():
            for task, metrics in tasks.items():
                for metric, value in metrics.items():
                    if metric not in HIGHER_IS_BETTER:
                        continue
                    known = math.isfinite(value)
                    about: dict[str, Any] = {
                        "slice": part,
                        "task": task,
                        "metric": metric,
                        "queries": count,
                    }
                    low, high = (value - 0.05, value + 0.05) if known else (None, None)
                    shown = value if known else None
                    estimates.append(
                        Estimate(**about, model=model, value=shown, low=low, high=high)
                    )
                    if model not in ("baseline", "twin"):
                        continue
                    gap = models["candidate"][task][metric] - value
                    defined = math.isfinite(gap) and error is not None
                    differences.append(
                        Difference(
                            **about,
                            other=model,
                            value=gap if defined else None,
                            low=gap - 0.1 if defined else None,
                            high=gap + 0.1 if defined else None,
                            standard_error=error if defined else None,
                        )
                    )
    return Fixed(tuple(estimates), tuple(differences), {})


def click(**models: float) -> dict[str, dict[str, dict[str, float]]]:
    """The same value of all metrics of one task, for each model."""
    return {model: {"click": {"auc": value, "log_loss": value}} for model, value in models.items()}


def verdict(
    thresholds: dict[str, Any] | Sequence[dict[str, Any]],
    values: Values,
    bootstrap: Fixed | None = None,
    *,
    in_service: bool | None = None,
    **settings: Any,
) -> Verdict:
    """Judges the values; without more, thresholds are on the AUC of the task click."""
    given = [thresholds] if isinstance(thresholds, dict) else thresholds
    models = {model: tuple(tasks) for model, tasks in values[""].items()}
    # The baseline is there though it may serve none of the tasks.
    models = {model: tasks for model, tasks in models.items() if tasks}
    there = "baseline" in models
    evaluated = Evaluated(
        models=models,
        in_service=there if in_service is None else in_service,
        baseline="baseline" if there else "twin" if "twin" in models else None,
        reason=ALONE,
    )
    gate = GateConfig(
        students=[Threshold(**{"task": "click", "metric": "auc", **one}) for one in given]
    )
    full = GateSettings(
        **{
            "candidate": "compact",
            "kinds": {"click": "binary"},
            "thresholds": gate.students,
            "slices": (),
            "ndcg_at": gate.ndcg_at,
            "first": gate.first,
            "confidence": gate.confidence,
            "replicates": gate.replicates,
            "min_slice_queries": gate.min_slice_queries,
            "seed": 0,
            **settings,
        }
    )
    return judge(full, evaluated, values, bootstrap or resampled(values))


def check(thresholds: dict[str, Any], values: Values, *args: Any, **more: Any) -> Check:
    """The only check of a verdict."""
    result = verdict(thresholds, values, *args, **more)
    (only,) = result.checks
    assert result.blessed == only.passed
    assert result.failures == (() if only.passed else (only.sentence,))
    return only
