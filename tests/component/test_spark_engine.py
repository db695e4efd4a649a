"""Labels and features on Spark: those of Beam, bit for bit, and errors in our words."""

from __future__ import annotations

import gc
import os
import shutil
import signal
import socket
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pytest
import spark_here
from deltalake import DeltaTable
from labelings import Labeler, visible
from linear_teacher import save
from small_examples import ROWS, Prepared, made, materialize
from tfx.types import standard_artifacts

from tfx_distill.components import engines, spark_engine
from tfx_distill.components.artifacts import fingerprint, read_snapshots
from tfx_distill.components.shard_work import Note, Shard, ShardWork, shard_table
from tfx_distill.schema.config import SparkConfig
from tfx_distill.schema.errors import DataError, EnvironmentProblem, LabelError

HERE = SparkConfig(master="local[2]")


@pytest.fixture(scope="module", autouse=True)
def installed() -> None:
    spark_here.require()


# ---- what comes out ------------------------------------------------------------------------------


def statistics(table: Path) -> pl.DataFrame:
    """What the Delta log says of each file, but for its name, time and size."""
    actions = pl.DataFrame(DeltaTable(str(table)).get_add_actions(flatten=True))
    named = actions.with_columns(pl.col("path").str.replace(r"-[0-9a-f]{16}\.parquet$", ""))
    times = [name for name in named.columns if "scored_at" in name]
    return named.drop("size_bytes", "modification_time", *times).sort("path")


def test_labels_are_those_of_beam(prepared: Prepared, features: Any, tmp_path: Path) -> None:
    teacher = save(tmp_path / "teacher")
    tables = {}
    for engine, spark in (("beam", None), ("spark", HERE)):
        label = Labeler(prepared, features, tmp_path / engine)
        artifact = label(teacher, spark=spark)
        (snapshot,) = read_snapshots(artifact.uri)
        assert DeltaTable(str(label.table)).version() == snapshot.version
        assert sorted(file.name for file in Path(artifact.uri).iterdir()) == [
            "quality.json",
            "snapshots.json",
        ]
        tables[engine] = visible(snapshot).drop("scored_at"), statistics(label.table)
    rows, files = tables["spark"]
    assert len(rows) == sum(ROWS.values())
    # Bit for bit.
    assert rows.equals(tables["beam"][0])
    assert len(files) == 4
    assert files.equals(tables["beam"][1])


def test_features_are_those_of_beam(prepared: Prepared, features: Any, tmp_path: Path) -> None:
    made_by_spark = materialize(prepared, tmp_path, spark=HERE)
    # Names and bytes.
    assert fingerprint(made_by_spark.uri) == fingerprint(features.uri)
    assert made_by_spark.get_int_custom_property("rows_train") == ROWS["train"]


# ---- errors of the work --------------------------------------------------------------------------


def test_labels_that_are_not_finite_are_the_same_error(
    prepared: Prepared, features: Any, tmp_path: Path
) -> None:
    # All of them, so that it does not matter which shard is first.
    broken = save(tmp_path / "broken", limit=1e9)
    found = {}
    for engine, spark in (("beam", None), ("spark", HERE)):
        label = Labeler(prepared, features, tmp_path / engine)
        with pytest.raises(LabelError) as caught:
            label(broken, spark=spark)
        found[engine] = caught.value
        assert not (label.table / "_delta_log").exists()
    beam, spark = found["beam"], found["spark"]
    assert type(spark) is type(beam)
    assert "task click" in spark.where
    assert "example_id" in spark.where
    assert "nan" in spark.got
    assert (spark.expected, spark.fix) == (beam.expected, beam.fix)
    assert "py4j" not in str(spark).lower()


def test_a_damaged_shard_is_named(prepared: Prepared, tmp_path: Path) -> None:
    shutil.copytree(prepared.examples.uri, tmp_path / "examples")
    shard = tmp_path / "examples/Split-train/part-00001.parquet"
    shard.write_bytes(shard.read_bytes()[:-100])
    examples = made(standard_artifacts.Examples, shard.parents[1])
    with pytest.raises(DataError) as caught:
        materialize(prepared, tmp_path, examples, spark=HERE)
    assert str(shard) in caught.value.where
    assert list((tmp_path / "features").rglob("*part-00001*")) == []


# ---- tasks that die ------------------------------------------------------------------------------


@dataclass(frozen=True)
class Dying(ShardWork):
    """Writes a file for each shard; the process that does `last` dies, as often as it is told."""

    folder: str
    last: str
    times: int

    def do(self, shard: Shard) -> Note:
        import time
        from pathlib import Path

        tries = Path(self.folder) / f"tries-{shard.name}"
        with tries.open("a") as file:
            file.write("x")
        if shard.name == self.last and len(tries.read_text()) <= self.times:
            # Spark hears of a death at the next message: the others shall be under way.
            time.sleep(0.2)
            os._exit(9)
        return Note(shard.split, shard.name, f"by {os.getpid()}", 1, 2, {"example_id": (3, 2**60)})


@pytest.fixture
def by_value() -> Any:
    """Workers get the classes of this module with the work: they cannot import it."""
    from pyspark import cloudpickle

    module = sys.modules[__name__]
    cloudpickle.register_pickle_by_value(module)
    yield
    cloudpickle.unregister_pickle_by_value(module)


SHARDS = [Shard("", "train", f"part-{number}") for number in range(5)]


