"""The arithmetic of the benchmarks; the runs themselves are for `make bench`."""

from __future__ import annotations

import json

import pytest
from scipy import stats

from benchmarks import startup, statistics
from benchmarks.quality import distillation


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
