"""What a training step costs with large embedding tables: lazy and plain Adam.

    .venv/bin/python -m benchmarks.embeddings --json runs/embeddings.json

One student with one table of `rows` x 16, trained on batches in memory. Plain Adam takes a dense
gradient of the whole table and moves all of its rows; the lazy one touches what the batch has.
"""

from __future__ import annotations

import argparse
import gc
import json
import resource
import statistics
import time
from pathlib import Path
from typing import Any

ROWS = (10_000, 20_000, 50_000, 100_000, 1_000_000, 10_000_000)
WIDTH = 16
BATCH = 4096


def measure(rows: int, *, lazy: bool, steps: int) -> dict[str, Any]:
    """Milliseconds of a step: median, least and most of `steps`."""
    import numpy as np
    import tensorflow as tf

    from tfx_distill.schema.config import (
        FeaturesConfig,
        ModelConfig,
        StudentConfig,
        TaskConfig,
        TrainingConfig,
    )
    from tfx_distill.trainer import heads
    from tfx_distill.trainer.training import Training

    training = Training(
        "embeddings",
        features=FeaturesConfig.model_validate(
            {"numeric": ["x"], "categorical": [{"name": "user", "buckets": rows - 1}]}
        ),
        model=ModelConfig(embedding=WIDTH),
        heads=heads.of_student(
            StudentConfig(name="s"),
            (TaskConfig(name="click", kind="binary", label="click"),),
            twin=True,
        ),
        training=TrainingConfig(batch_size=BATCH, lazy_rows=1 if lazy else None),
        seed=0,
        quiet=True,
    )
    random = np.random.default_rng(0)
    batches = [
        {
            "numeric": tf.constant(random.normal(size=(BATCH, 2)), tf.float32),
            "categorical": tf.constant(random.integers(0, rows, (BATCH, 1)), tf.int32),
            "labels": tf.constant(random.integers(0, 2, (BATCH, 1)), tf.float32),
            "weights": tf.ones([BATCH, 1]),
        }
        for _ in range(5)
    ]
    taken = []
    for number in range(3 + steps):
        started = time.perf_counter()
        training._step(batches[number % len(batches)])
        if number >= 3:
            taken.append(1000 * (time.perf_counter() - started))
    return {
        "rows": rows,
        "optimizer": "lazy" if lazy else "plain",
        "ms": statistics.median(taken),
        "least_ms": min(taken),
        "most_ms": max(taken),
        "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


def table(results: list[dict[str, Any]]) -> str:
    """The measurements as Markdown, a line for each size."""
    by_size: dict[int, dict[str, float]] = {}
    for result in results:
        by_size.setdefault(result["rows"], {})[result["optimizer"]] = result["ms"]
    lines = ["| rows | plain Adam, ms a step | lazy, ms a step | times |", "|---|---|---|---|"]
    for rows, ms in by_size.items():
        lines.append(
            f"| {rows:,} | {ms['plain']:.1f} | {ms['lazy']:.1f} | {ms['plain'] / ms['lazy']:.1f} |"
        )
    return "\n".join(lines)


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, nargs="+", default=ROWS)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args()
    results = []
    for rows in asked.rows:
        for lazy in (True, False):
            results.append(measure(rows, lazy=lazy, steps=asked.steps))
            gc.collect()
    if asked.json is not None:
        asked.json.parent.mkdir(parents=True, exist_ok=True)
        asked.json.write_text(json.dumps(results, indent=1))
    print(table(results))


if __name__ == "__main__":
    main()
