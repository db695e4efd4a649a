"""The data page: anomalies and drift in words, and TFDV's own view of the newest spans."""

from __future__ import annotations

from collections.abc import Sequence

from tfx_distill.pipeline.report import charts
from tfx_distill.pipeline.report.gather_drift import Drift, drifts
from tfx_distill.pipeline.report.gathered import Gathered
from tfx_distill.pipeline.report.render import Page, missing
from tfx_distill.pipeline.report.shown import no_runs

FILE, TITLE = "data.html", "Data"
VIEW = "tfdv.html"
"""File of TFDV's view."""
_DRAWN = 6


def page(found: Gathered) -> Page:
    """Shows the data of all runs."""
    runs = found.runs
    if not runs.all:
        return missing(FILE, TITLE, no_runs(runs))
    measured = drifts(found.metadata, tuple(run.run_id for run in runs.all))
    newest = max((drift.span for drift in measured), default=None)
    values = {
        "runs": runs,
        "view": VIEW,
        "no_view": found.absent.get(VIEW, ""),
        "charts": _charts(measured),
        "drawn": _DRAWN,
        "newest": newest,
        "drifts": sorted(
            (drift for drift in measured if drift.span == newest), key=lambda d: -d.share
        ),
    }
    return Page(FILE, TITLE, "data.html", values)


def _charts(measured: Sequence[Drift]) -> list[charts.Chart]:
    """Of each split, the columns that came nearest to their limits."""
    out: list[charts.Chart] = []
    if len({drift.span for drift in measured}) < 2:
        return out
    for split in dict.fromkeys(drift.split for drift in measured):
        mine = [drift for drift in measured if drift.split == split]
        most: dict[str, float] = {}
        for drift in mine:
            most[drift.column] = max(most.get(drift.column, 0.0), drift.share)
        columns = sorted(most, key=lambda column: -most[column])[:_DRAWN]
        rows = [
            {"span": drift.span, "column": drift.column, "share of the limit": drift.share}
            for column in columns
            for drift in mine
            if drift.column == column
        ]
        text = (
            f"Distance of each span from the one before, as a share of the limit, of the "
            f"{len(columns)} columns that came nearest to it; at 1 it is an anomaly."
        )
        out.append(
            charts.lines(
                f"Drift of the {split} split",
                text,
                rows,
                x="span",
                y="share of the limit",
                by="column",
            )
        )
    return out
