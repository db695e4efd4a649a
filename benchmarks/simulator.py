"""How fast the simulator writes logs, and how near that is to writing alone.

    .venv/bin/python -m benchmarks.simulator --json runs/bench/simulator.json

`ratio_to_writing` is the time that writing the finished tables as Parquet takes, over the time of
simulating and writing them.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from benchmarks import result
from benchmarks.turns import in_turns, medians, paired_ratio
from tfx_distill.datasets import simulator

SIMULATE, WRITE = "simulated and written", "written alone"


def measure(folder: Path, *, examples: int, runs: int) -> dict[str, Any]:
    """Seconds of a span, music and truth included.

    Args:
      folder: For everything that is written.
      examples: Of the video surface.
      runs: Of each way.
    """
    logs, copy = folder / "simulated", folder / "copied"
    config = simulator.SimulatorConfig(spans=1, examples_per_span=examples)

    def simulate() -> None:
        shutil.rmtree(logs, ignore_errors=True)
        simulator.write(logs, config)

    simulate()
    tables = [pq.read_table(file) for file in sorted(logs.rglob("*.parquet"))]

    def write() -> None:
        copy.mkdir(parents=True, exist_ok=True)
        for number, table in enumerate(tables):
            pq.write_table(table, copy / f"{number}.parquet", compression="zstd")

    seconds = in_turns({SIMULATE: simulate, WRITE: write}, runs)
    typical = medians(seconds)
    return {
        "ratio_to_writing": paired_ratio(seconds[WRITE], seconds[SIMULATE]),
        "examples": examples,
        "examples_per_second": {way: examples / typical[way] for way in typical},
        "runs": seconds,
    }


def main() -> None:
    """Measures and prints."""
    asked = result.parser(__doc__).parse_args()
    size = 50_000 if asked.small else 1_000_000
    found = measure(asked.into, examples=size, runs=asked.runs)
    rows = [[way, f"{rate:,.0f}"] for way, rate in found["examples_per_second"].items()]
    result.show(found, result.markdown(["examples/s", ""], rows), asked.json)


if __name__ == "__main__":
    main()
