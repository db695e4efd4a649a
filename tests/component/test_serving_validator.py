"""The ServingValidator on real exported models, in real processes."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from small_examples import ROWS, SPAN, Prepared, execute, made
from tfx.components.pusher.executor import Executor as Pusher
from tfx.types import standard_artifacts

from tfx_distill.components import serving_measurement, serving_validator
from tfx_distill.components.serving_report import REPORT, ServingReport
from tfx_distill.components.serving_validator import ServingConfig, ServingValidator
from tfx_distill.schema.config import RunConfig
from tfx_distill.trainer import export, training_state
from tfx_distill.trainer.first_weights import first_weight
from tfx_distill.trainer.training_state import Milestone

SIZES, REQUESTS = (7, 150), 12


def config(prepared: Prepared, **limits: Any) -> ServingConfig:
    """Of a student that serves two of three tasks, and learns the third from the teacher."""
    student = {
        "name": "small",
        "model": {"hidden": 4, "tower": 3, "embedding": 2},
        "tasks": ["click", "watch"],
        "distill": {"mood": "non_serving"},
    }
    serving = {"candidates": SIZES, "requests": REQUESTS, "max_p99_ratio": 100, **limits}
    content = prepared.config.model_dump(mode="json")
    content["gate"] |= {"serving": serving}
    run = RunConfig.model_validate(content | {"students": [student]})
    return ServingConfig.of_student(run, run.students[0])


def train(prepared: Prepared, folder: Path, seed: int, scale: float = 2.0) -> str:
    """A Model artifact as the trainer leaves it, with weights that say something."""
    job, graph = config(prepared).job, prepared.transform_graph.uri
    training = job.begin()
    for variable in training.ranker.trainable_variables:
        variable.assign(scale * first_weight(variable.name, variable.shape, seed))
    state = training_state.FOLDER
    training_state.save(folder / state, training.state(), Milestone(SPAN, graph))
    export.save(training.ranker, folder / "Format-Serving", job.features, job.served, graph)
    return str(folder)


@pytest.fixture(scope="module")
def models(prepared: Prepared, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    root = tmp_path_factory.mktemp("trained")
    return {
        "candidate": train(prepared, root / "candidate", 1),
        "baseline": train(prepared, root / "baseline", 2),
        "nan": train(prepared, root / "nan", 3, scale=np.nan),
    }


def copy(model: str, folder: Path) -> Path:
    """A model to be tampered with."""
    shutil.copytree(model, folder)
    return folder


class Validated:
    """One validation: its report, and what TFX's Pusher makes of it."""

    def __init__(
        self,
        prepared: Prepared,
        folder: Path,
        model: str | Path,
        baseline: str | Path | None = None,
        *,
        blessed: bool = True,
        **limits: Any,
    ) -> None:
        gate = made(standard_artifacts.ModelBlessing, folder / "gate", 5)
        gate.set_int_custom_property("blessed", int(blessed))
        infra = made(standard_artifacts.InfraBlessing, folder / "infra", 6)
        examples = made(standard_artifacts.Examples, prepared.examples.uri, 4)
        examples.split_names = '["train", "eval"]'
        inputs = {
            "model": made(standard_artifacts.Model, model, 7),
            "model_blessing": gate,
            "examples": examples,
        }
        if baseline is not None:
            inputs["baseline"] = made(standard_artifacts.Model, baseline, 8)
        execute(
            ServingValidator,
            folder,
            inputs,
            {"infra_blessing": infra},
            config=config(prepared, **limits).model_dump_json(),
        )
        self.report = ServingReport.model_validate_json(Path(infra.uri, REPORT).read_text())
        self.files = {file.name for file in Path(infra.uri).iterdir()}
        self.pushed = Pusher().CheckBlessing({"model_blessing": [gate], "infra_blessing": [infra]})

    @property
    def failing(self) -> set[str]:
        return {check.rule for check in self.report.checks if not check.passed}


