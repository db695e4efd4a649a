"""Whether a long stream stays flat: seconds and memory of every span, in one process.

    .venv/bin/python -m benchmarks.stream.endurance --spans 30 --into runs/endurance

With `--examples 1000` nearly nothing is left to read, compute and write: what a span then takes is
the cost of orchestration.

Machines are not equally fast for a quarter of an hour, virtual ones least of all. So a fixed piece
of work is timed after each span, and times are compared in its units as well.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from tfx_distill.pipeline import run_log


def measure(folder: Path, *, spans: int, examples: int) -> dict[str, Any]:
    """Runs the stream from its start; seconds, memory and seconds by component of each run."""
    from benchmarks.stream import project
    from tfx_distill.pipeline import stream
    from tfx_distill.schema import config as run_config

    config = run_config.load(project.write(folder, spans=spans, examples=examples))
    if (config.run_folder / "metadata.sqlite").exists():
        raise SystemExit(f"{config.run_folder} holds a run: give another --into")
    rows = []
    for done in stream.run(config):
        if done.error is not None:
            raise done.error
        steps = {step.component: step.seconds for step in done.summary.steps}
        cpu = sum(step.cpu_seconds for step in done.summary.steps)
        rows.append(
            {
                "span": done.summary.last_span,
                "seconds": sum(steps.values()),
                "cpu_seconds": cpu,
                "resident_mib": done.summary.resident_mib,
                "yardstick": yardstick(),
                "steps": steps,
            }
        )
    return {"examples": examples, "spans": rows}


def yardstick() -> float:
    """Seconds that a fixed piece of work takes now, of interpreting and of moving memory."""
    taken = []
    for _ in range(3):
        started = time.perf_counter()
        numbers = np.random.default_rng(0).permutation(1_000_000)
        np.sort(numbers)
        sum(number % 7 for number in range(1_000_000))
        taken.append(time.perf_counter() - started)
    return statistics.median(taken)


def judge(rows: list[dict[str, Any]]) -> dict[str, float]:
    """Growth of memory and of time: ratios of the end to the beginning."""
    by_span = {row["span"]: row for row in rows}
    last = max(by_span)
    early = [by_span[s] for s in range(5, 11) if s in by_span]
    late = [by_span[s] for s in range(last - 4, last + 1)]

    def growth(of: Callable[[dict[str, Any]], float]) -> float:
        return statistics.mean(map(of, late)) / statistics.mean(map(of, early))

    return {
        "memory_ratio": by_span[last]["resident_mib"] / by_span[5]["resident_mib"],
        "time_ratio": growth(lambda row: row["seconds"]),
        "time_ratio_by_yardstick": growth(lambda row: row["seconds"] / row["yardstick"]),
        "median_seconds": statistics.median(row["seconds"] for row in rows[1:]),
        "median_cpu_seconds": statistics.median(row["cpu_seconds"] for row in rows[1:]),
    }


def table(result: dict[str, Any]) -> str:
    """Where the seconds of a span go, as Markdown: medians over the later half of the spans."""
    rows = result["spans"][len(result["spans"]) // 2 :]
    lines = ["| component | seconds a span |", "|---|---|"]
    names = sorted(
        rows[-1]["steps"], key=lambda n: -statistics.median(row["steps"].get(n, 0) for row in rows)
    )
    for name in names:
        seconds = statistics.median(row["steps"].get(name, 0) for row in rows)
        lines.append(f"| {name} | {seconds:.2f} |")
    total = statistics.median(row["seconds"] for row in rows)
    return "\n".join([*lines, f"| all | {total:.1f} |"])


def main() -> None:
    """Measures, prints and keeps the result."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--spans", type=int, default=30)
    parser.add_argument("--examples", type=int, default=20_000, help="a span")
    parser.add_argument("--into", type=Path, default=Path("runs/endurance"))
    asked = parser.parse_args()
    run_log.divert(asked.into)
    result = measure(asked.into, spans=asked.spans, examples=asked.examples)
    result["judgement"] = judge(result["spans"])
    (asked.into / "result.json").write_text(json.dumps(result, indent=1))
    for row in result["spans"]:
        print(f"span {row['span']}: {row['seconds']:.1f} s, {row['resident_mib']:,.0f} MiB")
    print(table(result))
    print(json.dumps(result["judgement"], indent=1))


if __name__ == "__main__":
    main()
