"""The page of training curves: losses by epoch of the newest run, and by span of a stream."""

from __future__ import annotations

from collections.abc import Sequence

from tfx_distill.pipeline.report import charts
from tfx_distill.pipeline.report.charts import Chart
from tfx_distill.pipeline.report.gather_curves import Point, points
from tfx_distill.pipeline.report.gathered import Gathered
from tfx_distill.pipeline.report.render import Page, missing
from tfx_distill.pipeline.report.shown import no_runs

FILE, TITLE = "curves.html", "Training curves"
_SPLITS = {"train": "train", "validation": "eval"}


def page(found: Gathered) -> Page:
    """Shows the losses of all models."""
    runs = found.runs
    if not runs.all:
        return missing(FILE, TITLE, no_runs(runs))
    every = points(found.metadata, tuple(run.run_id for run in runs.all))
    if not every:
        return missing(
            FILE, TITLE, "No training wrote event files: no run came to the end of a training."
        )
    groups = []
    for model in dict.fromkeys(point.model for point in every):
        mine = [point for point in every if point.model == model]
        groups.append((model, list(_charts(mine))))
    return Page(FILE, TITLE, "curves.html", {"groups": groups, "stream": runs.stream})


def _charts(mine: Sequence[Point]) -> list[Chart]:
    by_epoch, over_spans = [], []
    spans = sorted({point.span for point in mine})
    # The longest training: that of a batch, or the bootstrap of a stream.
    longest = max(spans, key=lambda s: (max(p.epoch for p in mine if p.span == s), s))
    for loss in dict.fromkeys(point.loss for point in mine):
        epochs = [p for p in mine if p.span == longest and p.loss == loss]
        rows = [{"epoch": p.epoch, "split": _SPLITS[p.split], "loss": p.value} for p in epochs]
        if len({p.epoch for p in epochs}) > 1:
            text = f"By epoch, of the training up to span {longest}."
            by_epoch.append(charts.lines(loss, text, rows, x="epoch", y="loss", by="split"))
        if len(spans) > 1:
            last = _after_the_last_epoch([p for p in mine if p.loss == loss])
            rows = [{"span": p.span, "split": _SPLITS[p.split], "loss": p.value} for p in last]
            text = "After the last epoch on each span."
            over_spans.append(charts.lines(loss, text, rows, x="span", y="loss", by="split"))
    return [*by_epoch, *over_spans]


def _after_the_last_epoch(mine: Sequence[Point]) -> list[Point]:
    last = {(point.span, point.split): point for point in sorted(mine, key=lambda p: p.epoch)}
    return [last[key] for key in sorted(last)]
