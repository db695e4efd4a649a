"""The first page: what was run, how good it is, what was decided and why, and what serves."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from tfx_distill.pipeline.report import charts, gather_runs
from tfx_distill.pipeline.report.charts import Chart
from tfx_distill.pipeline.report.gather_intervals import Intervals, Key, intervals
from tfx_distill.pipeline.report.gather_runs import Student
from tfx_distill.pipeline.report.gathered import Gathered
from tfx_distill.pipeline.report.render import Page, missing, signed
from tfx_distill.pipeline.report.shown import MODELS, better, metrics_of, no_runs
from tfx_distill.schema.config import HIGHER_IS_BETTER

FILE, TITLE = "index.html", "Summary"
_MOST_SLICES = 40


@dataclass(frozen=True)
class Cell:
    """A value of the table, with its interval in words where there is one."""

    value: float | None
    interval: str


@dataclass(frozen=True)
class Line:
    """A line of the table of a student: one task and metric."""

    task: str
    metric: str
    better: str
    cells: tuple[Cell, ...]
    transfer: float | None


@dataclass(frozen=True)
class StudentPart:
    """What the page says of one student."""

    student: Student
    models: tuple[str, ...]
    lines: tuple[Line, ...]
    values: tuple[Chart, ...]
    differences: tuple[Chart, ...]
    bounded: bool


def page(found: Gathered) -> Page:
    """Shows the last run."""
    runs = found.runs
    run = runs.last
    if run is None:
        return missing(FILE, TITLE, no_runs(runs))
    values = {
        "runs": runs,
        "run": run,
        "service": [(name, gather_runs.service(runs, name)) for name in runs.students],
        "students": [
            _part(student, intervals(found.metadata, run.run_id, f"StudentGate.{student.name}"))
            for student in run.students
        ],
    }
    return Page(FILE, TITLE, "summary.html", values)


def _part(student: Student, bounds: Intervals) -> StudentPart:
    models = tuple(model for model in MODELS if model in student.metrics)
    lines, shown = [], []
    for task, metric in metrics_of(student):
        cells = tuple(_cell(student, bounds, Key("", task, metric, model)) for model in models)
        lines.append(
            Line(
                task,
                metric,
                better(metric),
                cells,
                student.transfer.get(task, {}).get(metric),
            )
        )
        rows = _rows(student, bounds, task, metric, models)
        shown.append(charts.whiskers(f"{task}: {metric}", f"{better(metric).capitalize()}.", rows))
    return StudentPart(
        student,
        tuple(MODELS[model] for model in models),
        tuple(lines),
        tuple(shown),
        tuple(_differences(student, bounds)),
        bool(bounds),
    )


def _cell(student: Student, bounds: Intervals, key: Key) -> Cell:
    value = student.metrics[key.model].get(key.task, {}).get(key.metric)
    interval = bounds.values.get(key)
    if interval is None or interval.low is None or interval.high is None:
        return Cell(value, "")
    return Cell(value, f"{interval.low:.4f} to {interval.high:.4f}")


def _rows(
    student: Student, bounds: Intervals, task: str, metric: str, models: tuple[str, ...]
) -> list[charts.Row]:
    rows: list[charts.Row] = []
    for model in models:
        value = student.metrics[model].get(task, {}).get(metric)
        if value is not None:
            row: dict[str, object] = {"model": MODELS[model], "value": value}
            interval = bounds.values.get(Key("", task, metric, model))
            if interval is not None and interval.low is not None:
                row |= {"low": interval.low, "high": interval.high}
            rows.append(row)
    return rows


def _differences(student: Student, bounds: Intervals) -> Iterator[Chart]:
    """The student's leads on what its gate looks at, overall and by slice."""
    judged = [] if student.verdict is None else student.verdict.checks
    for task, metric in dict.fromkeys((c.task, c.metric) for c in judged):
        rows: list[charts.Row] = []
        keys = [key for key in bounds.differences if (key.task, key.metric) == (task, metric)]
        for key in sorted(keys, key=lambda key: (key.slice, key.model)):
            interval = bounds.differences[key]
            if interval.value is not None and len(rows) < _MOST_SLICES:
                rows.append(
                    {
                        "model": f"{key.slice or 'all'}, against {MODELS[key.model]}",
                        "value": interval.value,
                        "low": interval.low,
                        "high": interval.high,
                    }
                )
        if rows:
            side = "right" if HIGHER_IS_BETTER.get(metric, True) else "left"
            overall = bounds.differences.get(Key("", task, metric, "twin"))
            lead = "" if overall is None else f" All, against twin: {signed(overall.value)}."
            yield charts.whiskers(
                f"{task}: {metric}",
                f"Student minus the other model; to the {side} of 0 the student is better.{lead}",
                rows,
                zero=True,
            )
