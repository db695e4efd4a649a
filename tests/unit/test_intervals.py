"""Bootstrap intervals: against brute force, by hand, and by what they promise."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import paired_rows
import pytest
from paired_rows import KINDS, MODELS, SLICES
from sklearn.metrics import log_loss, roc_auc_score

from benchmarks.gate import cost, coverage, simulated
from tfx_distill.components import intervals, stored_predictions
from tfx_distill.components.bootstrap_result import Bootstrap, Difference, Estimate, Key
from tfx_distill.components.intervals import bootstrap
from tfx_distill.schema.config import Metric


def run(
    files: Sequence[Path],
    models: dict[str, Sequence[str]] = MODELS,
    slices: Sequence[str] = SLICES,
    replicates: int = 1_000,
    seed: int = 0,
) -> Bootstrap:
    return bootstrap(
        files,
        models,
        {task: KINDS[task] for served in models.values() for task in served},
        slices,
        ndcg_at=5,
        confidence=0.95,
        replicates=replicates,
        seed=seed,
    )


def differences(found: Bootstrap) -> dict[Key, Difference]:
    return {difference.key: difference for difference in found.differences}


def estimates(found: Bootstrap) -> dict[tuple[str, str, str, str], Estimate]:
    return {(e.slice, e.task, e.metric, e.model): e for e in found.estimates}


# ---- against brute force -------------------------------------------------------------------------


@pytest.fixture(scope="module")
def brute_force() -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Rows, and metrics of both models in resamples whose rows are all scored anew."""
    table = simulated.table(
        simulated.Simulation(
            queries=150,
            rows_per_query=8,
            kinds={"click": "binary"},
            noise={"candidate": 0.4, "baseline": 0.8},
            values={},
        ),
        seed=0,
    )
    rows = {name: table.column(name).to_numpy() for name in table.column_names}
    by_query = [np.flatnonzero(rows["query_id"] == query) for query in set(rows["query_id"])]
    rng = np.random.default_rng(99)
    found: dict[str, list[float]] = {}
    for _ in range(600):
        drawn = np.concatenate([by_query[i] for i in rng.integers(0, 150, 150)])
        label = rows["label_click"][drawn]
        for model in ("candidate", "baseline"):
            score = rows[f"{model}/click"][drawn].astype(float)
            found.setdefault(f"{model} auc", []).append(roc_auc_score(label, score))
            found.setdefault(f"{model} log_loss", []).append(log_loss(label, score))
    return rows, {name: np.array(values) for name, values in found.items()}


@pytest.mark.parametrize("metric", ["auc", "log_loss"])
def test_standard_errors_and_intervals_are_those_of_brute_force(
    tmp_path: Path, brute_force: tuple[dict[str, Any], dict[str, np.ndarray]], metric: str
) -> None:
    rows, expected = brute_force
    found = run(
        paired_rows.write(rows, tmp_path),
        {"candidate": ("click",), "baseline": ("click",)},
        (),
        replicates=4_000,
    )
    # The standard deviation of 600 resamples is itself known to 1 / sqrt(1,200), 2.9%.
    apart = expected[f"candidate {metric}"] - expected[f"baseline {metric}"]
    difference = differences(found)["", "click", metric, "baseline"]
    assert difference.standard_error == pytest.approx(apart.std(), rel=0.08)
    for low, high, values in [
        (difference.low, difference.high, apart),
        *(
            (e.low, e.high, expected[f"{e.model} {metric}"])
            for e in found.estimates
            if e.metric == metric
        ),
    ]:
        # A percentile of 600 resamples is known to about a tenth of a standard deviation.
        tolerance = 0.3 * values.std()
        assert [low, high] == pytest.approx(np.quantile(values, [0.025, 0.975]), abs=tolerance)
    # Were rows drawn and not queries, or the models not paired, this would be far off.
    independent = math.hypot(*(expected[f"{m} {metric}"].std() for m in ("candidate", "baseline")))
    assert difference.standard_error < 0.8 * independent


def test_of_merged_queries_the_standard_error_is_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = paired_rows.write(paired_rows.rows(0, queries=3_000), tmp_path)
    apart = differences(run(files, slices=()))
    whole = stored_predictions.opened
    monkeypatch.setattr(stored_predictions, "opened", lambda *given: whole(*given, max_groups=400))
    merged = differences(run(files, slices=()))
    for key, difference in apart.items():
        # Both are known to 1 / sqrt(2,000); of 400 groups' sums to 1 / sqrt(800).
        expected = difference.standard_error
        assert merged[key].standard_error == pytest.approx(expected, rel=0.2), key
        assert merged[key].value == pytest.approx(difference.value)
        assert merged[key].queries == difference.queries


