"""Measuring teacher labels: against hard labels, the teacher before, and time."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import special, stats

from tfx_distill.labels.moments import PairMoments
from tfx_distill.labels.quality import Quality, QualityMeter, TaskQuality, breaches
from tfx_distill.schema.stream_sections import LabelWatch

KINDS = {"click": "binary", "watch": "regression"}
HOUR = 3600


def floats(*values: float) -> np.ndarray:
    return np.array(values, np.float32)


def times(*hours: float) -> np.ndarray:
    return np.array([hour * HOUR for hour in hours], np.int64)


def test_figures_by_hand() -> None:
    meter = QualityMeter(KINDS, watermark=10 * HOUR)
    # sigmoid(ln 3) = 3/4, sigmoid(-ln 3) = 1/4, sigmoid(0) = 1/2.
    meter.add(
        times(11, 12, 14),
        {"click": floats(np.log(3), -np.log(3), 0), "watch": floats(1, 2, 3)},
        {"click": (floats(1, 0, 1), floats(1, 1, 1)), "watch": (floats(0, 0, 0), floats(1, 1, 1))},
    )
    # Of no weight: neither its prediction (1) nor its hard label counts.
    meter.add(
        times(20),
        {"click": floats(40), "watch": floats(6)},
        {"click": (floats(np.nan), floats(0)), "watch": (floats(0), floats(0))},
    )
    report = meter.report()
    assert (report.examples, report.coverage) == (4, 1.0)
    # (1 + 2 + 4 + 10) / 4 hours
    assert (report.staleness_mean_hours, report.staleness_max_hours) == (4.25, 10.0)
    click, watch = report.tasks["click"], report.tasks["watch"]
    assert (click.rows, click.mean) == (4, pytest.approx(10))
    # Predictions sum to 3/4 + 1/4 + 1/2 = 3/2, hard labels to 2.
    assert click.calibration == pytest.approx(0.75)
    # Each in a bin of its own: (|3/4 - 1| + |1/4 - 0| + |1/2 - 1|) / 3.
    assert click.calibration_error == pytest.approx(1 / 3)
    # Mean 3, squares (4 + 1 + 0 + 9) / 4.
    assert (watch.mean, watch.std) == (3.0, pytest.approx(3.5**0.5))
    assert (watch.calibration, watch.calibration_error) == (None, None)
    assert (click.compared, click.correlation, click.shift) == (0, None, None)


def test_comparison_by_hand() -> None:
    meter = QualityMeter(KINDS, None)
    meter.compare({"watch": floats(0, 2)}, {"watch": floats(3, 7), "click": floats(0, 0)})
    meter.compare({"watch": floats(4)}, {"watch": floats(5)})
    # before 0, 2, 4: mean 2, std sqrt(8/3); now 3, 7, 5: mean 5; products (-2)(-2) + 0 + 2*0 = 4.
    watch = meter.report().tasks["watch"]
    assert watch.compared == 3
    assert watch.correlation == pytest.approx(4 / 8)
    assert watch.shift == pytest.approx(3 / (8 / 3) ** 0.5)
    assert meter.report().tasks["click"].compared == 0


def test_examples_without_a_label_count_for_the_coverage_alone() -> None:
    meter = QualityMeter({"click": "binary"}, watermark=0)
    meter.add(
        times(1, 1000, 3, 5),
        {"click": floats(0, 99, 0, 0)},
        {"click": (floats(1, 1, 0, 1), floats(1, 1, 1, 1))},
        present=np.array([True, False, True, True]),
    )
    report = meter.report()
    assert (report.examples, report.coverage, report.staleness_max_hours) == (4, 0.75, 5.0)
    assert report.tasks["click"].mean == 0
    assert report.tasks["click"].calibration == pytest.approx(1.5 / 2)


def test_what_is_undefined_is_none_and_json() -> None:
    meter = QualityMeter(KINDS, watermark=None)
    nothing = TaskQuality(0, None, None, None, None, 0, None, None)
    assert meter.report() == Quality(0, None, None, None, dict.fromkeys(KINDS, nothing))
    none = np.zeros(0, np.float32)
    meter.add(times(), dict.fromkeys(KINDS, none), {"click": (none, none)})
    assert meter.report().tasks["click"] == nothing
    # No positive hard label, and labels of one value.
    meter.add(
        times(1, 2),
        dict.fromkeys(KINDS, floats(0.1, 0.1)),
        {"click": (floats(0, 0), floats(1, 1))},
    )
    meter.compare({"click": floats(0.1, 0.1)}, {"click": floats(1, 2)})
    report = meter.report()
    click = report.tasks["click"]
    assert (click.calibration, click.std, click.correlation, click.shift) == (None, 0.0, None, None)
    assert report.staleness_mean_hours is None
    written = json.loads(json.dumps(asdict(report), allow_nan=False))
    assert written["tasks"]["click"]["rows"] == 2


def test_bins_are_a_fifteenth_wide() -> None:
    meter = QualityMeter({"click": "binary"}, None)
    # sigmoid(+-0.05) lies in the same bin, 7/15 to 8/15; sigmoid(0.5) = 0.622 in that from 9/15.
    meter.add(
        times(1, 1, 1),
        {"click": floats(-0.05, 0.05, 0.5)},
        {"click": (floats(1, 0, 1), floats(1, 1, 2))},
    )
    click = meter.report().tasks["click"]
    # |0.4875 + 0.5125 - 1| = 0 and 2 * (1 - 0.62246), over a weight of 4.
    assert click.calibration_error == pytest.approx(2 * (1 - 0.6224593) / 4)


def test_huge_logits_are_probabilities_still() -> None:
    meter = QualityMeter({"click": "binary"}, None)
    with np.errstate(over="raise", invalid="raise"):
        meter.add(
            times(1, 1),
            {"click": floats(3e38, -3e38)},
            {"click": (floats(1, 0), floats(1, 1))},
        )
    click = meter.report().tasks["click"]
    assert (click.calibration, click.calibration_error) == (1.0, 0.0)


def test_what_does_not_fit_is_refused() -> None:
    meter = QualityMeter(KINDS, None)
    one = floats(1)
    with pytest.raises(ValueError, match="expected"):
        meter.add(times(1), {"click": one}, {})
    with pytest.raises(ValueError, match="hard labels of"):
        meter.add(times(1), dict.fromkeys(KINDS, one), {"like": (one, one)})
    for labels, hard, present in (
        (floats(1, 2), one, [True]),
        (one, floats(1, 2), [True]),
        (one, one, [True, False]),
    ):
        with pytest.raises(ValueError, match="shape"):
            meter.add(
                times(1),
                dict.fromkeys(KINDS, labels),
                {"click": (hard, hard)},
                np.array(present),
            )
    with pytest.raises(ValueError, match="task like"):
        meter.compare({"like": one}, {"like": one})
    with pytest.raises(ValueError, match="task click"):
        meter.compare({"click": one}, {"click": floats(1, 2)})
    with pytest.raises(ValueError, match="watermark"):
        meter.merge(QualityMeter(KINDS, 1))


# Numbers of one size, far from 0 or not: what naive sums of squares lose.
_SPREAD = st.floats(-1, 1, width=32)
_ROWS = st.lists(st.tuples(_SPREAD, _SPREAD), min_size=1, max_size=40)


def cut(values: np.ndarray, cuts: list[int]) -> list[np.ndarray]:
    return np.split(values, sorted(min(place, len(values)) for place in cuts))


@settings(max_examples=200, deadline=None)
@given(
    rows=_ROWS,
    offset=st.sampled_from([0.0, 1.0, -1e4, 1e6]),
    cuts=st.lists(st.integers(0, 40), max_size=4),
    split=st.integers(0, 5),
)
def test_moments_equal_those_of_the_whole(
    rows: list[tuple[float, float]], offset: float, cuts: list[int], split: int
) -> None:
    x, y = (np.array(column, np.float32) + np.float32(offset) for column in zip(*rows, strict=True))
    first, second = PairMoments(), PairMoments()
    for number, (part_x, part_y) in enumerate(zip(cut(x, cuts), cut(y, cuts), strict=True)):
        (first if number < split else second).add(part_x, part_y)
    first.merge(second)
    x, y = x.astype(np.float64), y.astype(np.float64)
    assert first.count == len(x)
    assert first.mean_x == pytest.approx(x.mean(), rel=1e-12, abs=1e-12)
    # What numpy itself loses: its mean is rounded at the size of the offset.
    tolerance = 1e-9 + abs(offset) * 1e-14
    assert first.std_x == pytest.approx(x.std(), rel=1e-9, abs=tolerance)
    constant = np.ptp(x) == 0 or np.ptp(y) == 0
    if constant:
        assert first.correlation is None
    elif min(x.std(), y.std()) > 1e-3:
        assert first.correlation == pytest.approx(stats.pearsonr(x, y)[0], rel=1e-6, abs=1e-6)
        assert first.shift == pytest.approx((y.mean() - x.mean()) / x.std(), rel=1e-6, abs=1e-6)


_EXAMPLE = st.tuples(
    st.floats(-4, 4, width=32), st.booleans(), st.sampled_from([0.0, 0.5, 1.0]), st.integers(0, 9)
)


@settings(max_examples=200, deadline=None)
@given(examples=st.lists(_EXAMPLE, min_size=1, max_size=60), cuts=st.lists(st.integers(0, 60)))
def test_calibration_equals_that_of_the_whole(
    examples: list[tuple[float, bool, float, int]], cuts: list[int]
) -> None:
    logit, label, weight, hour = (np.array(column) for column in zip(*examples, strict=True))
    meters = [QualityMeter({"click": "binary"}, 5 * HOUR) for _ in range(2)]
    parts = zip(
        *(
            cut(column, cuts)
            for column in (
                logit.astype(np.float32),
                label.astype(np.float32),
                weight.astype(np.float32),
                hour.astype(np.int64) * HOUR,
            )
        ),
        strict=True,
    )
    for number, (logits, labels, weights, event_time) in enumerate(parts):
        meters[number % 2].add(event_time, {"click": logits}, {"click": (labels, weights)})
    meters[0].merge(meters[1])
    report = meters[0].report()
    assert report.staleness_mean_hours == pytest.approx(np.mean(hour) - 5)
    assert report.staleness_max_hours == np.max(hour) - 5
    click = report.tasks["click"]
    expected = special.expit(logit)
    hard = np.average(label, weights=weight) if weight.any() else 0
    if hard == 0:
        assert click.calibration is None
    else:
        ratio = np.average(expected, weights=weight) / hard
        assert click.calibration == pytest.approx(ratio, rel=1e-9)
    if not weight.any():
        assert click.calibration_error is None
        return
    sums = stats.binned_statistic(expected, weight * (expected - label), "sum", 15, (0, 1))[0]
    assert click.calibration_error == pytest.approx(np.abs(sums).sum() / weight.sum(), abs=1e-9)


GOOD = TaskQuality(100, 0.0, 1.0, 1.0, 0.01, 50, 0.9, 0.1)


def quality(task: TaskQuality = GOOD, **changes: Any) -> Quality:
    return replace(Quality(100, 1.0, 24.0, 30.0, {"click": task}), **changes)


@pytest.mark.parametrize(
    ("task", "limits", "parts"),
    [
        ({"calibration": 1.3}, {}, ["click", "1.3 times", "0.8 to 1.25", "watch.calibration"]),
        ({"calibration": 0.79}, {}, ["click", "0.79 times", "0.8 to 1.25"]),
        ({"correlation": 0.7}, {}, ["click", "0.7,", "the 0.8", "min_agreement", "50 examples"]),
        ({"correlation": None}, {}, ["click", "no correlation", "min_agreement is 0.8"]),
        ({"shift": 0.6}, {}, ["click", "+0.6", "the 0.5", "max_shift", "50 examples"]),
        ({"shift": -0.6}, {}, ["click", "-0.6", "the 0.5", "max_shift"]),
        ({}, {"max_staleness_hours": 23.5}, ["24 hours", "the 23.5", "max_staleness_hours"]),
    ],
)
def test_a_broken_limit_is_told_with_both_numbers(
    task: dict[str, Any], limits: dict[str, Any], parts: list[str]
) -> None:
    (sentence,) = breaches(quality(replace(GOOD, **task)), LabelWatch(**limits))
    assert [part for part in parts if part not in sentence] == []
    assert sentence.endswith(".")
    # Switched off, the same figures break nothing.
    off = LabelWatch(calibration=None, min_agreement=None, max_shift=None)
    assert breaches(quality(replace(GOOD, **task)), off) == []


@pytest.mark.parametrize(
    "task",
    [
        {"calibration": 0.8, "correlation": 0.8, "shift": 0.5},
        {"calibration": 1.25, "shift": -0.5},
        {"calibration": None, "correlation": None, "shift": None, "compared": 1},
        {"calibration": None, "correlation": None, "shift": None, "compared": 0},
    ],
)
def test_limits_themselves_and_undefined_figures_break_nothing(task: dict[str, Any]) -> None:
    limits = LabelWatch(max_staleness_hours=24)
    assert breaches(quality(replace(GOOD, **task)), limits) == []
    assert breaches(quality(staleness_mean_hours=None), limits) == []


def test_all_broken_limits_are_told() -> None:
    bad = replace(GOOD, calibration=2.0, correlation=-0.5, shift=3.0)
    limits = LabelWatch(max_staleness_hours=1)
    found = breaches(quality(tasks={"click": bad, "like": bad}), limits)
    assert [sentence.split()[0] for sentence in found] == ["The", *["click:"] * 3, *["like:"] * 3]
