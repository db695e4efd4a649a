"""The sentences of a verdict, in plain words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from tfx_distill.components.evaluation_result import OVERALL
from tfx_distill.schema.config import Threshold

ACCEPTED = (
    "No model is in service: the first one is judged by its limits alone ('gate.first' is "
    "'accept')."
)


def subject(threshold: Threshold, part: str = OVERALL) -> str:
    """What a condition is about: `auc of click on device=tv`."""
    where = "" if part == OVERALL else f" on {part}"
    return f"{threshold.metric} of {threshold.task}{where}"


def limit(
    what: str,
    value: float,
    interval: tuple[float | None, float | None],
    rule: Literal["min", "max"],
    allowed: float,
    confidence: float,
) -> str:
    """A value and a limit of it."""
    low, high = interval
    around = ""
    if low is not None and high is not None:
        around = f" ({_percent(confidence)} interval {low:.6g} to {high:.6g})"
    side = "at least" if rule == "min" else "at most"
    return f"{what} is {value:.6g}{around}; {side} {allowed:.6g} is required."


def comparison(
    what: str,
    values: tuple[float, float],
    other: str,
    gain: float,
    bound: float,
    allowed: float,
    queries: int,
    confidence: float,
) -> str:
    """A candidate's value and that of another model.

    Args:
      what: The subject.
      values: Of the candidate and of the other model.
      other: Which one that is.
      gain: By how much the candidate is better.
      bound: By how much it is at least better.
      allowed: By how much it may be worse.
      queries: How many count.
      confidence: Of the bound.
    """
    sure = _percent(confidence)
    least = (
        f"with {sure} confidence no more than {-bound:.4g} worse"
        if bound < 0
        else f"with {sure} confidence at least {bound:.4g} better"
        if bound > 0
        else f"with {sure} confidence not worse"
    )
    sentence = (
        f"{what} is {values[0]:.6g} against {values[1]:.6g} of the {other}: {_lead(gain)}, "
        f"{least}; up to {allowed:.6g} worse is allowed."
    )
    if bound < -allowed <= gain:
        sentence += f" {queries:,} queries are too few to tell that it is not worse than that."
    return sentence


def incomparable(what: str, reason: str) -> str:
    """There is no model to compare with."""
    return f"{what} has nothing to be compared with. {reason}"


def accepted(what: str, value: float) -> str:
    """There is no model to compare with, and that is fine."""
    return f"{what} is {value:.6g}. {ACCEPTED}"


def too_few(what: str, other: str, queries: int, needed: int) -> str:
    """A slice is too small."""
    return (
        f"{what} is not compared with the {other}: {queries:,} queries count, "
        f"{needed:,} are needed."
    )


def broken(what: str, predictions: int) -> str:
    """The model in service is no measure."""
    return (
        f"{what} is not compared with the baseline: {predictions:,} of the predictions of the "
        "model in service are NaN or infinite."
    )


def lacking(what: str, other: str, *, is_column: bool) -> str:
    """The stored predictions have no such slice, or not a single one of the column."""
    why = (
        "no example of the eval split has a value of it"
        if is_column
        else "the stored predictions have no such slice, though there are metrics of it"
    )
    return f"{what} is not compared with the {other}: {why}."


def unmeasured(what: str, model: str) -> str:
    """There are predictions of a slice, but no metrics."""
    return f"{what} of the {model} does not exist: the evaluation has no metrics of this slice."


def unsteady(what: str, other: str) -> str:
    """There are values, but no interval."""
    return (
        f"{what} cannot be compared with the {other}: "
        "too few queries have labels that determine it."
    )


def missing(what: str, model: str, values: Mapping[str, float]) -> str:
    """A value that is not a number.

    Args:
      what: The subject.
      model: Whose value it is.
      values: The other metrics of this model and task; empty if it does not serve the task.
    """
    what = f"{what} of the {model}"
    if not values:
        return f"{what} does not exist: the {model} does not serve the task."
    if broken := values.get("not_finite_count", 0):
        return f"{what} is not a number: {broken:.0f} predictions are NaN or infinite."
    if not values.get("weighted_example_count", 0):
        return f"{what} is not a number: the task applies to no example of the eval split."
    return f"{what} is not a number: the labels of the eval split do not determine it."


def _lead(gain: float) -> str:
    return "equal" if gain == 0 else f"{abs(gain):.4g} {'better' if gain > 0 else 'worse'}"


def _percent(share: float) -> str:
    return f"{100 * share:g}%"