# ---- what is reported ----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Bootstrap:
    rows = paired_rows.rows(0, queries=60)
    return run(paired_rows.write(rows, tmp_path_factory.mktemp("small")))


def test_all_slices_tasks_metrics_and_models_are_there(small: Bootstrap) -> None:
    found = estimates(small)
    slices = ("", "device=phone", "device=tv", "new_item=0", "new_item=1")
    binary = ("auc", "log_loss", "calibration", "ndcg", "gauc")
    regression = ("mse", "mae", "calibration", "ndcg")
    assert set(found) == {
        (part, task, metric, model)
        for part in slices
        for model, tasks in MODELS.items()
        for task in tasks
        for metric in (binary if task == "click" else regression)
    }
    assert set(differences(small)) == {
        (part, task, metric, model)
        for part, task, metric, model in found
        if model != "candidate" and metric != "calibration"
    }
    assert small.estimates[0].slice == ""


def test_a_difference_is_candidate_minus_other_and_paired(small: Bootstrap) -> None:
    found = estimates(small)
    for (part, task, metric, other), difference in differences(small).items():
        ours, theirs = found[part, task, metric, "candidate"], found[part, task, metric, other]
        assert difference.value == pytest.approx(ours.value - theirs.value, abs=1e-9)
        assert difference.low < difference.value < difference.high
        assert ours.low < ours.value < ours.high
        assert difference.queries == ours.queries == theirs.queries
        replicates = small.replicates[difference.key]
        assert difference.standard_error == pytest.approx(replicates.std(ddof=1))


def test_the_seed_decides_and_the_order_of_the_rows_does_not(
    tmp_path: Path, small: Bootstrap
) -> None:
    rows = paired_rows.rows(0, queries=60)
    again = run(paired_rows.write(rows, tmp_path / "again"))
    assert again.estimates == small.estimates
    assert again.differences == small.differences
    other = run(paired_rows.write(rows, tmp_path / "other"), seed=1)
    assert other.estimates != small.estimates
    moved = {name: column[::-1] for name, column in rows.items()}
    for key, difference in differences(run(paired_rows.write(moved, tmp_path, files=5))).items():
        expected = differences(small)[key]
        assert difference.low == pytest.approx(expected.low, abs=1e-9)


@pytest.fixture
def rounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """A matrix product may round equal columns differently, depending on where they lie."""
    product, rng = intervals._sums, np.random.default_rng(0)

    def noisy(*given: Any) -> np.ndarray:
        sums = product(*given)
        return sums * (1 + rng.normal(0, 1e-15, sums.shape))

    monkeypatch.setattr(intervals, "_sums", noisy)


@pytest.mark.usefixtures("rounded")
def test_identical_models_do_not_differ_at_all(tmp_path: Path) -> None:
    rows = paired_rows.rows(0, queries=60)
    for task in MODELS["candidate"]:
        rows[f"candidate/{task}"] = rows[f"baseline/{task}"]
    # An order is all that these metrics see.
    rows["twin/click"] = rows["baseline/click"] / 2
    found = run(paired_rows.write(rows, tmp_path))
    same = [
        key
        for key in differences(found)
        if key[3] == "baseline" or key[2] in ("auc", "gauc", "ndcg")
    ]
    assert len(same) == 5 * (4 + 3 + 3)
    for key in same:
        difference = differences(found)[key]
        assert (difference.value, difference.low, difference.high) == (0, 0, 0)
        assert difference.standard_error == 0
    bounds = found.lower_bounds(same, 0.95)
    assert bounds.by_key == dict.fromkeys(same, 0)
    assert bounds.critical == 0


@pytest.mark.usefixtures("rounded")
def test_a_difference_that_no_resample_changes_is_its_own_bound(tmp_path: Path) -> None:
    rows = paired_rows.rows(0, queries=60)
    for model, error in (("candidate", 0.75), ("baseline", 0.5)):
        rows[f"{model}/time"] = rows["label_time"].round() + np.float32(error)
    rows["label_time"] = rows["label_time"].round()
    found = run(paired_rows.write(rows, tmp_path), slices=())
    key = ("", "time", "mae", "baseline")
    assert differences(found)[key].standard_error == 0
    bounds = found.lower_bounds([key], 0.95)
    assert bounds.critical == 0
    assert bounds.by_key == pytest.approx({key: -0.25})


