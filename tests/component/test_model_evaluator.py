"""The ModelEvaluator on real examples, SavedModels, Beam, TFMA and ML Metadata."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tensorflow as tf
import tensorflow_model_analysis as tfma
from sklearn.metrics import log_loss, ndcg_score, roc_auc_score
from tensorflow_model_analysis.view import util as view
from tfx import v1 as tfx
from tfx.components.pusher.executor import Executor as Pusher
from tfx.orchestration import metadata
from tfx.types import standard_artifacts

from tfx_distill.components import evaluation_result, evaluation_steps
from tfx_distill.components.comparison import comparison
from tfx_distill.components.evaluation_config import EvaluationConfig
from tfx_distill.components.model_evaluator import ModelEvaluator
from tfx_distill.schema.config import FeaturesConfig, RunConfig, TaskConfig, Threshold
from tfx_distill.schema.errors import DataError, ModelError
from tfx_distill.trainer import predict

BEAM = ["--runner=FnApiRunner", "--sdk_container_image=unused"]
ROWS, SHARDS = 900, 3

CLICK = TaskConfig(name="click", kind="binary", label="clicked")
WATCH = TaskConfig(
    name="watch", kind="regression", label="watch_s", transform="log1p", applies_when="clicked"
)
FEATURES = FeaturesConfig.model_validate(
    {
        "numeric": ["quality", {"name": "place", "serving_value": 0.0}],
        "categorical": [{"name": "device", "vocab": 4}],
        "multivalent": [{"name": "topics", "vocab": 8, "max_length": 2}],
    }
)


def config(*thresholds: Threshold, **changes: Any) -> EvaluationConfig:
    return EvaluationConfig(
        **{
            "candidate": "compact",
            "features": FEATURES,
            "tasks": (CLICK, WATCH),
            "thresholds": thresholds,
            "slices": ("device", "new_item"),
            "ndcg_at": 3,
            **changes,
        }
    )


class Ranker(tf.Module):
    """Scores by quality and device; takes what an exported ranker takes."""

    def __init__(self, slope: float) -> None:
        super().__init__()
        self.slope = tf.Variable(slope)

    @tf.function(
        input_signature=[
            tf.TensorSpec([None], tf.float32, name="quality"),
            tf.TensorSpec([None], tf.string, name="device"),
            tf.TensorSpec([None, None], tf.int64, name="topics"),
        ]
    )
    def serve(self, quality: tf.Tensor, device: tf.Tensor, topics: tf.Tensor) -> Any:
        known = tf.where(tf.math.is_nan(quality), 0.0, quality)
        listed = tf.reduce_sum(tf.cast(topics >= 0, tf.float32), axis=1)
        logit = self.slope * known + 0.1 * listed - 0.3 * tf.cast(device == "tv", tf.float32)
        return {"click": tf.sigmoid(logit), "watch": tf.exp(logit) - 0.5}


def save(folder: Path, slope: float) -> str:
    model = Ranker(slope)
    tf.saved_model.save(
        model,
        str(folder / "Format-Serving"),
        signatures={"serving_raw": model.serve.get_concrete_function()},
    )
    return str(folder)


def logged() -> dict[str, list[Any]]:
    rng = np.random.default_rng(5)
    quality = rng.normal(size=ROWS)
    clicked = rng.random(ROWS) < 1 / (1 + np.exp(-1.5 * quality))
    watch = np.exp(rng.normal(size=ROWS) + quality)
    query = rng.permutation(np.arange(ROWS) // 9)  # over all shards, in no order
    return {
        "example_id": list(range(1000, 1000 + ROWS)),
        "query_id": (query * 10**15 - 10**16).tolist(),
        "event_time": list(range(ROWS)),
        "quality": [None if i % 50 == 0 else q for i, q in enumerate(quality.tolist())],
        "place": [1.0] * ROWS,
        "device": [None if q % 10 == 0 else [b"phone", b"tv"][q % 2] for q in query],
        "topics": [[int(i % 8)] * (i % 4) for i in range(ROWS)],
        "clicked": clicked.astype(float).tolist(),
        "watch_s": [s if c else None for s, c in zip(watch.tolist(), clicked, strict=True)],
        "new_item": (np.arange(ROWS) % 3 == 0).astype(int).tolist(),
    }


def ingest(folder: Path, data: Mapping[str, list[Any]]) -> str:
    """Writes examples as the ExampleGen does: every column a list."""
    types = {"device": pa.large_binary(), "quality": pa.float32(), "place": pa.float32()}
    types |= {"clicked": pa.float32(), "watch_s": pa.float32()}
    table = pa.table(
        {
            name: pa.array(
                [v if v is None or isinstance(v, list) else [v] for v in values],
                pa.large_list(types.get(name, pa.int64())),
            )
            for name, values in data.items()
        }
    )
    (folder / "Split-eval").mkdir(parents=True)
    for i in range(SHARDS):
        part = table.slice(i * ROWS // SHARDS, ROWS // SHARDS)
        pq.write_table(part, folder / "Split-eval" / f"part-{i:05d}.parquet")
    return str(folder)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Locations of the examples and of three models."""
    root = tmp_path_factory.mktemp("world")
    return {
        "examples": ingest(root / "examples", logged()),
        "good": save(root / "good", 1.5),
        "poor": save(root / "poor", -0.2),
        "broken": save(root / "broken", math.nan),
    }


