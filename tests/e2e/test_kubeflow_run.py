"""Compiled pipelines, run to their end: each step gets what a launcher would hand to it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl
import pytest
from clusters import cluster, in_this_process, on_cluster, once
from conftest import Run

from tfx_distill.kubeflow import records
from tfx_distill.kubeflow.compilation import compile_pipeline
from tfx_distill.pipeline import summary
from tfx_distill.pipeline.summary import Summary


class Deployed:
    """A batch on a cluster; the labeler dies once, with its labels already in the table."""

    def __init__(self, tiny_run: Run, folder: Path, target: Any) -> None:
        project = on_cluster(tiny_run.project, folder, tiny_run.project.folder, retries=1)
        self.config = project.config()
        text = compile_pipeline(self.config, "kfp")
        with in_this_process(dies=once("teacher-labeler")) as runner:
            self.states = cluster(folder / "cluster", target, runner).run(text, {"spans": "0..1"})

    @property
    def summary(self) -> Summary:
        return summary.read(self.config.run_folder)


@pytest.fixture(scope="module", params=["kfp", "vertex"])
def deployed(
    tiny_run: Run, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> Deployed:
    return Deployed(tiny_run, tmp_path_factory.mktemp(request.param), request.param)


def labels_of(result: Summary) -> pl.DataFrame:
    """What its teacher said; other tests go on with the table of the local run."""
    assert result.labels is not None
    table = pl.read_delta(result.labels.table, version=result.labels.version)
    own = table.filter(pl.col("teacher") == result.labels.teacher)
    return own.drop("scored_at", "teacher").sort("example_id")


def test_every_step_succeeds_and_a_student_is_pushed(deployed: Deployed) -> None:
    assert set(deployed.states.values()) == {"succeeded"}
    for student in deployed.summary.students:
        assert student.pushed is not None
        assert (Path(student.pushed) / "saved_model.pb").exists()


def test_the_metrics_are_those_of_a_local_run(deployed: Deployed, tiny_run: Run) -> None:
    local = {student.name: student.metrics for student in tiny_run.summary.students}
    assert {s.name: s.metrics for s in deployed.summary.students} == local


def test_labels_are_written_once_although_the_labeler_died(
    deployed: Deployed, tiny_run: Run
) -> None:
    found, local = labels_of(deployed.summary), labels_of(tiny_run.summary)
    assert not found["example_id"].is_duplicated().any()
    assert found.equals(local)


def test_its_lineage_is_that_of_a_local_run(deployed: Deployed, tiny_run: Run) -> None:
    made = {r.component: set(r.outputs) for r in records.read(deployed.config.run_folder)}
    states = {s.component: s.state for s in deployed.summary.steps}
    assert made.keys() == states.keys()
    assert set(states.values()) == {"ran"}
    local = {s.component for s in tiny_run.summary.steps}
    assert local - made.keys() == {f"BaselineResolver.{s.name}" for s in deployed.config.students}
