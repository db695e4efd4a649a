"""Parts of the simulator alone: candidates of a list, intercepts that meet the rates."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from tfx_distill.datasets import impressions

CONFIGS = Path(__file__).parents[2] / "configs"
LABELS = {"clicked", "watch_s", "satisfied", "ltv", "listen_s", "playlist_add"}


def test_candidates_hold_enough_distinct_items() -> None:
    r = np.random.default_rng(0)
    popularity = np.float32(1.0) / np.arange(1, 201, dtype=np.float32) ** 3
    found = impressions._candidates(popularity, r, 500)
    assert found.shape == (500, 48)
    assert (np.diff(found, axis=1) >= 0).all()
    assert min(len(set(row)) for row in found.tolist()) >= 20


def test_calibration_finds_the_intercepts() -> None:
    zeros = np.zeros(100, dtype=np.float32)
    flat = impressions.Outcome(zeros, zeros + 0.5, zeros, zeros, zeros, zeros)
    # 0.5 * sigmoid(c) = 0.1 where sigmoid(c) = 0.2: c = log(0.2 / 0.8).
    found = impressions.calibrate([flat, dataclasses.replace(flat)], 0.1, 0.3)
    assert found.click == pytest.approx(np.log(0.25), abs=1e-4)
    assert found.satisfaction == pytest.approx(np.log(3 / 7), abs=1e-4)
