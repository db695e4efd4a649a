"""Features and labels on a Spark cluster of several networks, while a worker is killed."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import spark_cluster
import yaml
from projects import Project
from spark_cluster import Cluster

from tfx_distill.components.artifacts import fingerprint
from tfx_distill.pipeline import session

# Many processes beside each other: on a busy machine they take their time.
pytestmark = pytest.mark.timeout(1500)

SLOW = """
import os, random, time, uuid
from datetime import timedelta

import pyarrow as pa
from tfx_distill.labels import shard

enter, leave = shard.LabelShardWriter.__enter__, shard.LabelShardWriter.__exit__

def another(writer):
    time = writer._scored_at.as_py() + timedelta(microseconds=random.randrange(10**6))
    writer._scored_at = pa.scalar(time, writer._scored_at.type)
    return enter(writer)

def slowly(writer, *error):
    leave(writer, *error)
    name = os.environ["SPARK_LOCAL_IP"] + "_" + uuid.uuid4().hex
    with open(os.path.join({folder!r}, name), "x"):
        time.sleep({seconds})

shard.LabelShardWriter.__enter__ = another
shard.LabelShardWriter.__exit__ = slowly
"""
"""The worst case: an attempt whose file is finished is lost, and the next one writes another file.

Each attempt leaves a file with the address of its worker, and takes its time until it tells Spark.
"""
SECONDS = 0.5
BEFORE_THE_KILL = 6
"""Label files."""


@pytest.fixture(scope="module")
def project(tiny_project: Project, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """The tiny project with many shards, and its teacher's labels, made by Beam."""
    folder = tmp_path_factory.mktemp("sparked")
    content = yaml.safe_load(tiny_project.file.read_text())
    content["data"]["shard_rows"] = 250
    content["root"] = str(folder / "runs")
    content["push"] = {"directory": str(folder / "serving")}
    content["labels"] = {"table": str(folder / "by-beam")}
    project = Project(folder, folder / "video.yaml")
    project.file.write_text(yaml.safe_dump(content))
    run(project, "TeacherLabeler")
    return project


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    reason = spark_cluster.why_not()
    if reason is not None:
        if "CI" in os.environ:
            pytest.fail(reason)
        # Network namespaces take root, and Spark takes Java: not every machine has both.
        pytest.skip(reason)
    with spark_cluster.cluster(tmp_path_factory.mktemp("spark") / "cluster") as running:
        yield running


def run(project: Project, until: str) -> dict[str, Any]:
    """What became of each component."""
    summary, error = session.run(project.config(), until=until)
    if error is not None:
        raise error
    return {step.component: step.state for step in summary.steps}


def spark_at(cluster: Cluster, **options: str) -> dict[str, Any]:
    return {
        "master": cluster.master,
        "options": {
            "spark.driver.host": cluster.driver,
            "spark.driver.bindAddress": cluster.driver,
            "spark.executor.memory": "512m",
            **options,
        },
    }


def rows(table: Path) -> pl.DataFrame:
    return pl.read_delta(str(table)).sort("example_id", "split").drop("scored_at")


def made(project: Project, output: str) -> list[Path]:
    """The artifacts of an output, in the order of their making."""
    folders = (project.folder / "runs/video/artifacts" / output).iterdir()
    return sorted(folders, key=lambda folder: int(folder.name))


def test_features_of_the_cluster_are_those_of_beam(project: Project, cluster: Cluster) -> None:
    before = yaml.safe_load(project.file.read_text())
    project.change(data=before["data"] | {"engine": "spark"}, spark=spark_at(cluster))
    states = run(project, "FeatureMaterializer")
    project.file.write_text(yaml.safe_dump(before))
    assert states["FeatureMaterializer"] == "ran"
    assert {states[name] for name in ("SpanExampleGen", "Transform")} == {"cached"}
    by_beam, by_spark = made(project, "FeatureMaterializer/features")
    assert len(list(by_beam.rglob("*.arrow"))) >= 24
    assert fingerprint(by_spark) == fingerprint(by_beam)


class Killer(threading.Thread):
    """Kills, as soon as some label files are there, the worker that then finishes another one.

    Attributes:
      at_kill: How many label files there were.
    """

    def __init__(self, cluster: Cluster, table: Path, attempts: Path) -> None:
        super().__init__(daemon=True)
        self._workers = {worker.address: worker for worker in cluster.workers}
        self._table, self._attempts = table, attempts
        self.at_kill: int | None = None

    def run(self) -> None:
        while self._files() < BEFORE_THE_KILL:
            time.sleep(0.05)
        before = set(self._attempts.iterdir())
        while not (finished := set(self._attempts.iterdir()) - before):
            time.sleep(0.02)
        self._workers[finished.pop().name.split("_")[0]].kill()
        self.at_kill = self._files()

    def _files(self) -> int:
        return len(list(self._table.rglob("*.parquet")))


def test_a_killed_worker_costs_no_label_and_repeats_none(
    project: Project, cluster: Cluster, tmp_path: Path
) -> None:
    attempts = tmp_path / "attempts"
    attempts.mkdir()
    (tmp_path / "sitecustomize.py").write_text(SLOW.format(folder=str(attempts), seconds=SECONDS))
    table = project.folder / "by-spark"
    project.change(
        labels={"engine": "spark", "table": str(table)},
        spark=spark_at(cluster, **{"spark.executorEnv.PYTHONPATH": str(tmp_path)}),
    )
    killer = Killer(cluster, table, attempts)
    killer.start()
    states = run(project, "TeacherLabeler")
    assert states["TeacherLabeler"] == "ran"
    assert set(states.values()) - {"ran"} == {"cached"}
    shards = len(list(made(project, "FeatureMaterializer/features")[0].rglob("*.arrow")))
    # In the middle; and the file of the attempt that was lost is there beside the one that counts.
    assert killer.at_kill is not None
    assert BEFORE_THE_KILL <= killer.at_kill < shards - 2
    assert len(list(table.rglob("*.parquet"))) == len(list(attempts.iterdir())) > shards
    labels = rows(table)
    assert labels.select("example_id", "split").is_duplicated().sum() == 0
    # Bit for bit.
    assert labels.equals(rows(project.folder / "by-beam"))
