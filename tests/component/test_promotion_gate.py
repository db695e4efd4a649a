"""The PromotionGate on real evaluations: its verdicts, its blessing, and in a pipeline."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from evaluated import BEAM, MODEL_IDS, config, judge, run, settings
from tfx import v1 as tfx
from tfx.components.pusher.executor import Executor as Pusher
from tfx.orchestration import metadata
from tfx.types import standard_artifacts

from tfx_distill.components import evaluation_result, verdict
from tfx_distill.components.gate_settings import GateSettings
from tfx_distill.components.model_evaluator import ModelEvaluator
from tfx_distill.components.promotion_gate import PromotionGate
from tfx_distill.components.verdict import Verdict
from tfx_distill.schema.config import Threshold
from tfx_distill.schema.errors import ConfigError

BOTH = (
    Threshold(task="click", metric="auc", min=0.7, max_regression=0.0),
    Threshold(task="watch", metric="mse", max=10, max_regression=0.0),
)


@pytest.fixture(scope="module")
def better(world: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> str:
    """An evaluation of a student that is far better than the model in service and its twin."""
    return run(
        tmp_path_factory.mktemp("better"),
        world["examples"],
        config(),
        model=world["good"],
        baseline=world["poor"],
        twin=world["poor"],
        teacher=world["good"],
    )


def judged(root: Path, evaluation: str, wanted: GateSettings, **models: str) -> Verdict:
    models = {"model": "/the/model", "baseline": "/in/service", "twin": "/the/twin"} | models
    return verdict.read(judge(root, evaluation, wanted, **models).uri)


def test_a_blessing_as_the_stock_evaluator_writes_it(better: str, tmp_path: Path) -> None:
    blessing = judge(tmp_path, better, settings(*BOTH), model="/new", baseline="/old", twin="/twin")
    files = {file.name for file in Path(blessing.uri).iterdir()}
    assert files == {"BLESSED", "verdict.json", "intervals.json"}
    assert blessing.get_int_custom_property("blessed") == 1
    assert blessing.get_string_custom_property("current_model") == "/new"
    assert blessing.get_int_custom_property("current_model_id") == MODEL_IDS["model"]
    assert blessing.get_string_custom_property("baseline_model") == "/old"
    assert blessing.get_int_custom_property("baseline_model_id") == MODEL_IDS["baseline"]
    assert Pusher().CheckBlessing({"model_blessing": [blessing]})


def test_the_verdict_on_a_better_student(better: str, tmp_path: Path) -> None:
    found = judged(tmp_path, better, settings(*BOTH))
    assert (found.blessed, found.baseline, found.others) == (True, "baseline", ("baseline", "twin"))
    # Of all examples, and of the slices with at least 60 of the 100 queries.
    compared = [c for c in found.checks if c.other == "twin"]
    assert {c.slice for c in compared} == {"", "new_item=0", "new_item=1"}
    assert {n.slice for n in found.not_judged} == {"device=phone", "device=tv"}
    assert len(found.checks) == 2 + 2 * 2 * 3
    assert len(found.not_judged) == 2 * 2 * 2
    values = evaluation_result.sliced_metrics(better)
    for check in compared:
        mine = values[check.slice]["candidate"][check.task][check.metric]
        others = values[check.slice]["twin"][check.task][check.metric]
        assert (check.value, check.other_value) == (mine, others)
        # TFMA's values and those of the bootstrap are the same.
        assert check.difference == pytest.approx(mine - others, rel=1e-5)
        assert check.low is not None
        assert check.high is not None
        assert check.low < check.difference < check.high
        gain = check.difference if check.metric == "auc" else -check.difference
        assert check.bound is not None
        assert 0 < check.bound < gain
    # More comparisons than one: the bounds are further away than 1.64 errors.
    assert found.critical is not None
    assert 1.7 < found.critical < 4


def test_how_many_queries_count(better: str, tmp_path: Path) -> None:
    rows = pl.concat(pl.read_parquet(f) for f in evaluation_result.predictions(better))
    found = judged(tmp_path, better, settings(*BOTH, min_slice_queries=1))
    assert found.not_judged == ()
    for name, part in [("", rows), ("device=tv", rows.filter(pl.col("device") == "tv"))]:
        watched = part.filter(pl.col("weight_watch") > 0)
        counts = {"click": part["query_id"].n_unique(), "watch": watched["query_id"].n_unique()}
        shown = {c.task: c.queries for c in found.checks if c.slice == name and c.other}
        assert shown == counts


def test_a_slice_that_the_metrics_lack_is_named(better: str, tmp_path: Path) -> None:
    shutil.copytree(better, tmp_path / "evaluation")
    file = tmp_path / "evaluation" / "metrics.json"
    content = json.loads(file.read_text())
    del content["new_item=1"]
    file.write_text(json.dumps(content))
    found = judged(tmp_path, str(tmp_path / "evaluation"), settings(BOTH[0]))
    assert {c.slice for c in found.checks} == {"", "new_item=0"}
    (lost, _) = (n for n in found.not_judged if n.slice == "new_item=1")
    assert "the evaluation has no metrics of this slice" in lost.sentence


def test_a_column_that_was_not_evaluated_is_refused(better: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"gate\.slices: country: got no such column"):
        judge(tmp_path, better, settings(*BOTH, slices=("device", "country")), model="/m")
    assert not (tmp_path / "blessing").exists()


def test_refused_against_the_twin(world: dict[str, str], tmp_path: Path) -> None:
    evaluation = run(tmp_path, world["examples"], config(), model=world["poor"], twin=world["good"])
    wanted = settings(Threshold(task="click", metric="auc", max_regression=0.05))
    blessing = judge(tmp_path, evaluation, wanted, model=world["poor"], twin=world["good"])
    found = verdict.read(blessing.uri)
    assert (found.blessed, found.baseline) == (False, "twin")
    assert "No model is in service. The undistilled twin" in found.baseline_reason
    assert "of the twin" in found.failures[0]
    assert (Path(blessing.uri) / "NOT_BLESSED").exists()
    assert not (Path(blessing.uri) / "BLESSED").exists()
    assert blessing.get_int_custom_property("blessed") == 0
    assert blessing.get_string_custom_property("baseline_model") == world["good"]
    assert not Pusher().CheckBlessing({"model_blessing": [blessing]})


def test_a_lone_candidate_that_predicts_nan_is_refused_in_words(
    world: dict[str, str], tmp_path: Path
) -> None:
    evaluation = run(tmp_path, world["examples"], config(slices=()), model=world["broken"])
    wanted = settings(
        Threshold(task="click", metric="log_loss", max=1e9),
        Threshold(task="click", metric="ndcg", max_regression=1e9),
        slices=(),
    )
    blessing = judge(tmp_path, evaluation, wanted, model=world["broken"])
    found = verdict.read(blessing.uri)
    assert (found.blessed, found.baseline) == (False, None)
    assert len(found.failures) == 2
    for sentence in found.failures:
        assert "900 predictions are NaN or infinite" in sentence
    assert not blessing.has_custom_property("baseline_model")


def test_the_bounds_depend_on_the_seed_and_on_nothing_else(better: str, tmp_path: Path) -> None:
    first, again, other = (
        judged(tmp_path / str(place), better, settings(*BOTH, seed=seed))
        for place, seed in enumerate((1, 1, 2))
    )
    assert first == again
    assert first.critical != other.critical
    sure = judged(tmp_path / "sure", better, settings(*BOTH, seed=1, confidence=0.99))
    assert sure.critical is not None
    assert first.critical is not None
    assert sure.critical > first.critical


def test_all_intervals_are_kept_for_the_reports(better: str, tmp_path: Path) -> None:
    blessing = judge(tmp_path, better, settings(*BOTH, seed=3), model="/m")
    content = json.loads((Path(blessing.uri) / "intervals.json").read_text())
    assert (content["confidence"], content["replicates"], content["seed"]) == (0.95, 1000, 3)
    models = {one["model"] for one in content["estimates"]}
    assert models == {"candidate", "baseline", "twin", "teacher"}
    assert {one["other"] for one in content["differences"]} == {"baseline", "twin"}
    slices = {one["slice"] for one in content["estimates"]}
    assert slices == {"", "device=phone", "device=tv", "new_item=0", "new_item=1"}
    values = evaluation_result.sliced_metrics(better)
    for one in content["estimates"]:
        stored = values[one["slice"]][one["model"]][one["task"]][one["metric"]]
        assert one["value"] == pytest.approx(stored, rel=1e-5)


def test_in_a_pipeline_the_next_run_is_compared_with_what_was_blessed(
    world: dict[str, str], tmp_path: Path
) -> None:
    store = tfx.orchestration.metadata.sqlite_metadata_connection_config(str(tmp_path / "db"))

    def once(model: str) -> Verdict:
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
                type=standard_artifacts.ModelBlessing, producer_component_id="Gate"
            ),
        ).with_id("Blessed")
        models: dict[str, Any] = {
            "model": trainer.outputs["result"],
            "twin": twin.outputs["result"],
            "baseline": newest.outputs["model"],
        }
        evaluator = ModelEvaluator(
            examples=examples.outputs["result"],
            config=config(slices=()).model_dump_json(),
            **models,
        ).with_id("Evaluator")
        gate = PromotionGate(
            evaluation=evaluator.outputs["evaluation"],
            config=settings(
                Threshold(task="click", metric="auc", max_regression=0.01), slices=()
            ).model_dump_json(),
            **models,
        ).with_id("Gate")
        pipeline = tfx.dsl.Pipeline(
            pipeline_name="p",
            pipeline_root=str(tmp_path / "root"),
            components=[examples, trainer, twin, newest, evaluator, gate],
            metadata_connection_config=store,
            beam_pipeline_args=BEAM,
        )
        tfx.orchestration.LocalDagRunner().run(pipeline)
        with metadata.Metadata(store) as mlmd:
            found = mlmd.store.get_artifacts_by_type("ModelBlessing")
        return verdict.read(max(found, key=lambda a: a.id).uri)

    first = once(world["good"])
    assert (first.blessed, first.baseline) == (True, "twin")
    second = once(world["poor"])
    assert (second.blessed, second.baseline) == (False, "baseline")
    # The refused model is not what the next one has to beat; the same model again is let through.
    third = once(world["good"])
    assert (third.blessed, third.baseline) == (True, "baseline")
    against = next(c for c in third.checks if c.other == "baseline")
    assert (against.difference, against.bound) == (0, 0)
    assert against.value == against.other_value == first.checks[0].value
