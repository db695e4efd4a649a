"""The arithmetic of the gate's power study; the study itself is for `make bench-gate`."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
from scipy import stats
from sklearn import metrics

from benchmarks.gate import (
    power_noise,
    power_rates,
    power_report,
    power_students,
    power_trials,
    simulated,
)
from tfx_distill.components.bootstrap_result import Bootstrap, Difference
from tfx_distill.components.verdict import Check, Verdict
from tfx_distill.schema.config import FeaturesConfig

# ---- students ------------------------------------------------------------------------------------


def test_flips_are_of_the_share_and_nested():
    label = (np.arange(100_000) % 3 == 0).astype(np.float32)
    changed = {share: power_students.flipped(label, share, 7) != label for share in (0, 0.01, 0.05)}
    assert not changed[0].any()
    # 1,000 of 100,000 are expected, with a standard deviation of 31.
    assert 850 < changed[0.01].sum() < 1_150
    assert not (changed[0.01] & ~changed[0.05]).any()
    assert set(power_students.flipped(label, 0.05, 7)) == {0.0, 1.0}
    assert (power_students.flipped(label, 0.05, 8) != power_students.flipped(label, 0.05, 7)).any()


def test_blocks_by_hand():
    features = FeaturesConfig.model_validate(
        {
            "numeric": [
                {"name": "position", "transform": "log1p", "serving_value": np.expm1(1.0)},
                "rate",
            ],
            "categorical": [{"name": "user", "buckets": 4}, {"name": "device", "vocab": 3}],
        }
    )
    log = pa.table(
        {
            "position": np.expm1([0.0, 2.0, 4.0]),
            "rate": [1.0, None, 3.0],
            "user": [3, 4, 9],
            "device": ["tv", "phone", None],
        }
    )
    encoding = power_students.Encoding(log, features)
    blocks = encoding(log, serving=False)
    # log1p of the position has mean 2 and deviation sqrt(8/3); the rates 1 and 3 have 2 and 1.
    one = 2 / np.sqrt(8 / 3)
    expected = [[-one, -1, 0, 0], [0, 0, 0, 1], [one, 1, 0, 0]]
    np.testing.assert_allclose(blocks["numeric"], expected, atol=1e-6)
    assert blocks["categorical"].tolist() == [[4, 2], [1, 1], [2, 0]]
    later = pa.table({"position": [1.0], "rate": [2.0], "user": [0], "device": ["new"]})
    served = encoding(later, serving=True)
    np.testing.assert_allclose(served["numeric"], [[-one / 2, 0, 0, 0]], atol=1e-6)
    assert served["categorical"].tolist() == [[1, 0]]


# ---- the population ------------------------------------------------------------------------------


def population() -> pa.Table:
    """Six queries of 1, 2, 3 ... examples, each example with a score of its own."""
    rng = np.random.default_rng(0)
    query = np.repeat(np.arange(6) * 10, np.arange(1, 7))
    return pa.table(
        {
            "query_id": query,
            "device": pa.array(rng.choice(["phone", "tv", None], 21).tolist(), pa.string()),
            "label_click": np.tile([0, 1, 0], 7).astype(np.float32),
            "weight_click": np.ones(21, np.float32),
            "sound": rng.random(21).astype(np.float32),
            "other": np.arange(21, dtype=np.float32) / 21,
        }
    )


def test_an_evaluation_is_of_whole_queries_each_with_a_number_of_its_own():
    table = population()
    whole = power_trials.Population(table, ["device"])
    assert whole.queries == 6
    drawn = whole.evaluation(50, [1, 2])
    number = drawn["query_id"].to_numpy()
    assert set(number) == set(range(50))
    scores = [tuple(drawn["other"].to_numpy()[number == n].tolist()) for n in range(50)]
    query = table["query_id"].to_numpy()
    known = {tuple(table["other"].to_numpy()[query == q].tolist()) for q in set(query)}
    assert set(scores) == known  # Of 50 draws none of 6 is left out, but for 1 case in 1,500.
    assert drawn.equals(whole.evaluation(50, [1, 2]))
    assert not drawn.equals(whole.evaluation(50, [1, 3]))


def test_true_gains_have_the_sign_of_what_is_better():
    table = population()
    # Perfect for the click, but sure of nothing.
    best = (table["label_click"].to_numpy() * 0.2 + 0.4).astype(np.float32)
    truth = power_trials.true_gains(
        table.append_column("best", pa.array(best)), "best", "sound", ()
    )
    label, sound = table["label_click"].to_numpy(), table["sound"].to_numpy()
    assert truth["", "auc"] == pytest.approx(1 - metrics.roc_auc_score(label, sound))
    loss = -np.mean(label * np.log(sound) + (1 - label) * np.log(1 - sound))
    assert truth["", "log_loss"] == pytest.approx(loss + np.log(0.6), rel=1e-5)


def test_a_student_is_judged_by_the_gate_and_slices_by_their_values():
    simulation = simulated.Simulation(
        queries=800,
        rows_per_query=8,
        kinds={"click": "binary"},
        noise={"candidate": 2.0, "baseline": 0.3},
        values={"device": 2},
    )
    table = simulated.table(simulation, 0).rename_columns(
        ["example_id", "query_id", "device", "label_click", "weight_click", "worse", "sound"]
    )
    truth = power_trials.true_gains(table, "worse", "sound", ["device"])
    assert {part for part, _ in truth} == {"", "device=0", "device=1"}
    given = (["device"], [0.01, 2.0], truth)
    found = power_trials.judged(table, "worse", "sound", *given, seed=1)
    assert found.gain == pytest.approx({m: truth["", m] for m in ("auc", "log_loss")}, rel=1e-4)
    assert found.refused == {
        0.01: {"auc": True, "log_loss": True, "verdict": True},
        2.0: {"auc": False, "log_loss": False, "verdict": False},
    }
    assert found.predicted == {0.01: 1.0, 2.0: 0.0}
    better = power_trials.judged(table, "sound", "worse", ["device"], [0.01], NOTHING, seed=1)
    assert not any(better.refused[0.01].values())


NOTHING = {(part, m): 1.0 for part in ("", "device=0", "device=1") for m in ("auc", "log_loss")}


# ---- predictions ---------------------------------------------------------------------------------


def test_the_predicted_rate_of_a_check():
    # At the allowed loss a check fails unless the luck is more than the critical value.
    assert power_rates.refusal(0.01, 0.01, 0.004, 1.6449) == pytest.approx(0.95, abs=1e-4)
    assert power_rates.refusal(0.01, 0.01 - 1.6449 * 0.004, 0.004, 1.6449) == pytest.approx(0.5)
    # What verdicts call detectable: allowed - (critical - 0.8416) * error.
    assert power_rates.refusal(0.02, 0.02 - 1.6584 * 0.003, 0.003, 2.5) == pytest.approx(
        0.8, abs=1e-4
    )
    gain = np.random.default_rng(0).normal(-0.012, 0.004, 200_000)
    refused = np.mean(gain - 2.2 * 0.004 < -0.02)
    assert power_rates.refusal(0.02, 0.012, 0.004, 2.2) == pytest.approx(refused, abs=0.005)


def check(metric, part, allowed):
    return Check(
        task="click",
        metric=metric,
        slice=part,
        rule="max_regression",
        allowed=allowed,
        other="baseline",
        value=0.5,
        passed=True,
        sentence="",
    )


def difference(metric, part, value, error):
    return Difference(
        slice=part,
        task="click",
        metric=metric,
        other="baseline",
        value=value,
        low=None,
        high=None,
        standard_error=error,
        queries=100,
    )


def test_the_predicted_rate_of_a_verdict_by_hand():
    verdict = Verdict(
        candidate="student",
        blessed=True,
        baseline="baseline",
        baseline_reason="",
        checks=(check("auc", "", 0.05), check("log_loss", "device=tv", 0.05)),
        confidence=0.95,
        critical=2.0,
        replicates=4,
        seed=0,
    )
    found = Bootstrap(
        estimates=(),
        differences=(
            difference("auc", "", 0.5, 0.01),
            difference("log_loss", "device=tv", 0.2, 0.02),
        ),
        replicates={
            ("", "click", "auc", "baseline"): 0.5 + np.array([0.01, -0.01, 0.0, 0.0]),
            ("device=tv", "click", "log_loss", "baseline"): 0.2 + np.array([0, 0, 0.04, -0.04]),
        },
    )
    # Demanded of a gain: -0.05 + 2 * 0.01 = -0.03, and -0.05 + 2 * 0.02 = -0.01.
    # The gains of the log loss are -(d* - d): 0, 0, -0.04 and 0.04 about the truth.
    truth = {("", "auc"): -0.025, ("device=tv", "log_loss"): 0.0}
    assert power_rates.joint_refusal(found, verdict, truth) == 0.5
    assert power_rates.joint_refusal(found, verdict, truth | {("", "auc"): 0.0}) == 0.25
    assert power_rates.joint_refusal(found, verdict, truth | {("", "auc"): -0.1}) == 1.0


def test_the_interval_of_a_rate_by_the_beta_distribution():
    found = power_rates.rate(16, 20)
    assert found["rate"] == 0.8
    assert found["low"] == pytest.approx(stats.beta.ppf(0.025, 16, 5))
    assert found["high"] == pytest.approx(stats.beta.ppf(0.975, 17, 4))
    never = power_rates.rate(0, 20)
    assert (never["low"], never["high"]) == pytest.approx((0, 1 - 0.025 ** (1 / 20)))


def outcome(gain, refused):
    return power_rates.Judged(
        gain={"auc": gain, "log_loss": gain},
        error={"auc": 0.004, "log_loss": 0.002},
        critical=2.0,
        refused={0.01: {"auc": refused, "log_loss": False, "verdict": refused}},
        predicted={0.01: 0.25},
    )


OUTCOMES = [outcome(-0.001, False), outcome(-0.003, True), outcome(0.001, False)]


def test_rates_and_sight():
    truth = {("", "auc"): -0.006, ("", "log_loss"): 0.002}
    auc, loss, verdict = power_rates.rates(OUTCOMES, truth)
    assert (auc["about"], auc["refused"], auc["evaluations"]) == ("auc", 1, 3)
    # critical + (loss - allowed) / error: 2 + (0.006 - 0.01) / 0.004 = 1, and 2 - 0.012 / 0.002.
    assert auc["predicted"] == pytest.approx(stats.norm.cdf(1))
    assert loss["predicted"] == pytest.approx(stats.norm.cdf(-4))
    assert (verdict["about"], verdict["rate"], verdict["predicted"]) == ("verdict", 1 / 3, 0.25)
    seen = power_rates.sight(OUTCOMES, "auc")
    assert seen["tolerable"] == pytest.approx(2.8416 * 0.004, abs=1e-6)
    assert seen["detectable"] == pytest.approx(2 * 0.8416 * 0.004, abs=1e-6)
    assert seen["spread"] == pytest.approx(0.002)
    # An equal student passes in 80% of all cases if so much is allowed; one that much worse fails.
    assert power_rates.refusal(seen["tolerable"], 0, 0.004, 2.0) == pytest.approx(0.2)
    assert power_rates.refusal(seen["tolerable"], seen["detectable"], 0.004, 2.0) == pytest.approx(
        0.8
    )


# ---- predictions with noise ----------------------------------------------------------------------


@pytest.mark.parametrize("noise", [0.3, 0.9])
def test_the_true_auc_of_simulated_predictions_by_scikit_learn(noise):
    simulation = replace(
        power_noise.SIMULATION,
        queries=60_000,
        rows_per_query=2,
        noise={"candidate": noise},
        values={},
    )
    table = simulated.table(simulation, 0)
    found = metrics.roc_auc_score(
        table["label_click"].to_numpy(), table["candidate/click"].to_numpy()
    )
    # Of 120,000 examples, a third of them clicks, the AUC is known to about 0.002.
    assert power_noise.auc(noise) == pytest.approx(found, abs=0.005)


def test_a_noise_has_the_loss_that_was_asked_for():
    for loss in (0.0, 0.004, 0.05):
        noise = power_noise.noise_of_loss(loss)
        assert power_noise.auc(power_noise.BASELINE_NOISE) - power_noise.auc(noise) == (
            pytest.approx(loss, abs=1e-9)
        )


def test_a_candidate_of_much_noise_is_refused_and_an_equal_one_is_not():
    # With so many queries the standard error is 0.002, a tenth of what is allowed.
    simulation = replace(power_noise.SIMULATION, queries=8_000)
    assert power_noise.outcome(2.0, 0, simulation).refused
    equal = power_noise.outcome(0.5, 0, simulation)
    assert not equal.refused
    assert equal.detectable == pytest.approx(
        power_noise.ALLOWED - (equal.critical - 0.8416) * equal.error, abs=1e-5
    )


# ---- the report ----------------------------------------------------------------------------------


def test_the_report_marks_what_does_not_agree(tmp_path):
    truth = {("", "auc"): -0.006, ("", "log_loss"): 0.002}
    rows = power_rates.rates(OUTCOMES * 20, truth)
    result = {
        "population": {"queries": 8_000, "examples": 120_000},
        "students": {"1% flipped": {"auc": 0.006, "log_loss": -0.002}},
        "rates": {"2000": {"1% flipped": rows}},
        "sight": {
            size: {"1% flipped": {m: power_rates.sight(OUTCOMES, m) for m in ("auc", "log_loss")}}
            for size in ("1000", "2000")
        },
        "detectable": rows[0] | {"queries": 2_000, "loss": 0.0132, "detectable": 0.0131},
    }
    # 20 of 60 were refused; 84% and 25% were predicted, and 0.003% where none was.
    assert [row["inside"] for row in power_report.rows(result)] == [False, True, True]
    printed = power_report.tables(result)
    assert "1 of 2 predictions are inside" in printed
    assert "Of the 1 predictions below 1% or above 99%, not shown, 1 are." in printed
    assert "| 2,000 | 1% flipped | AUC | 0.01 | 84.1% | **33.3%** (21.7% - 46.7%) |" in printed
    assert "| 2,000 | 1% flipped | verdict | 0.01 | 25.0% | 33.3% (21.7% - 46.7%) |" in printed
    # 1.96 * 0.004 * sqrt(2,000 / 8,000).
    assert "| 1% flipped | +0.00600 ± 0.00392 |" in printed
    # 0.002 / 0.004 and 0.002 / 0.002.
    assert "is 0.50 to 1.00 times the median standard error" in printed
    assert "was refused 20 of 60 times" in printed
    power_report.picture(result, tmp_path / "power.png")
    assert (tmp_path / "power.png").read_bytes().startswith(b"\x89PNG")
