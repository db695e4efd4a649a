"""The ModelEvaluator on real examples, SavedModels, Beam and TFMA."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest
import tensorflow_model_analysis as tfma
from evaluated import (
    CLICK,
    FEATURES,
    ROWS,
    WATCH,
    config,
    logged,
    run,
)
from sklearn.metrics import log_loss, ndcg_score, roc_auc_score
from tensorflow_model_analysis.view import util as view

from tfx_distill.components import evaluation_result, evaluation_steps
from tfx_distill.components.evaluation_config import EvaluationConfig
from tfx_distill.components.gate_settings import GateSettings
from tfx_distill.schema.config import RunConfig


def frame(evaluation: str) -> pl.DataFrame:
    return pl.concat(pl.read_parquet(f) for f in evaluation_result.predictions(evaluation))


@pytest.fixture(scope="module")
def four(world: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> str:
    """An evaluation of all four models; its partitions are smaller than the shards."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(evaluation_steps, "PARTITION_ROWS", 250)
        return run(
            tmp_path_factory.mktemp("four"),
            world["examples"],
            config(),
            model=world["good"],
            baseline=world["poor"],
            twin=world["poor"],
            teacher=world["good"],
        )


def recomputed(part: pl.DataFrame, model: str) -> dict[str, float]:
    """Metrics of the click task by scikit-learn, GAUC and NDCG query by query."""
    label, prediction = part["label_click"].to_numpy(), part[f"{model}/click"].to_numpy()
    gauc, ndcg = [], []
    for query in part.partition_by("query_id"):
        y, p = query["label_click"].to_numpy(), query[f"{model}/click"].to_numpy()
        if y.max() > 0 and len(y) > 1:
            ndcg.append(ndcg_score([y], [p], k=3))
        if 0 < y.mean() < 1:
            gauc.append((len(y), roc_auc_score(y, p)))
    return {
        "auc": roc_auc_score(label, prediction),
        "log_loss": log_loss(label, prediction.astype(float)),
        "calibration": prediction.mean() / label.mean(),
        "ndcg": float(np.mean(ndcg)),
        "gauc": float(np.average([a for _, a in gauc], weights=[n for n, _ in gauc])),
        "example_count": len(label),
        "weighted_example_count": len(label),
        "not_finite_count": 0,
    }


@pytest.mark.parametrize("model", ["candidate", "baseline", "twin", "teacher"])
def test_metrics_equal_scikit_learn_overall_and_by_slice(four: str, model: str) -> None:
    rows = frame(four)
    slices = {"": rows} | {
        f"{name}={value}": rows.filter(pl.col(name) == value)
        for name, value in [("device", "phone"), ("device", "tv"), ("new_item", 0), ("new_item", 1)]
    }
    found = evaluation_result.sliced_metrics(four)
    # Where the device is missing, an example is in no slice of devices.
    assert found.keys() == slices.keys()
    for name, part in slices.items():
        expected = pytest.approx(recomputed(part, model), abs=1e-5)
        assert found[name][model]["click"] == expected, name
    used = rows.filter(pl.col("weight_watch") > 0)
    errors = (used[f"{model}/watch"] - used["label_watch"]).to_numpy()
    watch = evaluation_result.metrics(four)[model]["watch"]
    assert watch["mse"] == pytest.approx(np.mean(errors**2), rel=1e-5)
    assert watch["mae"] == pytest.approx(np.mean(np.abs(errors)), rel=1e-5)
    assert watch["weighted_example_count"] == len(used) < ROWS == watch["example_count"]
    assert "auc" not in watch


def test_stored_predictions_are_those_of_the_model(four: str, world: dict[str, str]) -> None:
    rows = frame(four)
    data = logged()
    assert rows["example_id"].to_list() == data["example_id"]
    assert rows["query_id"].to_list() == data["query_id"]
    assert rows["new_item"].to_list() == data["new_item"]
    assert rows["device"].to_list() == [d and d.decode() for d in data["device"]]
    quality = np.array([q or 0.0 for q in data["quality"]], dtype=np.float32)
    listed = np.array([min(len(t), 2) for t in data["topics"]])
    logit = 1.5 * quality + 0.1 * listed - 0.3 * np.array([d == b"tv" for d in data["device"]])
    np.testing.assert_allclose(rows["candidate/click"], 1 / (1 + np.exp(-logit)), rtol=1e-5)
    on_log_scale = np.log1p(np.maximum(np.exp(logit) - 0.5, 0))
    np.testing.assert_allclose(rows["candidate/watch"], on_log_scale, rtol=1e-4, atol=1e-6)
    applies = np.array(data["clicked"])
    np.testing.assert_array_equal(rows["weight_watch"], applies)
    watched = np.log1p([s or 0.0 for s in data["watch_s"]])
    np.testing.assert_allclose(rows["label_watch"], watched, rtol=1e-6)


