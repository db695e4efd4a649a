"""The arithmetic of the benchmarks of speed; the runs themselves are for `make bench`."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks import __main__ as every
from benchmarks import pipeline, result, scale, turns


def test_rounds_are_in_turns_and_the_first_does_not_count():
    called: list[str] = []
    ways = {"a": lambda: called.append("a"), "b": lambda: called.append("b")}
    seconds = turns.in_turns(ways, 3)
    assert called == ["a", "b"] * 4
    assert [len(values) for values in seconds.values()] == [3, 3]


def test_a_paired_ratio_is_the_median_of_ratios_not_the_ratio_of_medians():
    assert turns.paired_ratio([2.0, 8.0, 9.0], [1.0, 8.0, 3.0]) == 2.0
    assert turns.medians({"a": [3.0, 1.0, 2.0]}) == {"a": 2.0}


def test_a_drop_of_more_than_a_fifth_is_told_in_the_right_direction():
    stored = {"join": {"ratio_join": 1.0}, "input": {"ratio_disk_to_memory": 0.9}}
    same = {"join": {"ratio_join": 1.2}, "input": {"ratio_disk_to_memory": 0.73}}
    assert every.drops(stored, same) == []
    faster = {"join": {"ratio_join": 0.5}, "input": {"ratio_disk_to_memory": 1.9}}
    assert every.drops(stored, faster) == []
    slower = {"join": {"ratio_join": 1.3}, "input": {"ratio_disk_to_memory": 0.71}}
    assert every.drops(stored, slower) == [
        "join: ratio_join was 1.00, is 1.30",
        "input: ratio_disk_to_memory was 0.90, is 0.71",
    ]
    assert every.drops({}, slower) == []


def test_only_ratios_are_compared():
    assert result.ratios({"ratio_join": 1.0, "peak_mib": 900, "runs": {}}) == {"ratio_join": 1.0}


def test_a_result_is_printed_and_written(tmp_path: Path, capsys):
    result.show({"ratio_join": 1.25}, "| a |", tmp_path / "new" / "join.json")
    assert capsys.readouterr().out == "| a |\n\nratio_join: 1.25\n"
    assert (tmp_path / "new" / "join.json").read_text() == '{\n "ratio_join": 1.25\n}\n'


def test_fixed_cost_and_slope_of_a_component():
    runs = [
        {"examples": 10_000, "components": {"Transform": 12.0, "Pusher": 0.1}},
        {"examples": 510_000, "components": {"Transform": 62.0, "Pusher": 0.0}},
    ]
    parts = pipeline.lines(runs)
    assert parts["Transform"] == {"fixed": 11.0, "a_million": 100.0}
    assert parts["Pusher"] == {"fixed": 0.1, "a_million": 0.0}


@given(fixed=st.floats(0.01, 100), slope=st.floats(0.01, 1000))
def test_a_line_is_found_again(fixed: float, slope: float):
    sizes = [10_000, 100_000, 1_000_000, 10_000_000]
    found = scale.line(sizes, [fixed + slope * size / 1e6 for size in sizes])
    assert found == (pytest.approx(fixed, rel=1e-6), pytest.approx(slope, rel=1e-6))


def test_a_line_has_no_negative_part():
    assert scale.line([1_000_000, 2_000_000], [1.0, 4.0])[0] == 0.0


def test_machines_for_a_day():
    # 10 core-seconds a million: 1e9 take 10,000; 16 cores, half used, do 691,200 a day.
    assert scale.machines(10, 1_000_000_000) == 1
    assert scale.machines(10, 100_000_000_000) == math.ceil(1_000_000 / 691_200) == 2
