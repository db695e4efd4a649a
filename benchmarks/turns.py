"""Timing several ways of doing one thing in turns: a slow moment of the machine hits them all."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping


def in_turns(ways: Mapping[str, Callable[[], object]], runs: int) -> dict[str, list[float]]:
    """Seconds of each run, by way: one round that does not count, then `runs` rounds."""
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(runs + 1):
        for name, way in ways.items():
            started = time.perf_counter()
            way()
            if number:  # what a process pays once is paid
                seconds[name].append(time.perf_counter() - started)
    return seconds


def medians(seconds: Mapping[str, list[float]]) -> dict[str, float]:
    """Of the runs of each way."""
    return {name: statistics.median(values) for name, values in seconds.items()}


def paired_ratio(above: list[float], below: list[float]) -> float:
    """Median over the rounds of one way's seconds over another's."""
    return statistics.median(a / b for a, b in zip(above, below, strict=True))
