"""The page on costs: where a run's seconds went, what distillation costs, and costs over spans."""

from __future__ import annotations

from collections.abc import Sequence

from tfx_distill.pipeline.phases import PHASES
from tfx_distill.pipeline.report import charts
from tfx_distill.pipeline.report.charts import Chart
from tfx_distill.pipeline.report.gather_costs import PARTS, WORK, Cost, costs, gains, part_of
from tfx_distill.pipeline.report.gather_runs import Runs
from tfx_distill.pipeline.report.gathered import Gathered
from tfx_distill.pipeline.report.render import Page, missing
from tfx_distill.pipeline.report.shown import no_runs

FILE, TITLE = "cost.html", "Cost"
_SHORT = 0.05
"""Seconds: what took less is not told by phase."""


def page(found: Gathered) -> Page:
    """Shows the costs of all runs."""
    runs = found.runs
    run = runs.last
    if run is None:
        return missing(FILE, TITLE, no_runs(runs))
    later = [one for one in runs.all if one.carried is not None] or list(runs.all)
    spent = costs(run)
    by_phase = [cost for cost in spent if cost.phases and cost.seconds >= _SHORT]
    values = {
        "run": run,
        "costs": spent,
        "by_phase": by_phase,
        "phases": (*PHASES, WORK),
        "phase_chart": _phases(by_phase) if by_phase else None,
        "short": _SHORT,
        "gains": gains(later),
        "counted": later,
        "students": len(run.students),
        "charts": _charts(runs) if len(runs.all) > 1 else [],
    }
    return Page(FILE, TITLE, "cost.html", values)


def _phases(shown: Sequence[Cost]) -> Chart:
    rows = [
        {"component": cost.component, "phase": phase, "seconds": cost.phases[phase]}
        for cost in shown
        for phase in (*PHASES, WORK)
    ]
    fixed = sum(cost.phases[phase] for cost in shown for phase in PHASES)
    share = fixed / sum(cost.seconds for cost in shown)
    return charts.sideways(
        "Wall time by phase",
        f"In the order in which they ran. Work is {1 - share:.0%} of all; more examples would "
        "hardly change the rest.",
        rows,
        x="seconds",
        y="component",
        by="phase",
    )


def _charts(runs: Runs) -> list[Chart]:
    # The bootstrap trains on several spans at once: its bar would dwarf the others.
    shown = [run for run in runs.all if run.carried is not None] or list(runs.all)
    spent = [
        {"span": run.last_span, "part": part, "CPU seconds": total}
        for run in shown
        for part in PARTS
        if (total := sum(s.cpu_seconds for s in run.steps if part_of(s.component) == part))
    ]
    wall = [
        {"span": run.last_span, "figure": "wall time", "seconds": sum(s.seconds for s in run.steps)}
        for run in shown
    ]
    peak = [
        {
            "span": run.last_span,
            "figure": "largest component",
            "MiB": max((s.peak_mib for s in run.steps), default=0.0),
        }
        for run in shown
    ]
    without = "" if len(shown) == len(runs.all) else " The bootstrap is left out."
    return [
        charts.bars(
            "CPU seconds by part",
            f"What each span cost.{without}",
            spent,
            x="span",
            y="CPU seconds",
            by="part",
        ),
        charts.lines(
            "Wall time", f"Of each span.{without}", wall, x="span", y="seconds", by="figure"
        ),
        charts.lines(
            "Peak memory", f"Of each span.{without}", peak, x="span", y="MiB", by="figure"
        ),
    ]
