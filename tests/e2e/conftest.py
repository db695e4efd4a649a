"""One tiny run of the whole pipeline, shared by the end-to-end tests."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from projects import REPOSITORY, Project

from tfx_distill.datasets import simulator
from tfx_distill.pipeline import session
from tfx_distill.pipeline.summary import Summary
from tfx_distill.schema.config import RunConfig


@dataclass
class Run:
    project: Project
    config: RunConfig
    summary: Summary


def tiny(folder: Path) -> Project:
    """The shipped video config on little data, with small models and gates that a run can pass."""
    simulator.write(
        folder / "data", simulator.SimulatorConfig(spans=2, examples_per_span=4000, items=200)
    )
    content = yaml.safe_load((REPOSITORY / "configs/video.yaml").read_text())
    small = {"hidden": 8, "tower": 4, "embedding": 4, "experts": 2}
    training = {"epochs": 2, "batch_size": 512}
    content["data"]["spans"] = str(folder / "data/video/span-{SPAN}/{split}-*.parquet")
    content["data"]["shard_rows"] = 2000
    content["teacher"] = {
        "model": {"architecture": "mmoe", "width": 2} | small,
        "training": training,
    }
    content["students"] = [
        {"name": "compact", "model": small, "training": training},
        {
            "name": "tiny",
            "model": small | {"width": 0.5},
            "training": training,
            "tasks": ["click", "watch_time"],
            "distill": {"click": "direct", "satisfaction": "non_serving"},
        },
    ]
    # Some ten lists hold something that satisfied: too few to judge an AUC by.
    kinds = {"click": "auc", "satisfaction": "log_loss", "watch_time": "mse", "ltv": "mse"}
    content["gate"] = {
        "teacher": [
            {"task": task, "metric": metric} | ({"min": 0.0} if metric == "auc" else {"max": 1e6})
            for task, metric in kinds.items()
        ],
        "students": [
            {"task": task, "metric": metric, "max_regression": 1e6}
            for task, metric in kinds.items()
        ],
        "slices": ["device", "new_item"],
        # Other tests share the machine: latencies mean nothing.
        "serving": {"requests": 20, "max_p99_ratio": None},
    }
    content["root"] = str(folder / "runs")
    content["push"] = {"directory": str(folder / "serving")}
    file = folder / "video.yaml"
    file.write_text(yaml.safe_dump(content))
    return Project(folder, file)


@pytest.fixture(scope="session")
def tiny_project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    return tiny(tmp_path_factory.mktemp("project"))


@pytest.fixture(scope="session")
def tiny_run(tiny_project: Project) -> Run:
    config = tiny_project.config()
    summary, error = session.run(config)
    if error is not None:
        raise error
    return Run(tiny_project, config, summary)


@pytest.fixture
def copied(tiny_run: Run, tmp_path: Path) -> Project:
    """A copy of the finished project that a test may spoil; metadata still names the original."""
    shutil.copy(tiny_run.project.file, tmp_path / "video.yaml")
    return Project(tiny_run.project.folder, tmp_path / "video.yaml")


@pytest.fixture(scope="session")
def story(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A tiny stream that has lived through everything that `streamed.tell` tells."""
    from streamed import tell

    return tell(tmp_path_factory.mktemp("stream"))
