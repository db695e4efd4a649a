"""The whole pipeline on simulated logs, tiny: what it leaves behind and what that is worth."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow.parquet as pq
import pytest
import tensorflow as tf
from scipy.special import expit
from sklearn.metrics import log_loss, ndcg_score, roc_auc_score

from tfx_distill.components.code_version import code_version
from tfx_distill.labels.snapshot import Snapshot
from tfx_distill.pipeline import lineage, session

HERE = Path(__file__).parent
MISSING_INT = np.iinfo(np.int64).min


def eval_logs(run):
    """The eval split as the log has it."""
    folder = Path(run.config.data.spans).parents[1] / "span-1"
    return pl.from_arrow(pq.read_table(next(folder.glob("eval-*.parquet"))))


def pushed(run, name):
    student = next(s for s in run.summary.students if s.name == name)
    assert student.pushed, student.verdict.failures
    return Path(student.pushed)


def raw_features(config, logs):
    """What a server would send: no column that the model fills in by itself."""
    out = {}
    for feature in config.features.numeric:
        if feature.serving_value is None:
            out[feature.name] = logs[feature.name].cast(pl.Float32).fill_null(np.nan).to_numpy()
    for feature in config.features.categorical:
        column = logs[feature.name]
        if column.dtype == pl.String:
            out[feature.name] = np.array(column.fill_null("").to_list(), object)
        else:
            out[feature.name] = column.cast(pl.Int64).fill_null(MISSING_INT).to_numpy()
    for feature in config.features.multivalent:
        lists = [(values or [])[: feature.max_length] for values in logs[feature.name].to_list()]
        width = max(1, *map(len, lists))
        out[feature.name] = np.array([v + [""] * (width - len(v)) for v in lists], object)
    return out


def serialised(config, raw):
    """The same as tf.Examples; what is missing is left out."""
    rows = len(next(iter(raw.values())))
    out = []
    for row in range(rows):
        example = tf.train.Example()
        for name, values in raw.items():
            value = values[row]
            feature = example.features.feature[name]
            if values.ndim == 2:
                feature.bytes_list.value.extend(v.encode() for v in value if v)
            elif isinstance(value, str):
                feature.bytes_list.value.extend([value.encode()] if value else [])
            elif np.issubdtype(values.dtype, np.integer):
                feature.int64_list.value.extend([value] if value != MISSING_INT else [])
            else:
                feature.float_list.value.extend([] if np.isnan(value) else [value])
        out.append(example.SerializeToString())
    return out


def tensorflow_alone(folder):
    """The installed packages without this project, TFX and all that came with it."""
    unwanted = (
        "tfx",
        "tensorflow_transform",
        "tf_keras",
        "keras",
        "apache_beam",
        "pyarrow",
        "__ed",
    )
    folder.mkdir()
    for entry in Path(sysconfig.get_path("purelib")).iterdir():
        if not entry.name.startswith((*unwanted, "__editable__")):
            (folder / entry.name).symlink_to(entry)
    return folder


@pytest.fixture(scope="module")
def served(tiny_run, tmp_path_factory):
    """Answers of the pushed models, in a process that has TensorFlow alone."""
    folder = tmp_path_factory.mktemp("served")
    raw = raw_features(tiny_run.config, eval_logs(tiny_run))
    examples = np.array(serialised(tiny_run.config, raw), object)
    np.savez(folder / "in.npz", examples=examples, **{f"raw/{k}": v for k, v in raw.items()})
    answers = {}
    packages = tensorflow_alone(folder / "packages")
    for name in ("compact", "tiny"):
        out = folder / f"{name}.npz"
        subprocess.run(
            [
                sys.executable,
                "-S",
                str(HERE / "serve_alone.py"),
                str(packages),
                str(pushed(tiny_run, name)),
                str(folder / "in.npz"),
                str(out),
            ],
            check=True,
            env={k: v for k, v in os.environ.items() if k != "PYTHONPATH"},
            cwd=folder,
        )
        answers[name] = dict(np.load(out))
    return answers


@pytest.mark.smoke
def test_every_component_ran(tiny_run):
    assert {step.state for step in tiny_run.summary.steps} == {"ran"}
    assert len(tiny_run.summary.steps) == 10 + 7 * 2


def test_both_signatures_answer_alike_with_tensorflow_alone(served, tiny_run):
    rows = len(eval_logs(tiny_run))
    for answers in served.values():
        for task in answers["tasks"]:
            assert answers[f"raw/{task}"].shape == (rows,)
            np.testing.assert_allclose(
                answers[f"raw/{task}"], answers[f"default/{task}"], rtol=1e-5, atol=1e-6
            )


def test_the_pushed_model_has_serving_heads_only(served):
    assert served["compact"]["tasks"].tolist() == ["click", "ltv", "satisfaction", "watch_time"]
    assert served["tiny"]["tasks"].tolist() == ["click", "watch_time"]
    for answers in served.values():
        names = answers["variables"].tolist()
        assert any("/serving/" in name for name in names)
        assert not any("/distillation/" in name for name in names)
    assert not any("satisfaction" in name for name in served["tiny"]["variables"])


@pytest.mark.smoke
def test_metrics_recomputed_by_scikit_learn(served, tiny_run):
    logs = eval_logs(tiny_run)
    student = next(s for s in tiny_run.summary.students if s.name == "compact")
    answers = served["compact"]
    for task, label in (("click", "clicked"), ("satisfaction", "satisfied")):
        rows = np.ones(len(logs), bool) if task == "click" else logs["clicked"].to_numpy() == 1
        truth = logs[label].fill_null(0).to_numpy()[rows]
        score = answers[f"raw/{task}"][rows]
        metrics = student.metrics["candidate"][task]
        assert metrics["auc"] == pytest.approx(roc_auc_score(truth, score), abs=1e-4)
        assert metrics["log_loss"] == pytest.approx(log_loss(truth, score), abs=1e-4)
    gains = logs.with_columns(pl.Series("score", answers["raw/click"]))
    values = [
        ndcg_score([list_["clicked"].to_list()], [list_["score"].to_list()], k=10)
        for _, list_ in gains.group_by("request_id")
        if list_["clicked"].sum() > 0 and len(list_) > 1
    ]
    assert student.metrics["candidate"]["click"]["ndcg"] == pytest.approx(np.mean(values), abs=1e-3)
    clicked = logs["clicked"].to_numpy() == 1
    seconds = logs["watch_s"].fill_null(0).to_numpy()[clicked]
    error = np.log1p(seconds) - np.log1p(np.maximum(answers["raw/watch_time"][clicked], 0))
    assert student.metrics["candidate"]["watch_time"]["mse"] == pytest.approx(
        np.mean(error**2), rel=1e-3
    )


def test_every_example_is_labelled_once_and_others_can_read_it(tiny_run):
    labels = tiny_run.summary.labels
    snapshot = Snapshot(labels.table, labels.version, labels.teacher, labels.span)
    table = pl.read_delta(snapshot.table, version=snapshot.version)
    assert len(table) == sum(tiny_run.summary.examples.values())
    assert table["example_id"].n_unique() == len(table)
    assert table["logit_click"].is_finite().all()
    logs = eval_logs(tiny_run)
    eval_ids = table.filter(pl.col("split") == "eval")["example_id"]
    assert set(eval_ids) == set(logs["impression_id"])
    # Logits, not probabilities: they are negative for a rare event.
    assert table["logit_click"].mean() < 0
    assert abs(expit(table["logit_click"].to_numpy()).mean() - logs["clicked"].mean()) < 0.1
    for student in tiny_run.summary.students:
        assert student.coverage == 1.0


def test_the_summary_is_written(tiny_run):
    content = json.loads((tiny_run.config.run_folder / "summary.json").read_text())
    assert content["run_id"] == tiny_run.summary.run_id
    student = content["students"][0]
    assert set(student["metrics"]) == {"candidate", "twin", "teacher"}
    assert student["verdict"]["baseline"] == "twin"


def test_a_second_run_comes_from_the_cache(tiny_run):
    summary, error = session.run(tiny_run.config)
    assert error is None
    assert {s.state for s in summary.steps if "Resolver" not in s.component} == {"cached"}
    assert summary.seconds < 20
    assert [s.metrics for s in summary.students] == [s.metrics for s in tiny_run.summary.students]
    assert [s.pushed for s in summary.students] == [s.pushed for s in tiny_run.summary.students]


def test_a_stricter_gate_refuses_without_training_anew(copied, tiny_run):
    gate = tiny_run.config.gate.model_dump(mode="json")
    gate["students"].append({"task": "click", "metric": "auc", "min": 0.999})
    copied.change(gate=gate)
    summary, error = session.run(copied.config())
    assert error is None
    states = {step.component: step.state for step in summary.steps}
    assert states["StudentTrainer.compact"] == states["TeacherLabeler"] == "cached"
    assert states["StudentEvaluator.compact"] == "cached"
    assert states["StudentGate.compact"] == "ran"
    for student in summary.students:
        assert student.pushed is None
        assert not student.verdict.blessed
        assert "0.999" in " ".join(student.verdict.failures)


def test_a_refused_teacher_labels_nothing(copied, tiny_run):
    gate = tiny_run.config.gate.model_dump(mode="json")
    gate["teacher"].append({"task": "click", "metric": "auc", "min": 0.999})
    copied.change(gate=gate)
    summary, error = session.run(copied.config())
    assert "did not bless" in str(error)
    states = {step.component: step.state for step in summary.steps}
    assert states["TeacherLabeler"] == "failed"
    assert states["StudentTrainer.compact"] == "skipped"
    # What needs no teacher labels goes on.
    assert states["TwinTrainer.compact"] == "cached"
    assert summary.failed == str(error)


def test_a_retrained_student_has_to_beat_the_one_in_service(copied, tiny_run):
    copied.change(seed=1)
    summary, error = session.run(copied.config())
    assert error is None
    for student, before in zip(summary.students, tiny_run.summary.students, strict=True):
        assert student.verdict.baseline == "baseline"
        # The one in service is the one that the first run pushed.
        assert student.metrics["baseline"] == before.metrics["candidate"]
        assert student.metrics["candidate"] != before.metrics["candidate"]


def test_a_model_says_which_code_trained_it(tiny_run):
    store = lineage.sqlite(str(tiny_run.config.run_folder / "metadata.sqlite"))
    made = lineage.produced(store, tiny_run.config.name, "StudentTrainer.compact", "Model")
    assert {model.properties["code"] for model in made} == {code_version()}
    assert tiny_run.summary.code == code_version()
