"""The arithmetic of the benchmarks of streams; the runs themselves are for `make bench-stream`."""

from __future__ import annotations

import polars as pl
import pytest

from benchmarks.stream import endurance, kills, second_student


def outcome(logits, metric=0.7, span=1):
    return {
        "metrics": {"000001": {"compact": {"candidate": {"click": {"auc": metric, "gauc": None}}}}},
        "labels": pl.DataFrame(
            {
                "example_id": list(range(len(logits))),
                "logit_click": logits,
                "span": [span] * len(logits),
                "split": ["train"] * len(logits),
            }
        ),
    }


def test_equal_outcomes_do_not_differ():
    found = kills.difference(outcome([0.5, 1.0]), outcome([0.5, 1.0]))
    assert found == {
        "largest_metric_difference": 0.0,
        "rows": 2,
        "same_rows": True,
        "repeated_rows": 0,
        "largest_label_difference": 0.0,
    }


def test_differences_are_found():
    found = kills.difference(outcome([0.5, 1.0]), outcome([0.5, 1.25], metric=0.6))
    assert found["largest_metric_difference"] == pytest.approx(0.1)
    assert found["largest_label_difference"] == pytest.approx(0.25)
    twice = outcome([0.5, 1.0])
    twice["labels"] = pl.concat([twice["labels"]] * 2)
    found = kills.difference(outcome([0.5, 1.0]), twice)
    assert (found["same_rows"], found["repeated_rows"]) == (False, 4)
    missing = outcome([0.5, 1.0])
    missing["metrics"] = {}
    with pytest.raises(ValueError, match="000001"):
        kills.difference(outcome([0.5, 1.0]), missing)


def test_moments_are_spread_over_the_runs():
    found = kills.moments(200, 7, seed=0)
    assert found == sorted(found)
    assert {run for run, _, _ in found} == set(range(7))
    assert all(0 <= place < 1 and 0 <= seconds <= 2 for _, place, seconds in found)
    assert kills.moments(200, 7, seed=1) != found


def test_growth_is_the_end_over_the_beginning():
    rows = [
        {
            "span": span,
            "seconds": 10.0 if span < 20 else 12.0,
            "cpu_seconds": 5.0,
            # The machine slowed down by as much as a half of the growth.
            "yardstick": 1.0 if span < 20 else 1.1,
            "resident_mib": 1000 + span,
            "steps": {"StatisticsGen": 4.0, "TeacherTrainer": 6.0 + span},
        }
        for span in range(1, 30)
    ]
    found = endurance.judge(rows)
    assert found["time_ratio"] == pytest.approx(1.2)
    assert found["time_ratio_by_yardstick"] == pytest.approx(1.2 / 1.1)
    assert found["memory_ratio"] == pytest.approx(1029 / 1005)
    table = endurance.table({"spans": rows}).splitlines()
    assert table[2].startswith("| TeacherTrainer | 28.00")


def test_a_student_is_compared_with_its_twin():
    runs = [
        {"seconds": {"StudentTrainer.a": 3.3, "TwinTrainer.a": 3.0, "TeacherTrainer": 9.0}},
        {"seconds": {"StudentTrainer.a": 3.0, "TwinTrainer.a": 3.0, "StudentTrainer.b": 1.0}},
    ]
    assert second_student.ratios(runs) == {"a": pytest.approx(1.05)}
