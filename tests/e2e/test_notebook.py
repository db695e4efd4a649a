"""The notebook of the documentation on runs that have ended: what its cells show is the run's."""

from __future__ import annotations

import base64
import json
import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nbformat
import numpy as np
import polars as pl
import pytest
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from projects import REPOSITORY, Project
from scipy.special import expit
from tensorflow_metadata.proto.v0 import statistics_pb2

from tfx_distill.pipeline import summary
from tfx_distill.pipeline.summary import Summary

NOTEBOOK = REPOSITORY / "docs/notebooks/explore_run.ipynb"
VIEW = "application/vnd.jupyter.widget-view+json"
STATE = "application/vnd.jupyter.widget-state+json"
CPP_NOTE = re.compile(r"I0000 |WARNING: All log messages before absl::InitializeLog")
"""What TensorFlow 2.21 writes before anybody can tell it not to."""
# The first test makes the runs.
pytestmark = pytest.mark.timeout(1500)

PROBE = """
print(json.dumps({
    "evaluation": str(evaluation),
    "evaluations": len(evaluations),
    "chosen": [STUDENT, TASK, COLUMN],
    "pair": pair,
    "metrics": [
        (part, model, metric, value)
        for (metric, model), values in metrics.items()
        for part, value in values.items()
    ],
    "sliced": sliced.to_dicts(),
}))
"""
"""A last cell that tells the tests what is in the notebook's variables."""


@dataclass
class Executed:
    """The notebook after a run through all of its cells, and the run that it looked at."""

    notebook: nbformat.NotebookNode
    project: Project
    summary: Summary

    def outputs(self, cell: str) -> list[nbformat.NotebookNode]:
        return next(one.outputs for one in self.notebook.cells if one.id == cell)

    def shown(self, cell: str, kind: str) -> Any:
        """The one thing of this MIME type that a cell displays."""
        (found,) = [out.data[kind] for out in self.outputs(cell) if kind in out.get("data", {})]
        return found

    def widget(self, cell: str) -> dict[str, Any]:
        """What TFMA's widget in a cell is given to draw."""
        model = self.shown(cell, VIEW)["model_id"]
        return self.notebook.metadata.widgets[STATE]["state"][model]["state"]

    @property
    def probed(self) -> dict[str, Any]:
        return json.loads(self.notebook.cells[-1].outputs[0].text)

    @property
    def written(self) -> dict[str, Any]:
        """The evaluation's `metrics.json`."""
        return json.loads((Path(self.probed["evaluation"]) / "metrics.json").read_text())


def execute(folder: Path, kernel: Path) -> nbformat.NotebookNode:
    """Runs the notebook on a run folder; its kernel keeps files of its own in another one."""
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    notebook.cells.append(nbformat.v4.new_code_cell(PROBE))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TFX_DISTILL_RUN", str(folder))
        patch.setenv("IPYTHONDIR", str(kernel / "ipython"))
        patch.setenv("JUPYTER_RUNTIME_DIR", str(kernel / "runtime"))
        patch.setenv("JUPYTER_PLATFORM_DIRS", "1")
        place = {"metadata": {"path": str(NOTEBOOK.parent)}}
        return NotebookClient(notebook, timeout=300, resources=place).execute()


@pytest.fixture(scope="module", params=[pytest.param("batch", marks=pytest.mark.smoke), "stream"])
def executed(request, tmp_path_factory):
    if request.param == "batch":
        run = request.getfixturevalue("tiny_run")
        project, last = run.project, run.summary
    else:
        story = request.getfixturevalue("story")
        project, last = story.project, story.summary("watched")
    # Other tests run this project on: here its folder is as it was when that run had ended.
    folder = tmp_path_factory.mktemp("notebook")
    shutil.copy(project.config().run_folder / "metadata.sqlite", folder)
    summary.write(last, folder)
    return Executed(execute(folder, folder), project, last)


def test_every_cell_shows_something_and_none_complains(executed):
    silent = {cell.id for cell in executed.notebook.cells if not cell.get("outputs", ["text"])}
    assert silent == {"quiet"}
    for cell in executed.notebook.cells:
        for out in cell.get("outputs", []):
            assert out.output_type != "error", f"{cell.id}: {out.evalue}"
            if out.get("name") == "stderr":
                complaints = [line for line in out.text.splitlines() if not CPP_NOTE.match(line)]
                assert not complaints, f"{cell.id}: {out.text}"


def test_the_verdict_is_that_of_the_student(executed):
    student = executed.summary.students[0]
    assert executed.probed["chosen"] == [student.name, "click", "device"]
    said = executed.outputs("verdict")[0].text
    assert said.startswith("blessed - " if student.verdict.blessed else "refused - ")
    assert student.verdict.baseline_reason in said
    table = executed.shown("verdict", "text/html")
    # A row of names, and one for each check.
    assert table.count("<tr") == 1 + len(student.verdict.checks)


