"""The ModelEvaluator on real examples, SavedModels, Beam, TFMA and ML Metadata."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import tensorflow_model_analysis as tfma
from evaluated import (
    BEAM,
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
from tfx import v1 as tfx
from tfx.components.pusher.executor import Executor as Pusher
from tfx.orchestration import metadata
from tfx.types import standard_artifacts

from tfx_distill.components import evaluation_result, evaluation_steps
from tfx_distill.components.evaluation_config import EvaluationConfig
from tfx_distill.components.model_evaluator import ModelEvaluator
from tfx_distill.schema.config import RunConfig, Threshold


def frame(evaluation: str) -> pl.DataFrame:
    return pl.concat(pl.read_parquet(f) for f in evaluation_result.predictions(evaluation))


@pytest.fixture(scope="module")
def four(world: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Any]:
    """All four models, and thresholds that the candidate meets; partitions smaller than shards."""
    settings = config(
        Threshold(task="click", metric="auc", min=0.7, max_regression=0.0),
        Threshold(task="watch", metric="mse", max=10, max_regression=0.0),
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(evaluation_steps, "PARTITION_ROWS", 250)
        return run(
            tmp_path_factory.mktemp("four"),
            world["examples"],
            settings,
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
def test_metrics_equal_scikit_learn_overall_and_by_slice(four: tuple[str, Any], model: str) -> None:
    evaluation, _ = four
    rows = frame(evaluation)
    slices = {"": rows} | {
        f"{name}={value}": rows.filter(pl.col(name) == value)
        for name, value in [("device", "phone"), ("device", "tv"), ("new_item", 0), ("new_item", 1)]
    }
    found = evaluation_result.sliced_metrics(evaluation)
    # Where the device is missing, an example is in no slice of devices.
    assert found.keys() == slices.keys()
    for name, part in slices.items():
        expected = pytest.approx(recomputed(part, model), abs=1e-5)
        assert found[name][model]["click"] == expected, name
    used = rows.filter(pl.col("weight_watch") > 0)
    errors = (used[f"{model}/watch"] - used["label_watch"]).to_numpy()
    watch = evaluation_result.metrics(evaluation)[model]["watch"]
    assert watch["mse"] == pytest.approx(np.mean(errors**2), rel=1e-5)
    assert watch["mae"] == pytest.approx(np.mean(np.abs(errors)), rel=1e-5)
    assert watch["weighted_example_count"] == len(used) < ROWS == watch["example_count"]
    assert "auc" not in watch


def test_stored_predictions_are_those_of_the_model(
    four: tuple[str, Any], world: dict[str, str]
) -> None:
    rows = frame(four[0])
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


def test_tfma_reads_the_result_and_renders_it(four: tuple[str, Any]) -> None:
    evaluation, _ = four
    result = tfma.load_eval_result(evaluation, model_name="candidate")
    values = dict(result.slicing_metrics)[()]
    ours = evaluation_result.metrics(evaluation)["candidate"]
    assert values["click"][""]["auc"]["doubleValue"] == ours["click"]["auc"]
    difference = (
        ours["click"]["auc"] - evaluation_result.metrics(evaluation)["baseline"]["click"]["auc"]
    )
    assert values["click"][""]["auc_diff"]["doubleValue"] == pytest.approx(difference)
    assert {tuple(name) for name, _ in result.slicing_metrics} >= {(), (("device", "tv"),)}
    shown = view.get_slicing_metrics(result.slicing_metrics, slicing_column="device")
    assert {row["slice"] for row in shown} == {"device:phone", "device:tv"}
    everyone = tfma.load_eval_results(evaluation)
    assert len(everyone.get_results()) == 4


def test_a_blessing_as_the_stock_evaluator_writes_it(
    four: tuple[str, Any], world: dict[str, str]
) -> None:
    evaluation, blessing = four
    assert [f.name for f in Path(blessing.uri).iterdir()] == ["BLESSED"]
    assert blessing.get_int_custom_property("blessed") == 1
    assert blessing.get_string_custom_property("current_model") == world["good"]
    assert blessing.get_int_custom_property("current_model_id") == 10
    assert blessing.get_string_custom_property("baseline_model") == world["poor"]
    assert blessing.get_int_custom_property("baseline_model_id") == 11
    assert Pusher().CheckBlessing({"model_blessing": [blessing]})
    verdict = evaluation_result.verdict(evaluation)
    assert verdict.blessed
    assert verdict.baseline == "baseline"
    assert len(verdict.checks) == 4


def test_refused_against_the_twin(world: dict[str, str], tmp_path: Path) -> None:
    settings = config(Threshold(task="click", metric="auc", max_regression=0.05))
    evaluation, blessing = run(
        tmp_path, world["examples"], settings, model=world["poor"], twin=world["good"]
    )
    verdict = evaluation_result.verdict(evaluation)
    assert (verdict.blessed, verdict.baseline) == (False, "twin")
    assert "No model was blessed before. The undistilled twin" in verdict.baseline_reason
    assert "of the twin" in verdict.failures[0]
    assert [f.name for f in Path(blessing.uri).iterdir()] == ["NOT_BLESSED"]
    assert blessing.get_int_custom_property("blessed") == 0
    assert blessing.get_string_custom_property("baseline_model") == world["good"]
    assert not Pusher().CheckBlessing({"model_blessing": [blessing]})


def test_in_a_pipeline_the_next_run_is_compared_with_what_was_blessed(
    world: dict[str, str], tmp_path: Path
) -> None:
    store = tfx.orchestration.metadata.sqlite_metadata_connection_config(str(tmp_path / "db"))

    def once(model: str) -> str:
        examples = tfx.dsl.Importer(
            source_uri=world["examples"],
            artifact_type=standard_artifacts.Examples,
            properties={"split_names": '["train", "eval"]'},
        ).with_id("Examples")
        trainer, twin = (
            tfx.dsl.Importer(
                source_uri=uri, artifact_type=standard_artifacts.Model, reimport=True
            ).with_id(name)
            for name, uri in (("Student", model), ("Twin", world["poor"]))
        )
        newest = tfx.dsl.Resolver(
            strategy_class=tfx.dsl.experimental.LatestBlessedModelStrategy,
            model=tfx.dsl.Channel(type=standard_artifacts.Model, producer_component_id="Student"),
            model_blessing=tfx.dsl.Channel(
                type=standard_artifacts.ModelBlessing, producer_component_id="Evaluator"
            ),
        ).with_id("Blessed")
        evaluator = ModelEvaluator(
            examples=examples.outputs["result"],
            model=trainer.outputs["result"],
            twin=twin.outputs["result"],
            baseline=newest.outputs["model"],
            config=config(
                Threshold(task="click", metric="auc", max_regression=0.01), slices=()
            ).model_dump_json(),
        ).with_id("Evaluator")
        pipeline = tfx.dsl.Pipeline(
            pipeline_name="p",
            pipeline_root=str(tmp_path / "root"),
            components=[examples, trainer, twin, newest, evaluator],
            metadata_connection_config=store,
            beam_pipeline_args=BEAM,
        )
        tfx.orchestration.LocalDagRunner().run(pipeline)
        with metadata.Metadata(store) as mlmd:
            found = mlmd.store.get_artifacts_by_type("ModelEvaluation")
        return str(max(found, key=lambda a: a.id).uri)

    first = evaluation_result.verdict(once(world["good"]))
    assert (first.blessed, first.baseline) == (True, "twin")
    second = evaluation_result.verdict(once(world["poor"]))
    assert (second.blessed, second.baseline) == (False, "baseline")
    # The refused model is not what the next one has to beat.
    third = evaluation_result.verdict(once(world["good"]))
    assert (third.blessed, third.baseline) == (True, "baseline")
    assert third.checks[0].candidate == third.checks[0].baseline == first.checks[0].candidate


def test_each_model_gets_its_part_of_the_run_config() -> None:
    run_config = RunConfig.model_validate(
        {
            "name": "r",
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
            },
            "push": {"directory": "out"},
        }
    )
    both, one = (EvaluationConfig.of_student(run_config, s) for s in run_config.students)
    assert [t.name for t in both.tasks] == ["click", "watch"]
    assert [t.name for t in one.tasks] == ["click"]
    assert [t.task for t in one.thresholds] == ["click"]
    teacher = EvaluationConfig.of_teacher(run_config)
    assert [t.min or t.max for t in teacher.thresholds] == [0.7, 1]
    assert (teacher.candidate, teacher.slices, teacher.ndcg_at) == ("teacher", ("device",), 10)
