"""`kill -9` at random moments costs a stream nothing but time; a small size of the benchmark."""

from __future__ import annotations

import pytest
from streamed import SMALL, TRAINING, student

from benchmarks.stream import kills, project

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]


def test_a_stream_that_is_killed_ends_like_one_that_is_not(tmp_path):
    size = {
        "spans": 3,
        "examples": 2000,
        "teacher": {"model": {"width": 2} | SMALL, "training": TRAINING},
        "students": [student("compact")],
    }
    calm, rough = tmp_path / "calm", tmp_path / "rough"
    gate = kills.open_gate()
    kills.undisturbed(project.write(calm, gate=gate, **size))
    # In the bootstrap and in the span after it, while a component runs.
    when = [(0, 0.6, 0.5), (1, 0.7, 0.2)]
    hit = kills.disturbed(project.write(rough, gate=gate, **size), when)
    assert [place.split(":")[0] for place in hit] == ["run 0", "run 1"]
    found = kills.difference(kills.outcome(calm), kills.outcome(rough))
    assert found["same_rows"]
    assert found["repeated_rows"] == 0
    assert found["rows"] > 2 * 2000
    assert found["largest_metric_difference"] == 0
    assert found["largest_label_difference"] == 0
