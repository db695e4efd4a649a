"""StudentTrainer alone, on a real feature table and a real label table."""

from __future__ import annotations

import json
import subprocess
import threading
import time
from datetime import datetime, timezone
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from small_examples import ROWS, SPAN, Prepared, execute, made
from tfx.types import channel_utils, standard_artifacts

from tfx_distill.components.artifacts import TeacherLabels, publish
from tfx_distill.components.student_trainer import StudentTrainer
from tfx_distill.labels.commit import commit
from tfx_distill.labels.partition import Partition
from tfx_distill.labels.provenance import Provenance
from tfx_distill.labels.shard import LabelShardWriter
from tfx_distill.schema.config import RunConfig
from tfx_distill.schema.errors import LabelError
from tfx_distill.trainer import feature_table, local_workers, training_state
from tfx_distill.trainer.run import RECORD, WORKERS, TrainingJob

UNLABELLED = 30  # of the train split, whose 300 examples lie in three shards
COVERAGE = 1 - UNLABELLED / ROWS["train"]


def write_labels(features: Any, folder: Path) -> Any:
    """Labels that rise with the age, for all examples but the first 30 of the train split."""
    shards = []
    kinds = {"click": "binary", "watch": "regression", "mood": "regression"}
    for file in feature_table.shards(features.uri, "train"):
        rows = feature_table.read(file, ["example_id", "numeric"])
        kept = rows["example_id"] >= 1000 + UNLABELLED
        ids, age = rows["example_id"][kept], rows["numeric"][kept, 0]
        with LabelShardWriter(
            folder / "table",
            Partition("old", SPAN, "train"),
            file.stem,
            kinds,
            datetime.now(timezone.utc),
        ) as writer:
            writer.write(ids, dict.fromkeys(kinds, 3 * age), np.zeros(len(ids), np.float32))
        shards.append(writer.shard)
    snapshot = commit(folder / "table", shards, Provenance("1", "a", "b", "c", "d", None))
    artifact = made(TeacherLabels, folder)
    publish(artifact, [snapshot])
    return artifact


