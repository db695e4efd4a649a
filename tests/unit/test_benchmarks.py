"""The arithmetic of the benchmarks; the runs themselves are for `make bench`."""

from __future__ import annotations

import dataclasses
import json
import math

import numpy as np
import pyarrow.parquet as pq
import pytest
from scipy import stats
from sklearn import metrics

from benchmarks import startup, statistics
from benchmarks.online import experiment, page, plan
from benchmarks.quality import distillation
from tfx_distill.schema.config import ModelConfig
from tfx_distill.schema.errors import LabelError
from tfx_distill.trainer import feature_table


def seed(offset):
    values = {"twin": 0.60, "auxiliary": 0.62 + offset, "direct": 0.60, "teacher": 0.70}
    return {
        size: {
            model: {
                task: dict.fromkeys(metrics, value)
                for task, metrics in distillation.METRICS.items()
            }
            for model, value in values.items()
        }
        for size in distillation.SIZES
    }


def test_an_interval_by_scipy():
    values = [1.0, 2.0, 4.0, 7.0]
    found = statistics.interval(values)
    test = stats.ttest_1samp(values, 0).confidence_interval(0.95)
    assert found["mean"] == 3.5
    assert found["mean"] - found["half_width"] == pytest.approx(test.low)
    assert found["mean"] + found["half_width"] == pytest.approx(test.high)


def test_differences_are_paired_and_what_is_clear_is_bold(tmp_path):
    result = distillation.compare([seed(0.0), seed(0.001), seed(0.002)])
    row = result["full"]["click auc"]
    assert row["auxiliary - twin"]["mean"] == pytest.approx(0.021)
    assert row["direct - twin"]["mean"] == 0
    printed = distillation.table(result)
    assert "**+0.0210 ± " in printed
    assert "| +0.0000 ± 0.0000 |" in printed
    distillation.picture(result, tmp_path / "result.png")
    assert (tmp_path / "result.png").read_bytes().startswith(b"\x89PNG")


def test_the_share_of_start_up(tmp_path):
    for name, seconds in (("demo", 10.0), ("small", 4.0)):
        step = {
            "component": "Transform",
            "seconds": seconds,
            "cpu_seconds": 9.0,
            "peak_mib": 1000.0,
            "state": "ran",
        }
        (tmp_path / f"{name}.json").write_text(json.dumps({"steps": [step]}))
    printed = startup.table(tmp_path / "demo.json", tmp_path / "small.json")
    assert "| Transform | 10.0 | 9.0 | 1,000 | 4.0 | 40% |" in printed


# ---- experiments on streams ----------------------------------------------------------------------


def spans_of(*aucs: float) -> list[dict[str, dict[str, float]]]:
    return [{"click": {"auc": auc}} for auc in aucs]


PAIR = experiment.Experiment(
    name="pair",
    lines=lambda config: {},
    panels=(experiment.Panel("both", (("student", "twin"),)),),
    by_span=(("click", "auc"),),
)


def test_differences_are_means_over_spans_paired_within_a_seed(tmp_path):
    seeds = [
        {"lines": {"student": spans_of(0.7, 0.9), "twin": spans_of(0.6, 0.8)}, "figures": {"s": 1}},
        {"lines": {"student": spans_of(0.5, 0.7), "twin": spans_of(0.3, 0.5)}, "figures": {"s": 3}},
    ]
    result = PAIR.compare(seeds, first_span=4)
    row = result["panels"]["both"]["click auc"]
    assert row["lines"]["twin"]["mean"] == pytest.approx(0.55)
    assert row["differences"]["student - twin"]["mean"] == pytest.approx(0.15)
    # Of two seeds: t(0.975, 1) = 12.706 times the standard error, |0.2 - 0.1| / 2.
    assert row["differences"]["student - twin"]["half_width"] == pytest.approx(0.6353, abs=1e-4)
    curve = result["by_span"]["click auc, difference to twin"]["student"]
    assert [span["mean"] for span in curve] == pytest.approx([0.15, 0.15])
    printed = experiment.table(result)
    assert "| click auc | 0.5500 | +0.1500 ± 0.6353 |" in printed
    assert "| s | 2 ± 13 |" in printed
    experiment.picture(result, tmp_path / "result.png")
    assert (tmp_path / "result.png").read_bytes().startswith(b"\x89PNG")