def artifact(kind: Any, uri: str | Path, number: int = 1) -> Any:
    made = kind()
    made.uri, made.id = str(uri), number
    if kind is standard_artifacts.Examples:
        made.split_names = '["train", "eval"]'
    return made


def run(root: Path, examples: str, settings: EvaluationConfig, **models: str) -> tuple[str, Any]:
    """Runs the executor; returns the evaluation's folder and the blessing."""
    executor = ModelEvaluator.EXECUTOR_SPEC.executor_class
    context = executor.Context(beam_pipeline_args=BEAM, tmp_dir=str(root), unique_id="1")
    evaluation = artifact(standard_artifacts.ModelEvaluation, root / "evaluation")
    blessing = artifact(standard_artifacts.ModelBlessing, root / "blessing")
    inputs = {"examples": [artifact(standard_artifacts.Examples, examples)], "baseline": []}
    inputs |= {
        name: [artifact(standard_artifacts.Model, uri, 10 + i)]
        for i, (name, uri) in enumerate(models.items())
    }
    executor(context).Do(
        inputs,
        {"evaluation": [evaluation], "blessing": [blessing]},
        {"config": settings.model_dump_json()},
    )
    return evaluation.uri, blessing


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


def test_a_lone_candidate_that_predicts_nan_is_refused_in_words(
    world: dict[str, str], tmp_path: Path
) -> None:
    settings = config(
        Threshold(task="click", metric="log_loss", max=1e9),
        Threshold(task="click", metric="ndcg", max_regression=1e9),
        slices=(),
    )
    evaluation, blessing = run(tmp_path, world["examples"], settings, model=world["broken"])
    verdict = evaluation_result.verdict(evaluation)
    assert verdict.baseline is None
    assert "900 predictions are NaN or infinite" in verdict.failures[0]
    assert "There is no undistilled twin either." in verdict.failures[1]
    assert blessing.get_int_custom_property("blessed") == 0
    assert not blessing.has_custom_property("baseline_model")
    assert math.isnan(evaluation_result.metrics(evaluation)["candidate"]["click"]["auc"])
    assert json.loads((Path(evaluation) / "metrics.json").read_text())[""]["candidate"]
    # TFMA knows the only model by its name as well.
    assert tfma.load_eval_result(evaluation, model_name="candidate").slicing_metrics


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


def test_a_corrupt_shard_is_named(world: dict[str, str], tmp_path: Path) -> None:
    examples = ingest(tmp_path / "examples", logged())
    bad = Path(examples) / "Split-eval" / "part-00001.parquet"
    content = bytearray(bad.read_bytes())
    content[4:2000] = b"\0" * 1996  # the footer stays whole: found only when rows are read
    bad.write_bytes(content)
    with pytest.raises(DataError, match=r"part-00001\.parquet") as caught:
        run(tmp_path, examples, config(), model=world["good"])
    assert caught.value.expected == "a Parquet file of examples"


def test_an_empty_split_is_an_error(world: dict[str, str], tmp_path: Path) -> None:
    data = logged()
    nothing = ingest(tmp_path / "examples", {name: [] for name in data})
    with pytest.raises(DataError, match="no example"):
        run(tmp_path, nothing, config(), model=world["good"])


def test_a_missing_column_is_named(tmp_path: Path) -> None:
    examples = ingest(tmp_path, {k: v for k, v in logged().items() if k != "device"})
    file = Path(examples) / "Split-eval" / "part-00000.parquet"
    with pytest.raises(DataError, match=r"part-00000\.parquet: got no column\(s\) \['device'\]"):
        list(predict.read(file, ["quality", "device"]))


def test_a_candidate_that_does_not_serve_a_task_is_an_error(world: dict[str, str]) -> None:
    other = TaskConfig(name="like", kind="binary", label="liked")
    with pytest.raises(ModelError, match=r"also of \['like'\]"):
        comparison({"candidate": f"{world['good']}/Format-Serving"}, config(tasks=(CLICK, other)))


def test_a_folder_without_a_model_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"saved_model\.pb"):
        comparison({"candidate": str(tmp_path)}, config())


def test_a_blessed_model_that_needs_a_lost_feature_gives_way_to_the_twin(
    world: dict[str, str], tmp_path: Path
) -> None:
    class Smaller(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, name="quality")])
        def serve(self, quality: tf.Tensor) -> Any:
            return {"click": tf.sigmoid(quality), "watch": quality}

    model = Smaller()
    smaller = str(tmp_path / "smaller")
    tf.saved_model.save(
        model, smaller, signatures={"serving_raw": model.serve.get_concrete_function()}
    )
    settings = config(features=FeaturesConfig.model_validate({"numeric": ["quality"]}))
    folders = {"candidate": smaller, "baseline": f"{world['good']}/Format-Serving"}
    alone = comparison(folders, settings)
    assert (alone.baseline, list(alone.models)) == (None, ["candidate"])
    found = comparison({**folders, "twin": smaller}, settings)
    assert (found.baseline, list(found.models)) == ("twin", ["candidate", "twin"])
    assert "needs ['device', 'topics'], which the config no longer has" in found.reason


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
