"""The other column metrics, against scikit-learn; and that partitions of queries merge."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.metrics import log_loss, mean_absolute_error, ndcg_score, roc_auc_score
from tensorflow_model_analysis import constants
from tensorflow_model_analysis.metrics import metric_types

from tfx_distill.components.area_under_curve import AreaUnderCurve, ScoreCounts
from tfx_distill.components.column_metric import ColumnMetric, ScoredColumns
from tfx_distill.components.grouped_auc import GroupedAuc
from tfx_distill.components.mean_metrics import (
    AbsoluteError,
    CalibrationRatio,
    Examples,
    LogLoss,
    NotFinite,
    SquaredError,
    WeightedExamples,
)
from tfx_distill.components.query_ndcg import QueryNdcg, ndcg


def columns(seed: int, rows: int = 400, *, regression: bool = False) -> ScoredColumns:
    rng = np.random.default_rng(seed)
    prediction = rng.random(rows).round(2).astype(np.float32)
    label = rng.gamma(1, 1, rows) if regression else (rng.random(rows) < prediction)
    return ScoredColumns(
        query=np.sort(rng.integers(0, rows // 8, rows)),
        label=label.astype(np.float64),
        prediction=prediction,
        weight=(rng.random(rows) < 0.8).astype(np.float64),
    )


def combined(metric: ColumnMetric, parts: list[ScoredColumns]) -> float:
    """The metric as TFMA computes it: a combiner over extracts."""
    (computation,) = metric.computations(model_names=["m"], output_names=["t"])
    combiner, accumulators = computation.combiner, []
    for part in parts:
        extract = {
            constants.FEATURES_KEY: {"query_id": part.query},
            constants.LABELS_KEY: {"t": part.label},
            constants.EXAMPLE_WEIGHTS_KEY: {"t": part.weight},
            constants.PREDICTIONS_KEY: {"m": {"t": part.prediction}},
        }
        accumulators.append(combiner.add_input(combiner.create_accumulator(), extract))
    (item,) = combiner.extract_output(combiner.merge_accumulators(accumulators)).items()
    assert item[0] == metric_types.MetricKey(metric.name, model_name="m", output_name="t")
    return float(item[1])


def rows_of(data: ScoredColumns, mask: NDArray[np.bool_]) -> ScoredColumns:
    return ScoredColumns(
        data.query[mask], data.label[mask], data.prediction[mask], data.weight[mask]
    )


def ndcg_by_scikit_learn(data: ScoredColumns, k: int) -> float:
    values = []
    for one in np.unique(data.query):
        mask = (data.query == one) & (data.weight > 0)
        if mask.sum() > 1 and data.label[mask].max() > 0:
            values.append(ndcg_score([data.label[mask]], [data.prediction[mask]], k=k))
    return float(np.mean(values))


@pytest.mark.parametrize("seed", range(5))
def test_equal_scikit_learn(seed: int) -> None:
    data = columns(seed)
    used = data.weight > 0
    y, p = data.label[used], data.prediction[used]
    assert combined(AreaUnderCurve(), [data]) == pytest.approx(roc_auc_score(y, p), abs=1e-12)
    expected = log_loss(y, np.clip(p.astype(float), 2.0**-23, 1 - 2.0**-23))
    assert combined(LogLoss(), [data]) == pytest.approx(expected, abs=1e-9)
    assert combined(CalibrationRatio(), [data]) == pytest.approx(p.sum() / y.sum(), rel=1e-6)
    for k in (1, 3, 10):
        expected = ndcg_by_scikit_learn(data, k)
        assert combined(QueryNdcg(top_k=k), [data]) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("seed", range(3))
def test_regression_equals_scikit_learn(seed: int) -> None:
    data = columns(seed, regression=True)
    used = data.weight > 0
    y, p = data.label[used], data.prediction[used].astype(float)
    assert combined(SquaredError(), [data]) == pytest.approx(np.mean((y - p) ** 2), abs=1e-9)
    assert combined(AbsoluteError(), [data]) == pytest.approx(mean_absolute_error(y, p), abs=1e-9)
    expected = ndcg_by_scikit_learn(data, 10)
    assert combined(QueryNdcg(top_k=10), [data]) == pytest.approx(expected, abs=1e-9)


def test_ndcg_by_hand() -> None:
    # Places of the gains 3, 0, 1 by prediction: 0, 3, 1.
    query, gain = np.array([4, 4, 4]), np.array([3.0, 0.0, 1.0])
    dcg = 3 / math.log2(3) + 1 / math.log2(4)
    best = 3 + 1 / math.log2(3)
    assert ndcg(query, gain, np.array([0.5, 0.9, 0.1]), 10) == pytest.approx([dcg / best, 1])
    assert ndcg(query, gain, np.array([0.5, 0.9, 0.1]), 1) == pytest.approx([0, 1])


def test_queries_that_cannot_be_ranked_are_left_out() -> None:
    query, gain = np.array([1, 2, 2, 3, 3]), np.array([1.0, 0.0, 0.0, 0.0, 1.0])
    prediction = np.array([0.3, 0.1, 0.2, 0.8, 0.9])
    assert list(ndcg(query, gain, prediction, 10)) == [1, 1]
    assert math.isnan(QueryNdcg(top_k=10).value(ndcg(query[:3], gain[:3], prediction[:3], 10)))


def test_a_gain_below_zero_has_no_ndcg() -> None:
    assert np.isnan(ndcg(np.array([1, 1]), np.array([-1.0, 1.0]), np.array([0.1, 0.2]), 10)).all()


METRICS = (
    AreaUnderCurve(),
    LogLoss(),
    GroupedAuc(),
    QueryNdcg(top_k=10),
    CalibrationRatio(),
    SquaredError(),
    AbsoluteError(),
    Examples(),
    WeightedExamples(),
    NotFinite(),
)


@given(st.integers(0, 10**6), st.integers(2, 5))
def test_partitions_of_queries_give_the_value_of_the_whole(seed: int, partitions: int) -> None:
    data = columns(seed, rows=80)
    parts = [rows_of(data, data.query % partitions == i) for i in range(partitions)]
    for metric in METRICS:
        whole = combined(metric, [data])
        assert combined(metric, parts) == pytest.approx(whole, nan_ok=True), metric.name


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_one_prediction_that_is_not_finite_makes_all_metrics_nan(bad: float) -> None:
    data = columns(0)
    data.prediction[np.flatnonzero(data.weight)[3]] = bad
    parts = [rows_of(data, data.query % 2 == i) for i in range(2)]
    for metric in METRICS[:7]:
        assert math.isnan(combined(metric, parts)), metric.name
    assert combined(NotFinite(), parts) == 1
    assert combined(Examples(), parts) == 400


def test_a_prediction_where_the_task_does_not_apply_does_not_count() -> None:
    data = columns(0)
    expected = combined(AreaUnderCurve(), [data])
    data.prediction[data.weight == 0] = np.nan
    assert combined(AreaUnderCurve(), [data]) == expected
    assert combined(NotFinite(), [data]) == 0


def test_nothing_to_measure_is_nan() -> None:
    nothing = rows_of(columns(0), np.zeros(400, dtype=bool))
    for metric in METRICS:
        assert math.isnan(combined(metric, [nothing])), metric.name


@pytest.mark.parametrize("limit", [1 << 10, 1 << 13])
def test_auc_of_more_scores_than_are_kept_apart(limit: int) -> None:
    rng = np.random.default_rng(0)
    # Hard on purpose: all scores within a narrow band, as those of rare events are.
    score = (0.02 + 0.01 * rng.random(40_000)).astype(np.float32)
    label = (rng.random(40_000) < 40 * (score - 0.0195)).astype(np.float64)
    counts = None
    for part in np.split(np.arange(40_000), 4):
        new = ScoreCounts.of(score[part], label[part], 1 - label[part], limit)
        counts = new if counts is None else counts.merged(new, limit)
    assert counts is not None
    assert len(counts.score) <= limit
    assert counts.positive.sum() == label.sum()
    assert counts.area() == pytest.approx(roc_auc_score(label, score), abs=0.1 / limit)
    exact = ScoreCounts.of(score, label, 1 - label, limit=1 << 20)
    assert exact.area() == pytest.approx(roc_auc_score(label, score), abs=1e-12)
