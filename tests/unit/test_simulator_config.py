"""Streams that the simulator refuses to write."""

from __future__ import annotations

from pathlib import Path

import pytest

from tfx_distill.datasets.simulator import SimulatorConfig

CONFIGS = Path(__file__).parents[2] / "configs"
LABELS = {"clicked", "watch_s", "satisfied", "ltv", "listen_s", "playlist_add"}


@pytest.mark.parametrize(
    "wrong", [{"examples_per_span": 10}, {"eval_fraction": 1.0}, {"click_rate": 0.0}, {"sede": 1}]
)
def test_impossible_streams_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        SimulatorConfig(**wrong)  # type: ignore[arg-type]