def test_tfma_reads_the_result_and_renders_it(four: str) -> None:
    result = tfma.load_eval_result(four, model_name="candidate")
    values = dict(result.slicing_metrics)[()]
    ours = evaluation_result.metrics(four)["candidate"]
    assert values["click"][""]["auc"]["doubleValue"] == ours["click"]["auc"]
    difference = ours["click"]["auc"] - evaluation_result.metrics(four)["baseline"]["click"]["auc"]
    assert values["click"][""]["auc_diff"]["doubleValue"] == pytest.approx(difference)
    assert {tuple(name) for name, _ in result.slicing_metrics} >= {(), (("device", "tv"),)}
    shown = view.get_slicing_metrics(result.slicing_metrics, slicing_column="device")
    assert {row["slice"] for row in shown} == {"device:phone", "device:tv"}
    everyone = tfma.load_eval_results(four)
    assert len(everyone.get_results()) == 4


def test_what_was_compared_is_stored(four: str, world: dict[str, str], tmp_path: Path) -> None:
    found = evaluation_result.evaluated(four)
    both = ("click", "watch")
    assert found.models == dict.fromkeys(("candidate", "baseline", "twin", "teacher"), both)
    assert (found.in_service, found.baseline) == (True, "baseline")
    assert found.reason == "The baseline is the latest blessed model."
    first = run(tmp_path, world["examples"], config(slices=()), model=world["good"])
    found = evaluation_result.evaluated(first)
    assert (list(found.models), found.in_service, found.baseline) == (["candidate"], False, None)
    assert found.reason == "No model is in service. There is no undistilled twin either."


def test_each_model_gets_its_part_of_the_run_config() -> None:
    run_config = RunConfig.model_validate(
        {
            "name": "r",
            "seed": 5,
            "data": {
                "spans": "{SPAN}/{split}",
                "example_id": "i",
                "query_id": "q",
                "event_time": "t",
            },
            "features": FEATURES.model_dump(),
            "tasks": [CLICK.model_dump(), WATCH.model_dump()],
            "students": [{"name": "all"}, {"name": "one", "tasks": ["click"]}],
            "gate": {
                "students": [
                    {"task": "click", "metric": "auc", "min": 0.6},
                    {"task": "watch", "metric": "mse", "max": 2},
                ],
                "teacher": [
                    {"task": "click", "metric": "auc", "min": 0.7},
                    {"task": "watch", "metric": "mse", "max": 1},
                ],
                "slices": ["device"],
                "ndcg_at": 7,
                "first": "accept",
                "confidence": 0.9,
                "replicates": 1500,
                "min_slice_queries": 33,
            },
            "push": {"directory": "out"},
        }
    )
    both, one = (EvaluationConfig.of_student(run_config, s) for s in run_config.students)
    assert [t.name for t in both.tasks] == ["click", "watch"]
    assert [t.name for t in one.tasks] == ["click"]
    teacher = EvaluationConfig.of_teacher(run_config)
    assert (teacher.candidate, teacher.slices, teacher.ndcg_at) == ("teacher", ("device",), 7)
    gates = [GateSettings.of_student(run_config, s) for s in run_config.students]
    assert [t.task for t in gates[0].thresholds] == ["click", "watch"]
    assert [t.task for t in gates[1].thresholds] == ["click"]
    assert (gates[1].kinds, gates[1].candidate) == ({"click": "binary"}, "one")
    of_teacher = GateSettings.of_teacher(run_config)
    assert [t.min or t.max for t in of_teacher.thresholds] == [0.7, 1]
    # The rest is the same for all, and none of it is left at a default.
    for gate in (*gates, of_teacher):
        assert (gate.slices, gate.ndcg_at, gate.first) == (("device",), 7, "accept")
        assert (gate.confidence, gate.replicates) == (0.9, 1500)
        assert (gate.min_slice_queries, gate.seed) == (33, 5)
