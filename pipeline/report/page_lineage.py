"""The lineage page: each pushed model, and all that it was made from."""

from __future__ import annotations

from dataclasses import dataclass

from tfx_distill.pipeline.report import charts
from tfx_distill.pipeline.report.charts import Chart
from tfx_distill.pipeline.report.gather_lineage import Ancestry, ancestries
from tfx_distill.pipeline.report.gathered import Gathered
from tfx_distill.pipeline.report.render import Page, missing

FILE, TITLE = "lineage.html", "Lineage"
MOST = 60
"""Pushed models that are shown: the newest."""


@dataclass(frozen=True)
class Model:
    """A pushed model."""

    id: str
    ancestry: Ancestry
    chart: Chart


def page(found: Gathered) -> Page:
    """Shows where the newest pushed models come from."""
    if not found.metadata.artifacts:
        return missing(FILE, TITLE, "There is no ML Metadata in the run folder: nothing was run.")
    models = ancestries(found.metadata, MOST)
    if not models:
        return missing(
            FILE,
            TITLE,
            "No model was pushed, so there is none to trace. The summary says what the gates "
            "refused, and why.",
        )
    # Models share most of their ancestors.
    nodes = {
        node.id: {"kind": node.kind, "title": node.title, "properties": node.properties}
        for model in models
        for node in model.nodes
    }
    shown = [
        Model(f"model-{number}", model, charts.lineage(model))
        for number, model in enumerate(models)
    ]
    return Page(FILE, TITLE, "lineage.html", {"models": shown, "nodes": nodes, "most": MOST})