def test_what_is_undefined_is_none_and_not_0(tmp_path: Path) -> None:
    rows = paired_rows.rows(0, queries=60)
    tv = rows["device"] == "tv"
    # Two queries with a positive on TVs: a seventh of the resamples draw neither.
    positive = np.isin(rows["query_id"], np.unique(rows["query_id"][tv])[:2])
    rows["label_click"][tv] = positive[tv]
    rows["weight_click"][tv] = 1
    rows["candidate/time"][np.flatnonzero(rows["weight_time"] > 0)[0]] = np.nan
    found = run(paired_rows.write(rows, tmp_path))
    rare = differences(found)["device=tv", "click", "auc", "baseline"]
    assert (rare.value, rare.low, rare.high, rare.standard_error) == (None,) * 4
    assert rare.queries == 2
    estimate = estimates(found)["device=tv", "click", "auc", "candidate"]
    assert estimate.value is not None
    assert (estimate.low, estimate.high) == (None, None)
    broken = estimates(found)["", "time", "mse", "candidate"]
    assert (broken.value, broken.low, broken.high) == (None, None, None)
    assert estimates(found)["", "time", "mse", "baseline"].value is not None
    assert differences(found)["", "time", "mse", "baseline"].value is None
    defined = ("", "click", "auc", "baseline")
    bounds = found.lower_bounds([defined, rare.key, ("", "time", "mse", "baseline")], 0.95)
    assert set(bounds.by_key) == {defined}
    with pytest.raises(KeyError):
        found.lower_bounds([("", "click", "calibration", "baseline")], 0.95)


# ---- simultaneous bounds -------------------------------------------------------------------------


def difference(metric: Metric, value: float, error: float) -> Difference:
    return Difference(
        slice="",
        task="click",
        metric=metric,
        other="twin",
        value=value,
        low=value,
        high=value,
        standard_error=error,
        queries=9,
    )


def test_bounds_by_hand() -> None:
    auc, loss = difference("auc", 1.0, 0.5), difference("log_loss", 2.0, 1.0)
    same = difference("gauc", 0.25, 0.0)
    found = Bootstrap(
        estimates=(),
        differences=(auc, loss, same),
        replicates={
            # Too high by -2, -1, 0, 1, 2 standard errors.
            auc.key: np.array([0.0, 0.5, 1.0, 1.5, 2.0]),
            # A loss: better by 4, 0, -1, undefined, 1 standard errors.
            loss.key: np.array([-2.0, 2.0, 3.0, np.nan, 1.0]),
            same.key: np.full(5, 0.25),
        },
    )
    # Largest of both: 4, 0, 0, 1, 2; the median is 1, the quantile of 3/4 is 2.
    bounds = found.lower_bounds([auc.key, loss.key, same.key], 0.75)
    assert bounds.critical == 2
    assert bounds.by_key == {auc.key: 1 - 2 * 0.5, loss.key: -2 - 2 * 1.0, same.key: 0.25}
    assert found.lower_bounds([auc.key, loss.key], 0.5).critical == 1
    # Alone, -2 to 2.
    assert found.lower_bounds([auc.key], 0.75).by_key == {auc.key: 1 - 0.5}
    assert found.lower_bounds([], 0.95).by_key == {}


def test_one_comparison_has_the_critical_value_of_a_normal_and_more_a_higher_one(
    small: Bootstrap,
) -> None:
    key = ("", "click", "log_loss", "baseline")
    assert small.lower_bounds([key], 0.95).critical == pytest.approx(1.645, abs=0.15)
    # As if once: a comparison that is named twice, or again by the same resamples.
    assert small.lower_bounds([key, key], 0.95) == small.lower_bounds([key], 0.95)
    family = [difference.key for difference in small.differences]
    # Bonferroni's value for 45 comparisons is 3.06.
    assert 2.2 < small.lower_bounds(family, 0.95).critical < 3.3
    assert len(family) == 55


# ---- what is promised ----------------------------------------------------------------------------


def test_intervals_of_equally_good_models_hold_0() -> None:
    found = coverage.summary(coverage.outcome(seed, replicates=500) for seed in range(60))
    shares = found["covered"]
    assert set(shares) == {
        *(f"click {metric}" for metric in ("auc", "log_loss", "ndcg", "gauc")),
        *(f"time {metric}" for metric in ("mse", "mae", "ndcg")),
    }
    # 0.95 give or take 2.8% for one standard deviation of 60 pairs.
    assert 0.91 < np.mean(list(shares.values())) < 0.99
    assert min(shares.values()) > 0.85
    assert found["any simultaneous bound above 0"] < 0.14
    assert coverage.table(found).count("holds 0") == 7


def test_the_cost_is_measured_of_all_that_is_asked() -> None:
    case = cost.Case(queries=300, rows_per_query=3, values={"device": 4, "item": 3}, parts=2)
    figures = cost.measure(case)
    # Four tasks of 2 x 5 and 2 x 4 metrics, three models, 7 slices and the whole.
    assert figures["estimates"] == 18 * 3 * 8
    assert figures["differences"] == 14 * 2 * 8
    assert figures["cpu_seconds"] > 0
    assert "| small | 300 |" in cost.table({"small": figures})