def test_a_span_without_both_classes_has_no_auc_and_does_not_count():
    seeds = [{"lines": {"student": spans_of(0.7, math.nan), "twin": spans_of(0.6, math.nan)}}] * 2
    result = PAIR.compare([seed | {"figures": {}} for seed in seeds], first_span=4)
    found = result["panels"]["both"]["click auc"]["differences"]["student - twin"]
    assert found["mean"] == pytest.approx(0.1)


def test_the_page_shows_the_results_that_are_there(tmp_path):
    seed = {"lines": {"student": spans_of(0.7), "twin": spans_of(0.6)}, "figures": {}}
    (tmp_path / "pair").mkdir()
    (tmp_path / "pair/result.json").write_text(json.dumps(PAIR.compare([seed, seed], 4)))
    old = "Before.\n<!-- table pair -->\nold\n<!-- end -->\n<!-- table none -->\nkept\n<!-- end -->"
    new = page.update(old, tmp_path)
    assert "old" not in new
    assert "kept" in new
    assert "| click auc | 0.6000 | **+0.1000 ± 0.0000** |" in new
    assert page.update(new, tmp_path) == new


def test_a_twin_is_one_arm_whatever_teacher_it_does_not_have():
    assert plan.Arm().key() == plan.Arm(policy=plan.FROZEN, bias=plan.Bias("click", 1.0)).key()
    taught = plan.Arm((("click", "direct"),))
    assert taught.key() != plan.Arm((("click", "direct"),), policy=plan.FROZEN).key()


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """A stream of two chunks: spans 0 and 1, and span 2."""
    from benchmarks.online.seeds import Seed

    setting = plan.Setting(spans=3, bootstrap=2, examples=1_000, bootstrap_epochs=1)
    return Seed(setting, 0, tmp_path_factory.mktemp("tiny"))


SMALL = plan.Teacher(ModelConfig(hidden=4, tower=4, embedding=2))


def logged(seed, split, span, column="impression_id"):
    folder = seed.stream.folder / f"data/video/span-{span}"
    return pq.read_table(folder / f"{split}-00000.parquet")[column].to_numpy()


def trained_on(chunk):
    files = feature_table.shards(chunk.table, "train")
    return np.concatenate([feature_table.read(file)["example_id"] for file in files])


def test_no_example_is_lost_and_those_evaluated_come_later(tiny):
    first, second = tiny.stream.chunks
    expected = [logged(tiny, *part) for part in (("train", 0), ("eval", 0), ("train", 1))]
    assert set(trained_on(first)) == set(np.concatenate(expected))
    expected = [logged(tiny, "eval", 1), logged(tiny, "train", 2)]
    assert sorted(trained_on(second)) == sorted(np.concatenate(expected))
    assert second.scored["example_id"].tolist() == logged(tiny, "eval", 2).tolist()


def test_truth_is_that_of_the_position_that_serving_assumes(tiny):
    chunk = tiny.stream.chunks[1]
    folder = tiny.stream.folder / "data/truth/video/span-2"
    truth = pq.read_table(folder / "eval-00000.parquet")["click_probability"].to_numpy()
    position = logged(tiny, "eval", 2, "position")
    at_served = position == 6
    assert at_served.any()
    np.testing.assert_allclose(chunk.truth["click"][at_served], truth[at_served])
    # Examined with probability k^-0.5: half as often at 24 as at 6, twice as often at 1.5.
    first = position == 1
    np.testing.assert_allclose(chunk.truth["click"][first], truth[first] * 6**-0.5)
    # And the position is the served one, the same in every row.
    assert len(np.unique(chunk.scored["numeric"][:, 0])) == 1


def test_each_policy_labels_with_the_teacher_it_says(tiny):
    taught = tiny.taught(SMALL)
    labels = {policy: chunks[1]["click"] for policy, chunks in taught.labels.items()}
    assert labels.keys() == {plan.NEWEST, plan.AFTER, plan.FROZEN, *plan.EVERY}
    for policy in (plan.FROZEN, *plan.EVERY):
        np.testing.assert_array_equal(labels[policy], labels[plan.NEWEST])
    assert not np.array_equal(labels[plan.AFTER], labels[plan.NEWEST])
    assert taught.ids[1].tolist() == trained_on(tiny.stream.chunks[1]).tolist()


