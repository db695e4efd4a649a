"""A tiny stream that goes through everything that happens to one, step by step."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import polars as pl
import yaml
from projects import REPOSITORY, Project

from tfx_distill.datasets import simulator
from tfx_distill.pipeline import backfill, stream
from tfx_distill.pipeline.session import Done
from tfx_distill.pipeline.summary import Summary
from tfx_distill.schema import config as run_config
from tfx_distill.trainer.teacher import Teacher

SPANS = 5
SMALL = {"hidden": 8, "tower": 4, "embedding": 4, "experts": 2}
TRAINING = {"epochs": 1, "batch_size": 512}


def student(name: str, **training: float) -> dict[str, Any]:
    return {"name": name, "model": SMALL, "training": TRAINING | training}


def write(folder: Path) -> Project:
    """Five spans, of which the last two are still to come, and a config with small models."""
    simulator.write(
        folder / "data", simulator.SimulatorConfig(spans=SPANS, examples_per_span=2500, items=200)
    )
    content = yaml.safe_load((REPOSITORY / "configs/stream.yaml").read_text())
    content["data"]["spans"] = str(folder / "data/video/span-{SPAN}/{split}-*.parquet")
    content["features"]["multivalent"] = [
        {"name": "topics", "vocab": 24, "max_length": 4, "refresh": 2}
    ]
    content["teacher"] = {"model": {"width": 2} | SMALL, "training": TRAINING}
    content["students"] = [student("compact"), student("fragile", learning_rate=1e30)]
    content["labels"]["cross_fit"] = 2
    # Some ten lists hold something that satisfied: too few to judge an AUC by.
    tasks = {"click": "auc", "satisfaction": "log_loss", "watch_time": "mse", "ltv": "mse"}
    content["gate"] = {
        "teacher": [
            {"task": task, "metric": metric} | ({"min": 0.0} if metric == "auc" else {"max": 1e6})
            for task, metric in tasks.items()
        ],
        "students": [
            {"task": task, "metric": metric, "max_regression": 1e6}
            for task, metric in tasks.items()
        ],
        "slices": ["device"],
        # Other tests share the machine: latencies mean nothing.
        "serving": {"requests": 20, "max_p99_ratio": None},
    }
    content["root"] = str(folder / "runs")
    content["push"] = {"directory": str(folder / "serving")}
    file = folder / "stream.yaml"
    file.write_text(yaml.safe_dump(content))
    project = Project(folder, file)
    for span in (3, 4):
        announce(project, span, complete=False)
    return project


def announce(project: Project, span: int, *, complete: bool = True) -> None:
    """Says that a span has arrived, or takes it back."""
    marker = project.folder / f"data/video/span-{span}/_SUCCESS"
    hidden = marker.with_name("arriving")
    (hidden if complete else marker).rename(marker if complete else hidden)


def students_of_another_team(project: Project) -> Path:
    """A config with features and a student of its own that shares nothing but the label table."""
    content = yaml.safe_load((REPOSITORY / "configs/stream_students.yaml").read_text())
    content["data"]["spans"] = str(project.folder / "data/video/span-{SPAN}/{split}-*.parquet")
    content["labels"] = {"table": str(project.folder / "runs/stream/labels")}
    content["students"] = [student("pocket")]
    content["gate"] = {
        "students": [
            {"task": task, "metric": metric, "max_regression": 1e6}
            for task, metric in {"click": "auc", "ltv": "mse"}.items()
        ],
        "serving": {"requests": 20, "max_p99_ratio": None},
    }
    content["root"] = str(project.folder / "runs")
    content["push"] = {"directory": str(project.folder / "serving/other")}
    file = project.folder / "students.yaml"
    file.write_text(yaml.safe_dump(content))
    return file


@dataclass
class Story:
    """What happened, by the name of the step; each is a list of the runs that it took."""

    project: Project
    steps: dict[str, list[Done]] = field(default_factory=dict)
    labelled: dict[str, int] = field(default_factory=dict)
    waited: list[str] = field(default_factory=list)

    def summary(self, step: str, place: int = -1) -> Summary:
        return self.steps[step][place].summary

    def table(self) -> pl.DataFrame:
        return pl.scan_delta(str(self.project.folder / "runs/stream/labels")).collect()


class LabelledRows:
    """Counts the examples that teachers label, in a `with` block."""

    def __enter__(self) -> LabelledRows:
        self.rows = 0
        self._plain = Teacher.label, Teacher.label_rows
        for name in ("label", "label_rows"):
            setattr(Teacher, name, self._counted(getattr(Teacher, name)))
        return self

    def __exit__(self, *error: object) -> None:
        Teacher.label, Teacher.label_rows = self._plain  # type: ignore[method-assign]

    def _counted(self, plain: Callable[..., Any]) -> Callable[..., Any]:
        def label(teacher: Teacher, given: Any) -> Any:
            for ids, labels, missing in plain(teacher, given):
                self.rows += len(ids)
                yield ids, labels, missing

        return label


def tell(folder: Path) -> Story:
    """Runs the stream through its life."""
    story = Story(write(folder))
    project = story.project

    def step(name: str, runs: Callable[[], Any]) -> None:
        with LabelledRows() as counted:
            story.steps[name] = list(runs())
        story.labelled[name] = counted.rows

    # One student cannot be trained at all: its loss is not a number.
    step("start", lambda: stream.run(project.config()))
    # It is mended.
    project.change(students=[student("compact"), student("fragile")])
    step("mended", lambda: stream.run(project.config()))
    # A stricter gate refuses every teacher from now on.
    gate = project.config().gate.model_dump(exclude_none=True)
    strict = [{"task": t["task"], "metric": t["metric"], "max": 1e-9} for t in gate["teacher"]]
    project.change(gate=gate | {"teacher": strict})
    announce(project, 3)
    step("refused", lambda: stream.run(project.config()))
    # A third student joins, and the last span arrives while the stream is watched.
    project.change(students=[student("compact"), student("fragile"), student("late")])

    def arrives(reason: str) -> None:
        story.waited.append(reason)
        announce(project, 4)

    def watched() -> Any:
        seen: list[Done] = []
        runs = stream.watch(
            project.config(), poll_seconds=0.1, waiting=arrives, stop=lambda: bool(seen)
        )
        for done in runs:
            seen.append(done)
            yield done

    step("watched", watched)
    config = project.config()
    first = backfill.teachers(config)[0]
    story.steps["backfilled"] = []
    for span, found in backfill.backfill(config, (3, 4), first):
        if isinstance(found, Exception):
            raise found
        story.labelled[f"backfilled {span}"] = found.version
    other = run_config.load(students_of_another_team(project))
    step("students only", lambda: stream.run(other, students_only=True))
    return story