@pytest.mark.usefixtures("by_value")
def test_a_shard_whose_worker_dies_is_done_again(tmp_path: Path) -> None:
    work = Dying(str(tmp_path), last="part-2", times=1)
    notes = engines.run(
        work,
        SHARDS,
        spark=SparkConfig(master="local[2, 4]").model_dump_json(),
        beam_pipeline=None,
        notes=tmp_path / "notes",
    )
    assert [note.name for note in notes] == [shard.name for shard in SHARDS]
    assert {note.ranges["example_id"] for note in notes} == {(3, 2**60)}
    tries = {file.name: len(file.read_text()) for file in tmp_path.glob("tries-*")}
    assert tries["tries-part-2"] >= 2
    assert tries.keys() == {f"tries-part-{number}" for number in range(5)}


@pytest.mark.usefixtures("by_value")
def test_a_shard_that_always_dies_is_an_error_of_the_cluster(tmp_path: Path) -> None:
    work = Dying(str(tmp_path), last="part-2", times=99)
    with pytest.raises(EnvironmentProblem) as caught:
        spark_engine.run(work, SHARDS, SparkConfig(master="local[2, 2]"))
    assert caught.value.where == "Spark at local[2, 2]"
    assert "failed 2 times" in caught.value.got
    assert "\n" not in str(caught.value)


def test_workers_without_the_environment_are_told(tmp_path: Path) -> None:
    with pytest.raises(EnvironmentProblem) as caught:
        spark_engine.run(Dying(str(tmp_path), "", 0), SHARDS[:1], HERE)
    assert "No module named 'test_spark_engine'" in caught.value.got
    assert "this Python environment" in caught.value.fix


@pytest.mark.usefixtures("by_value")
def test_what_a_worker_has_loaded_is_not_searched_for_garbage_after_each_task() -> None:
    """Spark collects garbage after each task; done in this process, without Spark."""

    class Nothing(ShardWork):
        def do(self, shard: Shard) -> Note:
            return Note(shard.split, shard.name, "", 0, 0, {})

    shards = shard_table([Shard("a", "train", "a"), Shard("b", "train", "b")])
    task = spark_engine._by_number(Nothing(), shards)
    assert gc.get_freeze_count() == 0
    try:
        frozen = []
        for number in range(2):
            (note,) = task(pa.table({"id": [number]}).to_batches())
            assert note["name"][0].as_py() == "ab"[number]
            frozen.append(gc.get_freeze_count())
        assert frozen[0] >= frozen[1] > 0, "once: what later tasks leave is garbage"
    finally:
        gc.unfreeze()


def test_no_shards_need_no_spark(tmp_path: Path) -> None:
    assert spark_engine.run(Dying("", "", 0), [], SparkConfig(master="spark://nowhere:1")) == []


# ---- Spark itself --------------------------------------------------------------------------------


def test_a_master_that_does_not_answer_is_named_at_once(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    master = f"spark://127.0.0.1:{port}"
    with pytest.raises(EnvironmentProblem) as caught:
        spark_engine.run(Dying("", "", 0), SHARDS, SparkConfig(master=master))
    assert master in caught.value.where
    assert "refused" in caught.value.got


def test_a_master_that_spark_does_not_know_is_named() -> None:
    with pytest.raises(EnvironmentProblem) as caught:
        spark_engine.run(Dying("", "", 0), SHARDS, SparkConfig(master="sparkling"))
    assert "sparkling" in caught.value.where
    assert "parse master" in caught.value.got.lower()


@pytest.mark.parametrize(
    ("answer", "got"),
    [
        ('openjdk version "11.0.2" 2019-01-15', "Java 11"),
        ('java version "1.8.0_402"', "Java 8"),
        ("no such thing", "no such thing"),
        (None, "no Java that starts"),
    ],
)
def test_java_that_is_missing_or_old_is_told(
    answer: str | None, got: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if answer is not None:
        java = tmp_path / "bin/java"
        java.parent.mkdir()
        java.write_text(f"#!/bin/sh\necho '{answer}' >&2\n")
        java.chmod(0o755)
    monkeypatch.setenv("JAVA_HOME", str(tmp_path))
    with pytest.raises(EnvironmentProblem) as caught:
        spark_engine.run(Dying("", "", 0), SHARDS, HERE)
    assert got in caught.value.got
    assert "Java 17" in caught.value.expected


def test_without_pyspark_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    import importlib.metadata

    def missing(name: str) -> str:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "version", missing)
    with pytest.raises(EnvironmentProblem) as caught:
        spark_engine.run(Dying("", "", 0), SHARDS, HERE)
    assert "tfx-distill[spark]" in caught.value.fix


@pytest.mark.usefixtures("by_value")
def test_signals_and_the_terminal_stay_ours(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    def ours(number: int, frame: Any) -> None:
        raise AssertionError

    before = signal.signal(signal.SIGINT, ours)
    try:
        spark_engine.run(Dying(str(tmp_path), "", 0), SHARDS[:1], HERE)
        assert signal.getsignal(signal.SIGINT) is ours
    finally:
        signal.signal(signal.SIGINT, before)
    assert capfd.readouterr() == ("", "")


def test_workers_import_neither_tfx_nor_beam() -> None:
    program = """
import sys
import tfx_distill.components.feature_shards
import tfx_distill.components.label_shards
import tfx_distill.components.spark_engine
print(sorted({"apache_beam", "pyspark", "tfx"} & sys.modules.keys()))
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"