def test_an_arm_is_trained_once_and_kept(tiny, monkeypatch):
    from benchmarks.online import seeds

    arm = plan.Arm((("click", "auxiliary"),), tasks=("click",), teacher=SMALL)
    found = tiny.followed(arm)
    assert len(found.metrics) == 2
    assert 0 < found.metrics[1]["click"]["log_loss"] < 1
    assert found.metrics[1].keys() == {"click", "click, desktop"}
    monkeypatch.setattr(seeds, "follow", None)
    assert tiny.followed(arm) == found
    with pytest.raises(TypeError):  # A biased teacher makes another arm.
        tiny.followed(dataclasses.replace(arm, bias=plan.Bias("click", 0.5)))


def test_a_bias_reaches_the_labels_of_its_slice_alone(tiny):
    from benchmarks.online import following

    chunk = tiny.stream.chunks[1]
    bias = plan.Bias("click", 1.0, plan.SLICE)
    shift = following.shift(tiny.stream, chunk, bias)["click"]
    devices = dict(zip(logged(tiny, "eval", 1), logged(tiny, "eval", 1, "device"), strict=True))
    devices |= dict(zip(logged(tiny, "train", 2), logged(tiny, "train", 2, "device"), strict=True))
    expected = [float(devices[i] == "desktop") for i in trained_on(chunk)]
    assert shift.tolist() == expected
    taught = tiny.taught(SMALL)
    ids = taught.ids[1]
    biased, present = taught.of(1, plan.NEWEST, {"click": shift}).join("any", ids)
    plain, _ = taught.of(1, plan.NEWEST).join("any", ids)
    assert present.all()
    np.testing.assert_allclose(biased["click"] - plain["click"], expected, atol=1e-6)
    np.testing.assert_array_equal(biased["ltv"], plain["ltv"])


def test_labels_in_memory_miss_what_they_do_not_know(tiny):
    from benchmarks.online.teaching import KnownLabels

    labels = KnownLabels(np.array([5, 3]), {"click": np.array([0.5, 0.3], np.float32)})
    found, present = labels.join("any", np.array([3, 9, 5]))
    assert found["click"].tolist() == pytest.approx([0.3, 0, 0.5])
    assert present.tolist() == [True, False, True]
    assert labels.coverage().share == pytest.approx(2 / 3)
    with pytest.raises(LabelError, match=r"66\.67%"):
        labels.require_coverage(0.99)


def test_metrics_against_the_truth_by_scikit_learn(tiny):
    from benchmarks.online.metrics import evaluate

    chunk = tiny.stream.chunks[1]
    logit = np.random.default_rng(0).normal(-2, 1, len(chunk.truth["click"])).astype(np.float32)
    found = evaluate(tiny.stream, chunk, {"click": logit, "ltv": logit})
    p = 1 / (1 + np.exp(-logit.astype(float)))
    # Each example happens to be clicked, and happens not to be, with the true probabilities.
    q = chunk.truth["click"]
    both = np.repeat([1, 0], len(q)), np.tile(p, 2)
    weight = np.concatenate([q, 1 - q])
    assert found["click"]["true log_loss"] == pytest.approx(
        metrics.log_loss(*both, sample_weight=weight), rel=1e-5
    )
    assert found["click"]["true auc"] == pytest.approx(
        metrics.roc_auc_score(*both, sample_weight=weight), rel=1e-5
    )
    clicked = logged(tiny, "eval", 2, "clicked")
    assert found["click"]["auc"] == pytest.approx(metrics.roc_auc_score(clicked, p))
    assert found["click"]["calibration"] == pytest.approx(p.mean() / clicked.mean())
    desktop = logged(tiny, "eval", 2, "device") == "desktop"
    assert found["click, desktop"]["log_loss"] == pytest.approx(
        metrics.log_loss(clicked[desktop], p[desktop]), rel=1e-5
    )
    value = np.log1p(logged(tiny, "eval", 2, "ltv"))
    assert found["ltv"]["mse"] == pytest.approx(np.mean((value - logit) ** 2))
    rank = stats.spearmanr(logit, chunk.truth["ltv"]).statistic
    assert found["ltv"]["true rank"] == pytest.approx(rank)