def slice_of(label: str) -> str:
    """How `metrics.json` calls `Overall:`, `device:b'tv'` and `new_item:1.0` of TFMA's table."""
    column, _, value = label.partition(":")
    if column == "Overall":
        return ""
    word = re.fullmatch("b'(.*)'", value)
    return f"{column}={word[1] if word else int(float(value))}"


def test_the_table_has_the_values_of_metrics_json(executed):
    expected = {
        (part, model, metric): value
        for part, models in executed.written.items()
        for model, tasks in models.items()
        for metric, value in tasks["click"].items()
    }
    found = {(slice_of(part), *key): value for part, *key, value in executed.probed["metrics"]}
    assert len({part for part, *_ in found}) > 2
    assert found.keys() == expected.keys()
    for key, value in expected.items():
        # NaN in the table is null in JSON.
        assert found[key] == pytest.approx(np.nan if value is None else value, nan_ok=True), key
    table = executed.shown("metrics", "text/html")
    assert f"{executed.summary.students[0].metrics['candidate']['click']['auc']:.6f}" in table


def test_tfma_is_given_the_slices_of_the_student(executed):
    drawn = executed.widget("slices")
    assert drawn["_model_name"] == "SlicingMetricsModel"
    found = {one["slice"].replace(":", "="): one["metrics"]["click"][""] for one in drawn["data"]}
    assert found.keys() == {part for part in executed.written if part.startswith("device=")}
    for part, values in found.items():
        expected = executed.written[part]["candidate"]["click"]["log_loss"]
        assert values["log_loss"]["doubleValue"] == pytest.approx(expected)


def test_tfma_is_given_the_plots_of_the_student(executed):
    drawn = executed.widget("plots")
    assert drawn["_model_name"] == "PlotModel"
    buckets = drawn["data"]["calibrationHistogramBuckets"]["buckets"]
    examples = sum(bucket["numWeightedExamples"] for bucket in buckets)
    assert examples == executed.summary.examples["eval"]
    assert drawn["data"]["confusionMatrixAtThresholds"]["matrices"]


def test_tfma_is_given_all_evaluations_of_the_student(executed):
    drawn = executed.widget("series")
    assert drawn["_model_name"] == "TimeSeriesModel"
    values = [one["metrics"]["click"][""]["log_loss"]["doubleValue"] for one in drawn["data"]]
    assert len(values) == executed.probed["evaluations"]
    assert len(set(values)) == (1 if executed.summary.carried is None else 4)
    last = executed.summary.students[0].metrics["candidate"]["click"]["log_loss"]
    assert values[-1] == pytest.approx(last)


def test_facets_is_given_statistics_of_two_spans_or_splits(executed):
    spans = [(1, "eval"), (1, "train")]
    if executed.summary.carried is not None:
        spans = [(4, "train"), (3, "train")]
    page = executed.shown("data", "text/html")
    assert "<facets-overview" in page
    (proto,) = re.findall(r'proto-input="([^"]+)"', page)
    statistics = statistics_pb2.DatasetFeatureStatisticsList.FromString(base64.b64decode(proto))
    assert [one.name for one in statistics.datasets] == [f"span {s}, {split}" for s, split in spans]
    newest = statistics.datasets[0]
    assert newest.num_examples == executed.summary.examples[spans[0][1]]
    assert "device" in {feature.path.step[0] for feature in newest.features}


def test_the_schema_and_the_anomalies_are_shown(executed):
    assert "'video_age_h'" in executed.shown("schema", "text/plain")
    said = "".join(out.get("text", "") for out in executed.outputs("anomalies"))
    assert said.split() == ["Split-eval", "Split-train"]


def test_slices_are_those_of_the_log_and_of_the_label_table(executed):
    labels = executed.summary.labels
    table = pl.read_delta(labels.table, version=labels.version).filter(
        (pl.col("teacher") == labels.teacher)
        & (pl.col("span") == labels.span)
        & (pl.col("split") == "eval")
    )
    span = executed.project.folder / f"data/video/span-{executed.summary.last_span}"
    logs = pl.read_parquet(span / "eval-*.parquet").join(
        table, left_on="impression_id", right_on="example_id"
    )
    rows = executed.summary.examples["eval"]
    assert len(logs) == rows
    assert executed.outputs("labels")[0].text.startswith(f"{rows} of {rows} impressions")
    sliced = {row["device"]: row for row in executed.probed["sliced"]}
    assert sliced.keys() == set(logs["device"])
    for (device,), part in logs.group_by("device"):
        assert sliced[device]["observed"] == pytest.approx(part["clicked"].mean(), abs=1e-6)
        teacher = expit(part["logit_click"].to_numpy()).mean()
        assert sliced[device]["teacher"] == pytest.approx(teacher, abs=1e-5)
    assert executed.shown("plot", "image/png")


def test_a_cell_that_raises_ends_the_notebook(tmp_path):
    with pytest.raises(CellExecutionError, match=r"summary\.json"):
        execute(tmp_path / "no run", tmp_path)
