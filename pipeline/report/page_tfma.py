"""The index of TFMA's own views: one for each evaluation of the newest run."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tfx_distill.pipeline.report.gather_metadata import Metadata
from tfx_distill.pipeline.report.gather_runs import Runs
from tfx_distill.pipeline.report.gathered import Gathered
from tfx_distill.pipeline.report.render import Page, missing, slug
from tfx_distill.pipeline.report.shown import no_runs

FILE, TITLE = "tfma.html", "TFMA"


@dataclass(frozen=True)
class Evaluation:
    """An evaluation of the newest run: whose it is, its folder, and the file of its view."""

    model: str
    folder: Path
    file: str


def evaluations(runs: Runs, found: Metadata) -> list[Evaluation]:
    """Those of the teacher and of each student, as far as the run came."""
    run = runs.last
    if run is None:
        return []
    named = [("teacher", "TeacherEvaluator")]
    named += [(f"student {s.name}", f"StudentEvaluator.{s.name}") for s in run.students]
    out = []
    for model, component in named:
        artifact = found.output(run.run_id, component, "evaluation")
        if artifact is not None:
            out.append(Evaluation(model, Path(artifact.uri), f"tfma-{slug(model)}.html"))
    return out


def page(found: Gathered) -> Page:
    """Lists the views."""
    run = found.runs.last
    if run is None:
        return missing(FILE, TITLE, no_runs(found.runs))
    shown = evaluations(found.runs, found.metadata)
    if not shown:
        return missing(FILE, TITLE, "The newest run evaluated no model.")
    values = {"run": run, "evaluations": shown, "absent": found.absent}
    return Page(FILE, TITLE, "tfma.html", values)
