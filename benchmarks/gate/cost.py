"""What the intervals of the gate cost: seconds on one core, and memory.

    .venv/bin/python -m benchmarks.gate.cost --into runs/gate

200,000 simulated rows of the eval split, four tasks, three models, 20 slices of five columns, 1,000
replicates; once with about 30 rows a query, once with one. And 4 million rows of 20,000 queries
with a column of 200 values, whose sums would be 1.5 GiB if they were held together. Each case is
measured in a process of its own that may use one core and one thread.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

REPLICATES = 1_000
LIMIT_GIB = 2
ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")


@dataclass(frozen=True)
class Case:
    """An evaluation.

    Attributes:
      queries: How many.
      rows_per_query: Mean.
      values: How many values each slice column has.
      parts: They are simulated one after the other: memory is to be that of the bootstrap.
      limit_seconds: What it may cost.
    """

    queries: int
    rows_per_query: int
    values: Mapping[str, int]
    parts: int = 1
    limit_seconds: float = 20


COLUMNS = dict.fromkeys(("device", "country", "new_item", "hour", "source"), 4)
CASES = {
    "30 rows a query": Case(queries=200_000 // 30, rows_per_query=30, values=COLUMNS),
    "one row a query": Case(queries=200_000, rows_per_query=1, values=COLUMNS),
    "200 slices": Case(
        queries=20_000,
        rows_per_query=200,
        values={"device": 4, "item": 200},
        parts=20,
        limit_seconds=300,
    ),
}


def measure(case: Case) -> dict[str, Any]:
    """Figures of one case, in this process."""
    # Where these are imported, numpy has seen how many threads it may use.
    from benchmarks.gate import simulated
    from tfx_distill.components.intervals import bootstrap

    simulation = simulated.Simulation(
        queries=case.queries // case.parts,
        rows_per_query=case.rows_per_query,
        kinds={"click": "binary", "like": "binary", "time": "regression", "value": "regression"},
        noise={"candidate": 0.5, "baseline": 0.5, "twin": 0.6},
        values=case.values,
    )
    with tempfile.TemporaryDirectory() as folder:
        files = [
            file
            for part in range(case.parts)
            for file in simulated.write(simulation, part, Path(folder) / str(part), files=4)
        ]
        before = _peak_gib()
        wall, cpu = time.monotonic(), time.process_time()
        found = bootstrap(
            files,
            simulation.models,
            simulation.kinds,
            list(simulation.values),
            ndcg_at=10,
            confidence=0.95,
            replicates=REPLICATES,
            seed=0,
        )
        return {
            "queries": case.queries,
            "estimates": len(found.estimates),
            "differences": len(found.differences),
            "seconds": time.monotonic() - wall,
            "cpu_seconds": time.process_time() - cpu,
            "peak_gib": _peak_gib(),
            "peak_gib_of_imports_and_data": before,
        }


def _peak_gib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def table(result: dict[str, dict[str, Any]]) -> str:
    """The figures as Markdown."""
    lines = [
        "| | queries | seconds | CPU s | peak GiB | of which imports | estimates | differences |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for case, row in result.items():
        lines.append(
            f"| {case} | {row['queries']:,} | {row['seconds']:.1f} | {row['cpu_seconds']:.1f} | "
            f"{row['peak_gib']:.2f} | {row['peak_gib_of_imports_and_data']:.2f} | "
            f"{row['estimates']:,} | {row['differences']:,} |"
        )
    return "\n".join(lines)


def main() -> None:
    """Measures all cases."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--into", type=Path, default=Path("runs/gate"))
    parser.add_argument("--case", choices=CASES, help="measure this one in this process")
    arguments = parser.parse_args()
    if arguments.case:
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
        print(json.dumps(measure(CASES[arguments.case])))
        return
    result = {}
    for case in CASES:
        command = [sys.executable, "-m", "benchmarks.gate.cost", "--case", case]
        done = subprocess.run(
            command, env=os.environ | ONE_THREAD, check=True, stdout=subprocess.PIPE, text=True
        )
        result[case] = json.loads(done.stdout.splitlines()[-1])
    arguments.into.mkdir(parents=True, exist_ok=True)
    (arguments.into / "cost.json").write_text(json.dumps(result, indent=1))
    print(table(result))
    print(json.dumps(result))
    for case, row in result.items():
        limit = CASES[case].limit_seconds
        if row["cpu_seconds"] > limit or row["peak_gib"] > LIMIT_GIB:
            raise SystemExit(f"{case}: over {limit} s or {LIMIT_GIB} GiB.")


if __name__ == "__main__":
    main()
