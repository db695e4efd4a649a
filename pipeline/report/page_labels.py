"""The page on teacher labels: how many, how old, how good, and how far students follow them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tfx_distill.pipeline.report import charts
from tfx_distill.pipeline.report.charts import Chart
from tfx_distill.pipeline.report.gather_agreement import Agreement, agreement
from tfx_distill.pipeline.report.gather_runs import Run
from tfx_distill.pipeline.report.gathered import Gathered
from tfx_distill.pipeline.report.render import Page, missing
from tfx_distill.pipeline.report.shown import no_runs

FILE, TITLE = "labels.html", "Labels"

_FIGURES = {
    "calibration": (
        "Calibration",
        "Mean teacher label over mean hard label, of the binary tasks; 1 is right.",
        1.0,
    ),
    "calibration_error": (
        "Calibration error",
        "Mean distance of the teacher's probabilities from what happened, over 15 bins.",
        None,
    ),
    "correlation": (
        "Agreement with the teacher before",
        "Correlation of the labels of two successive teachers on the same examples.",
        None,
    ),
    "shift": (
        "Drift from the teacher before",
        "Change of the mean label on the same examples, in standard deviations.",
        0.0,
    ),
}


@dataclass(frozen=True)
class StudentAgreement:
    """How one student agrees with the teacher; `why` says what is missing, if anything."""

    student: str
    lines: tuple[Agreement, ...]
    why: str = ""


def page(found: Gathered) -> Page:
    """Shows the labels of all runs, and the agreement in the last."""
    runs = found.runs
    run = runs.last
    if run is None:
        return missing(FILE, TITLE, no_runs(runs))
    labelled = [one for one in runs.all if one.labels is not None]
    values = {
        "runs": runs,
        "labelled": labelled,
        "charts": _charts(labelled),
        "students": [_student(found, run, s.name) for s in run.students],
        "last": run,
        "refused": [one.spans for one in runs.all if one.labels_refused],
    }
    return Page(FILE, TITLE, "labels.html", values)


def _charts(labelled: Sequence[Run]) -> list[Chart]:
    out = []
    coverage = list(_overall(labelled, {"coverage": "coverage"}))
    staleness = {"staleness_mean_hours": "mean", "staleness_max_hours": "largest"}
    hours = list(_overall(labelled, staleness))
    for rows, title, text in (
        (coverage, "Coverage", "Share of the examples of a span with a teacher label."),
        (hours, "Staleness", "Hours from the newest event that a teacher saw to what it labelled."),
    ):
        if rows:
            out.append(charts.lines(title, text, rows, x="span", y="value", by="figure"))
    for name, (title, text, reference) in _FIGURES.items():
        rows = list(_by_task(labelled, name))
        if rows:
            out.append(
                charts.lines(title, text, rows, x="span", y=name, by="task", reference=reference)
            )
    return out


def _overall(labelled: Sequence[Run], figures: Mapping[str, str]) -> Iterator[charts.Row]:
    for run in labelled:
        for name, title in figures.items():
            value = _quality(run).get(name)
            if value is not None:
                yield {"span": run.last_span, "figure": title, "value": float(value)}


def _by_task(labelled: Sequence[Run], name: str) -> Iterator[charts.Row]:
    for run in labelled:
        for task, figures in _quality(run).get("tasks", {}).items():
            if figures.get(name) is not None:
                yield {"span": run.last_span, "task": task, name: float(figures[name])}


def _quality(run: Run) -> Mapping[str, Any]:
    return {} if run.labels is None else run.labels.quality


def _student(found: Gathered, run: Run, student: str) -> StudentAgreement:
    artifact = found.metadata.output(run.run_id, f"StudentEvaluator.{student}", "evaluation")
    if artifact is None:
        return StudentAgreement(student, (), "The run kept no evaluation of this student.")
    lines = tuple(agreement(Path(artifact.uri), found.tasks, found.slices))
    if not lines:
        why = "The evaluation has no predictions of student and teacher on the same examples."
        return StudentAgreement(student, (), why)
    return StudentAgreement(student, lines)
