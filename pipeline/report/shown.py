"""In which words and which order models, metrics and outcomes are shown."""

from __future__ import annotations

from collections.abc import Iterator

from tfx_distill.pipeline.report.gather_runs import Run, Runs, Student
from tfx_distill.schema.config import HIGHER_IS_BETTER

MODELS = {"teacher": "teacher", "candidate": "student", "twin": "twin", "baseline": "baseline"}
"""Models of an evaluation, in the order of their columns, and what people call them."""
METRICS = (*HIGHER_IS_BETTER, "calibration")


def better(metric: str) -> str:
    """Which values of a metric are good."""
    if metric not in HIGHER_IS_BETTER:
        return "best at 1"
    return "higher is better" if HIGHER_IS_BETTER[metric] else "lower is better"


def metrics_of(student: Student) -> Iterator[tuple[str, str]]:
    """Tasks and metrics of a student, in the order of the site."""
    for task, values in student.metrics.get("candidate", {}).items():
        yield from ((task, metric) for metric in METRICS if metric in values)


def outcome(run: Run, student: Student) -> str:
    """What became of a student: `pushed`, `refused`, or nothing if a failure came first."""
    if student.pushed is not None:
        return "pushed"
    blessed = student.verdict is not None and student.verdict.blessed
    return "" if blessed and run.failed is not None else "refused"


def no_runs(runs: Runs) -> str:
    """Why there is no run to be shown."""
    if runs.unreadable:
        return "The summaries of the runs cannot be read: " + "; ".join(runs.unreadable)
    return "There was no run of this config yet, or none came to its end."
