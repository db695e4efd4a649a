"""What `kill -9` costs a stream: nothing but time.

    .venv/bin/python -m benchmarks.stream.kills --kills 20 --into runs/kills

Runs a stream undisturbed; then the same stream again, killed at random moments and each time
continued by `distill run`, until it is through. Compares the metrics of every model of every span,
and the label table, row by row.
"""

from __future__ import annotations

import argparse
import json
import random
import re
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import polars as pl

from benchmarks.stream import project

COMMAND = [str(Path(sys.executable).with_name("distill")), "run"]


def open_gate() -> dict[str, Any]:
    """A gate that every model passes, so that all of a small stream is walked through."""
    tasks = {"click": "auc", "satisfaction": "auc", "watch_time": "mse", "ltv": "mse"}
    bounds = {"auc": {"min": 0.0}, "mse": {"max": 1e6}}
    thresholds = [{"task": task, "metric": name} | bounds[name] for task, name in tasks.items()]
    return {"students": thresholds, "teacher": thresholds}


def undisturbed(file: Path) -> float:
    """Runs the stream to its end; seconds."""
    start = time.monotonic()
    subprocess.run([*COMMAND, str(file)], check=True, capture_output=True)
    return time.monotonic() - start


def moments(kills: int, runs: int, seed: int) -> list[tuple[int, float, float]]:
    """Random moments of a stream, in order: number of the run, place in it, seconds after that.

    Args:
      kills: How many.
      runs: Runs of the stream, the bootstrap included.
      seed: Of the moments.
    """
    draw = random.Random(seed)
    return sorted((draw.randrange(runs), draw.random(), draw.uniform(0, 2)) for _ in range(kills))


def disturbed(file: Path, when: Sequence[tuple[int, float, float]]) -> list[str]:
    """Runs the stream, killing it at these moments and each time beginning again.

    Args:
      file: The config.
      when: From `moments`.

    Returns:
      What each of them hit: the run and the component; empty where the run was past it already.
    """
    hit = []
    records = file.parent / "runs/stream/spans"
    for run, place, seconds in when:
        number = len(list(records.glob("*.json"))) - 1
        with subprocess.Popen(
            [*COMMAND, str(file)], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
        ) as process:
            assert process.stderr is not None
            found = ""
            for line in process.stderr:
                step = re.match(r"\[(\d+)/(\d+)\] ([\w.]+)$", line)
                if step is None:
                    continue
                number += step[1] == "1"
                if (number, int(step[1]) / int(step[2])) >= (run, place):
                    found = f"run {number}: {step[3]}"
                    break
            time.sleep(seconds if found else 0)
            process.kill()
        hit.append(found)
    subprocess.run([*COMMAND, str(file)], check=True, capture_output=True)
    return hit


def outcome(folder: Path) -> dict[str, Any]:
    """The metrics of every span, and the label table without what names a model or a time."""
    records = sorted((folder / "runs/stream/spans").glob("*.json"))
    metrics = {
        file.stem: {
            student["name"]: student["metrics"]
            for student in json.loads(file.read_text())["students"]
        }
        for file in records
    }
    labels = (
        pl.scan_delta(str(folder / "runs/stream/labels"))
        .drop("teacher", "scored_at")
        .sort("span", "split", "example_id")
        .collect()
    )
    return {"metrics": metrics, "labels": labels}


def difference(one: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    """How far two outcomes are apart; zero everywhere if nothing was lost or done twice."""
    gaps = [0.0]

    def compare(a: Any, b: Any) -> None:
        if isinstance(a, dict):
            if a.keys() != b.keys():
                raise ValueError(f"{sorted(a)} against {sorted(b)}")
            for key in a:
                compare(a[key], b[key])
        elif a is not None:
            gaps.append(abs(a - b))

    compare(one["metrics"], other["metrics"])
    left, right = one["labels"], other["labels"]
    keys = ["span", "split", "example_id"]
    same_rows = left.select(keys).equals(right.select(keys))
    values = [name for name in left.columns if name not in keys]
    apart = (
        max(
            float((left[name].cast(pl.Float64) - right[name].cast(pl.Float64)).abs().max() or 0.0)
            for name in values
        )
        if same_rows
        else None
    )
    return {
        "largest_metric_difference": max(gaps),
        "rows": len(left),
        "same_rows": same_rows,
        "repeated_rows": int(right.select(keys).is_duplicated().sum()),
        "largest_label_difference": apart,
    }


def main() -> None:
    """Runs both and compares them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--spans", type=int, default=8)
    parser.add_argument("--examples", type=int, default=5_000, help="a span")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("--into", type=Path, default=Path("runs/kills"))
    asked = parser.parse_args()
    size = {"spans": asked.spans, "examples": asked.examples}
    calm, rough = asked.into / "calm", asked.into / "rough"
    seconds = undisturbed(project.write(calm, gate=open_gate(), **size))
    file = project.write(rough, gate=open_gate(), **size)
    # Two spans are the bootstrap.
    hit = disturbed(file, moments(asked.kills, asked.spans - 1, asked.seed))
    result = difference(outcome(calm), outcome(rough)) | {
        "kills": sum(map(bool, hit)),
        "hit": hit,
        "seconds_undisturbed": seconds,
    }
    (asked.into / "result.json").write_text(json.dumps(result, indent=1))
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