@pytest.fixture(scope="module")
def labels(features: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    return write_labels(features, tmp_path_factory.mktemp("labels"))


def small(prepared: Prepared, **changes: Any) -> RunConfig:
    student = {
        "name": "small",
        "model": {"hidden": 4, "tower": 3, "embedding": 2},
        "training": {
            "epochs": 4,
            "batch_size": 32,
            "learning_rate": 0.02,
            "early_stopping_patience": None,
        },
        "tasks": ["click", "watch"],
        "distill": {"click": "auxiliary", "watch": "direct", "mood": "non_serving"},
    }
    content = prepared.config.model_dump(mode="json")
    return RunConfig.model_validate(content | {"students": [student]} | changes)


class Trained:
    """One training: its outputs, and what can be read from them."""

    def __init__(self, prepared: Prepared, features: Any, config: RunConfig, labels: Any) -> None:
        self._inputs = {"examples": features, "transform_graph": prepared.transform_graph}
        if labels is not None:
            self._inputs["teacher_labels"] = labels
        job = TrainingJob.of_student(config, config.students[0], twin=labels is None)
        channels = {k: channel_utils.as_channel([v]) for k, v in self._inputs.items()}
        self._parameters = StudentTrainer(**channels, job=job).spec.exec_properties

    def __call__(self, folder: Path) -> Trained:
        self.model = folder / "model"
        self.run = folder / "model_run"
        self.workers = folder / f"model_run-{WORKERS}"
        outputs = {
            "model": made(standard_artifacts.Model, self.model),
            "model_run": made(standard_artifacts.ModelRun, self.run),
        }
        execute(StudentTrainer, folder, self._inputs, outputs, **self._parameters)
        return self

    @cached_property
    def record(self) -> dict[str, Any]:
        return json.loads((self.run / RECORD).read_text())

    @cached_property
    def loaded(self) -> Any:
        return tf.saved_model.load(str(self.model / "Format-Serving"))

    @cached_property
    def weights(self) -> dict[str, np.ndarray]:
        return {weight.name: weight.numpy() for weight in self.loaded.weights}


@pytest.fixture(scope="module")
def train(prepared: Prepared, features: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    def trained(teacher_labels: Any, **changes: Any) -> Trained:
        training = Trained(prepared, features, small(prepared, **changes), teacher_labels)
        return training(tmp_path_factory.mktemp("training"))

    return trained


ENOUGH = {"min_coverage": 0.85}


@pytest.fixture(scope="module")
def student(train: Any, labels: Any) -> Trained:
    return train(labels, labels=ENOUGH)


@pytest.fixture(scope="module")
def twin(train: Any) -> Trained:
    return train(None)


def test_a_student_learns_from_hard_labels_and_from_the_teacher(student: Trained) -> None:
    record = student.record
    assert record["coverage"] == pytest.approx(COVERAGE)
    assert record["epochs"] == 4
    soft = {"distill_click", "distill_watch", "distill_mood"}
    assert soft | {"click", "watch", "loss"} <= set(record["losses"])
    # Its hard label is not learnt, and the eval split knows no teacher.
    assert not {"mood", "val_mood", "val_distill_click"} & set(record["losses"])
    for name in soft:
        first, *_, last = record["losses"][name]
        assert last < first, name


def test_a_twin_knows_nothing_of_the_teacher(twin: Trained, student: Trained) -> None:
    record = twin.record
    assert record["coverage"] is None
    assert not [name for name in record["losses"] if name.startswith("distill")]
    # The same serving model, told other things.
    assert record["parameters"] == student.record["parameters"]
    assert twin.weights.keys() == student.weights.keys()
    assert any(
        not np.array_equal(value, twin.weights[name]) for name, value in student.weights.items()
    )


def test_the_model_serves_its_tasks_and_nothing_of_the_distillation(
    student: Trained, prepared: Prepared
) -> None:
    model = student.loaded
    names = set(student.weights)
    assert any("/serving/" in name for name in names)
    assert not [name for name in names if "distillation" in name or "mood" in name]
    assert sum(value.size for value in student.weights.values()) == student.record["parameters"]
    for signature in ("serving_default", "serving_raw", "logits"):
        assert set(model.signatures[signature].structured_outputs) == {"click", "watch"}
    _, inputs = model.signatures["serving_raw"].structured_input_signature
    # The place has a serving value: no server needs to send it.
    assert set(inputs) == set(prepared.config.features.names) - {"place"}


def scalars(folder: Path) -> dict[str, list[float]]:
    """What TensorBoard would draw."""
    found: dict[str, list[float]] = {}
    for file in folder.glob("events.out.tfevents.*"):
        for event in tf.compat.v1.train.summary_iterator(str(file)):
            for value in event.summary.value:
                if value.tag.startswith("epoch_"):
                    number = float(tf.make_ndarray(value.tensor))
                    found.setdefault(value.tag.removeprefix("epoch_"), []).append(number)
    return found


def test_tensorboard_gets_the_losses_of_every_epoch(student: Trained) -> None:
    losses = student.record["losses"]
    for folder, prefix in (("train", ""), ("validation", "val_")):
        drawn = scalars(student.run / folder)
        for name in ("loss", "click", "watch"):
            assert drawn[name] == pytest.approx(losses[prefix + name], rel=1e-6)


def without_times(record: dict[str, Any]) -> dict[str, Any]:
    chunks = [{**chunk, "seconds": None} for chunk in record["chunks"]]
    return {**record, "chunks": chunks}


def test_one_seed_one_model(train: Any, labels: Any, student: Trained) -> None:
    again, other = train(labels, labels=ENOUGH), train(labels, labels=ENOUGH, seed=1)
    for name, value in student.weights.items():
        np.testing.assert_array_equal(again.weights[name], value, err_msg=name)
    assert without_times(again.record) == without_times(student.record)
    assert other.weights.keys() == student.weights.keys()
    for name, value in student.weights.items():
        if "bias" not in name:
            assert not np.array_equal(other.weights[name], value), name


def test_too_few_labels_stop_a_student_before_it_is_trained(
    prepared: Prepared, features: Any, labels: Any, tmp_path: Path
) -> None:
    config = small(prepared, labels={"min_coverage": 0.95})
    with pytest.raises(LabelError) as caught:
        Trained(prepared, features, config, labels)(tmp_path)
    error = caught.value
    assert str(Path(labels.uri) / "table") in error.where
    assert "labels for 270 of 300 examples (90.00%)" in error.got
    assert error.expected == "labels for at least 95.00%"
    assert "labels.min_coverage" in error.fix
    assert not list(tmp_path.rglob("*.pb"))
    assert not list(tmp_path.rglob("events.*"))


# Several workers


def require_same(together: Trained, alone: Trained) -> None:
    """Up to the order of summation: sums of float32 differ in their last digits."""
    record, expected = together.record, alone.record
    assert record["losses"].keys() == expected["losses"].keys()
    for name, values in expected["losses"].items():
        assert record["losses"][name] == pytest.approx(values, rel=1e-4), name
    for key in ("epochs", "parameters", "coverage", "base_span"):
        assert record[key] == expected[key], key
    assert together.weights.keys() == alone.weights.keys()
    for name, value in alone.weights.items():
        np.testing.assert_allclose(together.weights[name], value, atol=1e-3, err_msg=name)
    (state, milestone), (other, reached) = (
        training_state.read(one.model / training_state.FOLDER) for one in (together, alone)
    )
    assert milestone == reached
    assert state.optimizer.keys() == other.optimizer.keys()
    for name, value in other.weights.items():
        np.testing.assert_allclose(state.weights[name], value, atol=1e-3, err_msg=name)
    # Neither checkpoints nor the result that was handed over: the artifact has it.
    assert sorted(file.name for file in together.workers.iterdir()) == [
        *("course.json", "worker-0.log", "worker-1.log")
    ]


def test_two_workers_leave_what_one_leaves(train: Any, labels: Any, student: Trained) -> None:
    together = train(labels, labels=ENOUGH, trainer={"workers": 2})
    require_same(together, student)
    drawn = scalars(together.run / "train")
    expected = pytest.approx(together.record["losses"]["loss"], rel=1e-6)
    assert drawn["loss"] == expected, "of one worker, once"
    assert not student.workers.exists()


def test_a_worker_that_is_killed_changes_nothing(
    prepared: Prepared,
    features: Any,
    labels: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def longer(**changes: Any) -> RunConfig:
        content = small(prepared, labels=ENOUGH, **changes).model_dump(mode="json")
        # Slow, so that sums in another order do not grow into other models over so many steps.
        content["students"][0]["training"] |= {"epochs": 25, "learning_rate": 0.002}
        return RunConfig.model_validate(content)

    started: list[Any] = []
    real = subprocess.Popen

    def popen(*arguments: Any, **options: Any) -> Any:
        started.append(real(*arguments, **options))
        return started[-1]

    def kill() -> None:
        while not list(tmp_path.glob(f"together/model_run-{WORKERS}/checkpoint-00000[3-9]")):
            time.sleep(0.01)
        started[1].kill()

    alone = Trained(prepared, features, longer(), labels)(tmp_path / "alone")
    monkeypatch.setattr(local_workers.subprocess, "Popen", popen)
    killer = threading.Thread(target=kill, daemon=True)
    killer.start()
    config = longer(trainer={"workers": 2})
    together = Trained(prepared, features, config, labels)(tmp_path / "together")
    killer.join(1)
    assert [process.returncode for process in started][1:] == [-9, 0, 0], "both once more"
    require_same(together, alone)
    told = (together.workers / "worker-0.log").read_text()
    assert told.count("epoch 1/25") == 1, "the second attempt begins later"
