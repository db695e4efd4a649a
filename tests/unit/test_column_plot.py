"""The curves behind TFMA's plots, against scikit-learn and sums worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from sklearn.metrics import roc_curve
from tensorflow_model_analysis.metrics import metric_types

from tfx_distill.components import column_plot
from tfx_distill.components.column_metric import ScoredColumns
from tfx_distill.components.column_plot import ColumnPlot, PredictionSums


def columns(label: list[float], prediction: list[float], weight: list[float]) -> ScoredColumns:
    return ScoredColumns(
        np.arange(len(label)),
        np.array(label),
        np.array(prediction, np.float32),
        np.array(weight),
    )


SMALL = columns([0, 1, 0, 1], [0.25, 0.25, 0.5, 0.75], [1, 2, 1, 4])


def test_sums_are_those_of_equal_predictions() -> None:
    sums = PredictionSums.of(SMALL)
    assert sums.score.tolist() == [0.25, 0.5, 0.75]
    assert sums.weight.tolist() == [3, 1, 4]
    assert sums.label.tolist() == [2, 0, 4]
    assert sums.prediction.tolist() == [0.75, 0.5, 3.0]


def test_negative_predictions_rise_too() -> None:
    sums = PredictionSums.of(columns([0, 0, 1, 0], [-0.5, 2, 0, -8], [1, 1, 1, 1]))
    assert sums.score.tolist() == [-8, -0.5, 0, 2]
    assert sums.label.tolist() == [0, 0, 1, 0]


@given(
    npst.arrays(
        np.float32,
        st.integers(2, 60),
        elements=st.floats(-100, 100, width=32, allow_subnormal=False),
    ),
    st.data(),
)
def test_parts_add_up_to_the_whole(prediction: np.ndarray, data: st.DataObject) -> None:
    cut = data.draw(st.integers(1, len(prediction) - 1))
    rows = np.arange(len(prediction))
    whole = ScoredColumns(rows, (rows % 2).astype(float), prediction, 1.0 + rows)

    def part(chosen: slice) -> PredictionSums:
        return PredictionSums.of(
            ScoredColumns(
                rows[chosen], whole.label[chosen], prediction[chosen], whole.weight[chosen]
            )
        )

    joined, once = part(slice(cut)) + part(slice(cut, None)), PredictionSums.of(whole)
    distinct = np.unique(once.score)
    assert joined.score.tolist() == distinct.tolist()
    for name in ("weight", "label", "prediction"):
        expected = [getattr(once, name)[once.score == s].sum() for s in distinct]
        np.testing.assert_allclose(getattr(joined, name), expected, rtol=1e-12, atol=1e-12)
    assert joined.weight.sum() == pytest.approx(whole.weight.sum())
    assert joined.prediction.sum() == pytest.approx((whole.weight * prediction).sum(), abs=1e-6)


def test_nearly_equal_predictions_are_counted_together() -> None:
    """A float32 has 23 bits of fraction; 9 of them are kept: steps of 1/1024 below 1."""
    rows = 100_000
    prediction = np.random.default_rng(1).random(rows).astype(np.float32)
    sums = PredictionSums.of(
        ScoredColumns(np.arange(rows), np.zeros(rows), prediction, np.ones(rows))
    )
    assert len(sums.score) < 6_000
    mean = sums.prediction / sums.weight
    assert (mean >= sums.score).all()
    assert (mean - sums.score <= sums.score * 2**-9 + 1e-12).all()


def test_calibration_has_every_example_in_the_bucket_of_its_prediction() -> None:
    proto = column_plot.calibration(PredictionSums.of(SMALL))
    assert len(proto.buckets) == column_plot.BUCKETS + 2
    assert proto.buckets[0].lower_threshold_inclusive == -np.inf
    assert proto.buckets[-1].upper_threshold_exclusive == np.inf
    filled = [b for b in proto.buckets if b.num_weighted_examples.value]
    assert [b.num_weighted_examples.value for b in filled] == [3, 1, 4]
    assert [b.total_weighted_label.value for b in filled] == [2, 0, 4]
    assert [b.total_weighted_refined_prediction.value for b in filled] == [0.75, 0.5, 3.0]
    for bucket, prediction in zip(filled, (0.25, 0.5, 0.75), strict=True):
        assert bucket.lower_threshold_inclusive <= prediction < bucket.upper_threshold_exclusive
    for left, right in zip(proto.buckets, proto.buckets[1:], strict=False):
        assert left.upper_threshold_exclusive == right.lower_threshold_inclusive


def test_one_prediction_for_all_is_one_bucket() -> None:
    proto = column_plot.calibration(PredictionSums.of(columns([0, 1], [0.5, 0.5], [1, 1])))
    assert [
        b.num_weighted_examples.value for b in proto.buckets if b.num_weighted_examples.value
    ] == [2]


def test_confusion_by_hand() -> None:
    proto = column_plot.confusion(PredictionSums.of(SMALL))
    found = [
        (m.true_positives, m.false_positives, m.true_negatives, m.false_negatives)
        for m in proto.matrices
    ]
    assert found == [(6, 2, 0, 0), (4, 1, 1, 2), (4, 0, 2, 2), (0, 0, 2, 6)]
    assert [m.threshold for m in proto.matrices] == pytest.approx([0.25, 0.5, 0.75, 0.75])
    last = proto.matrices[-1]
    assert (last.true_positives, last.false_positives, last.precision, last.recall) == (0, 0, 1, 0)
    middle = proto.matrices[1]
    assert (middle.precision, middle.recall) == (pytest.approx(0.8), pytest.approx(4 / 6))


def test_the_roc_curve_is_that_of_scikit_learn() -> None:
    rng = np.random.default_rng(7)
    prediction = np.round(rng.beta(2, 6, 5_000) * 128) / 128  # exact in the bits that are kept
    label = (rng.random(5_000) < prediction).astype(float)
    weight = rng.integers(1, 4, 5_000).astype(float)
    sums = PredictionSums.of(columns(label.tolist(), prediction.tolist(), weight.tolist()))
    proto = column_plot.confusion(sums)
    fpr, tpr, thresholds = roc_curve(
        label, prediction, sample_weight=weight, drop_intermediate=False
    )
    expected = {round(t, 9): (f, r) for t, f, r in zip(thresholds, fpr, tpr, strict=True)}
    compared = 0
    for m in proto.matrices[:-1]:
        false_rate = m.false_positives / (m.false_positives + m.true_negatives)
        assert (false_rate, m.recall) == pytest.approx(expected[round(m.threshold, 9)])
        compared += 1
    assert compared > 50
    assert len(column_plot.confusion(sums).matrices) <= column_plot.THRESHOLDS + 1


def test_keys_are_those_under_which_tfma_joins_its_plots() -> None:
    key = metric_types.MetricKey(
        name="plots", model_name="a", output_name="b", example_weighted=True
    )
    keys = ColumnPlot().keys(key)
    assert [k.name for k in keys] == ["calibration_plot", "confusion_matrix_plot"]
    assert all(isinstance(k, metric_types.PlotKey) for k in keys)
    assert [k.name for k in ColumnPlot(thresholds=False).keys(key)] == ["calibration_plot"]


@pytest.mark.parametrize("thresholds", [True, False])
def test_nothing_to_plot_is_an_empty_plot(thresholds: bool) -> None:
    plot = ColumnPlot(thresholds=thresholds)
    assert [proto.ByteSize() for proto in plot.results(None)] == [0] * (1 + thresholds)