@pytest.fixture(scope="module")
def pair(
    prepared: Prepared, models: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Validated:
    folder = tmp_path_factory.mktemp("pair")
    return Validated(prepared, folder, models["candidate"], models["baseline"])


def test_a_model_that_answers_as_trained_is_pushed(pair: Validated) -> None:
    assert pair.report.failures == ()
    assert pair.report.blessed
    assert pair.pushed
    assert pair.files == {REPORT, "INFRA_BLESSED"}
    measured = pair.report.measured
    assert measured is not None
    assert measured.examples == ROWS["eval"]
    assert measured.tensorflow == tf.__version__
    for by_task in measured.differences.values():
        assert by_task.keys() == {"click", "watch"}
        assert all(value is not None and value < 1e-5 for value in by_task.values())
    assert measured.differences.keys() == {"serving_raw", "serving_default"}


def test_both_models_are_measured_at_every_size(pair: Validated, models: dict[str, str]) -> None:
    measured = pair.report.measured
    assert measured is not None
    assert {(one.model, one.candidates, one.requests) for one in measured.latencies} == {
        (model, size, REQUESTS) for model in ("candidate", "baseline") for size in SIZES
    }
    assert all(0 < one.p50_ms <= one.p99_ms for one in measured.latencies)
    for name, mib in measured.size_mib.items():
        files = Path(models[name], "Format-Serving").rglob("*")
        assert mib * 2**20 == sum(len(f.read_bytes()) for f in files if f.is_file())


def test_what_the_gate_refused_is_not_measured(
    prepared: Prepared, models: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(serving_validator, "measure")
    refused = Validated(prepared, tmp_path, models["candidate"], blessed=False)
    assert refused.failing == {"gate"}
    assert refused.report.measured is None
    assert not refused.pushed
    assert refused.files == {REPORT, "INFRA_NOT_BLESSED"}


def test_a_slow_model_is_refused_after_it_was_slow_again_and_again(
    prepared: Prepared, models: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The processes run in folders of their own, and a pipeline root may be relative.
    monkeypatch.chdir(Path(models["candidate"]).parent)
    slow = Validated(prepared, tmp_path, "candidate", max_p99_ms={SIZES[1]: 1e-6})
    assert slow.failing == {"max_p99_ms"}
    assert not slow.pushed
    assert slow.report.measured is not None
    assert slow.report.measured.rounds == serving_measurement.ROUNDS
    assert "No model is in service" in slow.report.measured.baseline_reason


def test_an_export_that_is_not_what_was_trained_is_refused(
    prepared: Prepared, models: dict[str, str], tmp_path: Path
) -> None:
    model = copy(models["candidate"], tmp_path / "model")
    words = (model / "Format-Serving/assets/device").read_text().splitlines()
    assert len(words) == 2
    (model / "Format-Serving/assets/device").write_text("\n".join(reversed(words)) + "\n")
    skewed = Validated(prepared, tmp_path, model)
    assert skewed.failing == {"max_difference"}
    # Both signatures and both tasks read the device.
    assert len(skewed.report.failures) == 4
    assert not skewed.pushed


def test_weights_of_another_training_are_refused(
    prepared: Prepared, models: dict[str, str], tmp_path: Path
) -> None:
    model = copy(models["candidate"], tmp_path / "model")
    shutil.rmtree(model / "Training")
    shutil.copytree(Path(models["baseline"], "Training"), model / "Training")
    assert Validated(prepared, tmp_path, model).failing == {"max_difference"}


def test_answers_that_are_not_finite_are_refused(
    prepared: Prepared, models: dict[str, str], tmp_path: Path
) -> None:
    broken = Validated(prepared, tmp_path, models["nan"])
    assert broken.failing == {"max_difference"}
    assert "not finite" in broken.report.failures[0]


def test_a_model_that_does_not_load_is_refused_with_its_last_words(
    prepared: Prepared, models: dict[str, str], tmp_path: Path
) -> None:
    model = copy(models["candidate"], tmp_path / "model")
    (model / "Format-Serving/variables/variables.index").unlink()
    broken = Validated(prepared, tmp_path, model)
    assert broken.failing == {"serves"}
    assert "while loading the model" in broken.report.failures[0]
    assert "variables" in broken.report.failures[0]
    assert not broken.pushed


def test_a_broken_model_in_service_can_be_replaced(
    prepared: Prepared, models: dict[str, str], tmp_path: Path
) -> None:
    baseline = copy(models["baseline"], tmp_path / "baseline")
    (baseline / "Format-Serving/variables/variables.index").unlink()
    alone = Validated(prepared, tmp_path, models["candidate"], baseline)
    assert alone.report.blessed
    assert alone.report.measured is not None
    assert {latency.model for latency in alone.report.measured.latencies} == {"candidate"}
    (told,) = (check for check in alone.report.checks if check.rule == "baseline")
    assert told.sentence.startswith("The model in service cannot be served")
    assert "max_size_ratio" in {check.rule for check in alone.report.checks}
    assert "max_p99_ratio" not in {check.rule for check in alone.report.checks}
