"""The stream page: metrics over spans, and what became of each span."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from tfx_distill.pipeline.report import charts
from tfx_distill.pipeline.report.charts import Chart
from tfx_distill.pipeline.report.gather_intervals import Intervals, Key, intervals
from tfx_distill.pipeline.report.gather_metadata import Metadata
from tfx_distill.pipeline.report.gather_runs import Runs, Verdict
from tfx_distill.pipeline.report.gathered import Gathered
from tfx_distill.pipeline.report.render import Page, missing
from tfx_distill.pipeline.report.shown import MODELS, better, metrics_of, no_runs, outcome

FILE, TITLE = "stream.html", "Stream"
_OVER_SPANS = ("teacher", "candidate", "twin")


@dataclass(frozen=True)
class Group:
    """The charts of one student: of what its gate looks at, and of the rest."""

    student: str
    judged: tuple[Chart, ...]
    others: tuple[Chart, ...]


def page(found: Gathered) -> Page:
    """Shows all spans."""
    runs = found.runs
    if not runs.all:
        return missing(FILE, TITLE, no_runs(runs))
    if not runs.stream:
        return missing(
            FILE,
            TITLE,
            f"This is a batch: there is one run, of spans {runs.all[0].spans} together, and nothing"
            " to be drawn over spans. The summary shows it.",
        )
    bounds = _overall(runs, found.metadata)
    values = {
        "runs": runs,
        "groups": [_group(name, runs, bounds) for name in runs.students],
        "bounded": any(bounds.values()),
        "outcomes": [
            (run, [(s.name, outcome(run, s), _why(s.verdict)) for s in run.students])
            for run in reversed(runs.all)
        ],
    }
    return Page(FILE, TITLE, "stream.html", values)


def _why(verdict: Verdict | None) -> str:
    checks = () if verdict is None else verdict.checks
    return " ".join(check.sentence for check in checks if not check.passed)


def _overall(runs: Runs, found: Metadata) -> dict[tuple[str, str], Intervals]:
    """By run and student, the intervals over all examples; those of slices take memory."""
    out = {}
    for run in runs.all:
        for student in run.students:
            every = intervals(found, run.run_id, f"StudentGate.{student.name}")
            out[run.run_id, student.name] = Intervals(
                {key: value for key, value in every.values.items() if not key.slice}
            )
    return out


def _group(student: str, runs: Runs, bounds: dict[tuple[str, str], Intervals]) -> Group:
    judged: list[Chart] = []
    others: list[Chart] = []
    evaluated = [one for run in runs.all if (one := run.student(student)) is not None]
    looked_at = {
        (check.task, check.metric)
        for one in evaluated
        if one.verdict is not None
        for check in one.verdict.checks
    }
    for task, metric in dict.fromkeys(pair for one in evaluated for pair in metrics_of(one)):
        rows = list(_rows(student, task, metric, runs, bounds))
        refused = sorted({row["span"] for row in rows if row.get("outcome") == "refused"})
        told = f" Refused in spans {', '.join(map(str, refused))}." if refused else ""
        text = f"{better(metric).capitalize()}.{told}"
        chart = charts.over_spans(f"{task}: {metric}", text, metric, rows)
        (judged if (task, metric) in looked_at else others).append(chart)
    return Group(student, tuple(judged), tuple(others))


def _rows(
    student: str,
    task: str,
    metric: str,
    runs: Runs,
    bounds: dict[tuple[str, str], Intervals],
) -> Iterator[charts.Row]:
    for run in runs.all:
        one = run.student(student)
        if one is None:
            continue
        for model in _OVER_SPANS:
            value = one.metrics.get(model, {}).get(task, {}).get(metric)
            if value is None:
                continue
            row: dict[str, object] = {"span": run.last_span, "model": MODELS[model], "value": value}
            if model == "candidate" and outcome(run, one):
                row["outcome"] = outcome(run, one)
            found = bounds[run.run_id, student].values.get(Key("", task, metric, model))
            if found is not None and found.low is not None:
                row |= {"low": found.low, "high": found.high}
            yield row
