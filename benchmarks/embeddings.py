"""What a training step costs with large embedding tables: lazy and plain Adam.

    .venv/bin/python -m benchmarks.embeddings --json runs/bench/embeddings.json

One student with one table of `rows` x 16, trained on batches in memory. Plain Adam takes a dense
gradient of the whole table and moves all of its rows; the lazy one touches what the batch has.
"""

from __future__ import annotations

import gc
import resource
import statistics
import time
from typing import Any

from benchmarks import result

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
            # See `columns.TARGETS`: the labels and their weights.
            "targets": tf.constant([random.integers(0, 2, BATCH), np.ones(BATCH)], tf.float32),
        }
        for _ in range(5)
    ]
    taken = []
    for number in range(3 + steps):
        started = time.perf_counter()
        training.step(batches[number % len(batches)])
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
    for found in results:
        by_size.setdefault(found["rows"], {})[found["optimizer"]] = found["ms"]
    lines = ["| rows | plain Adam, ms a step | lazy, ms a step | times |", "|---|---|---|---|"]
    for rows, ms in by_size.items():
        lines.append(
            f"| {rows:,} | {ms['plain']:.1f} | {ms['lazy']:.1f} | {ms['plain'] / ms['lazy']:.1f} |"
        )
    return "\n".join(lines)


def main() -> None:
    """Measures and prints."""
    parser = result.parser(__doc__)
    parser.add_argument("--rows", type=int, nargs="+", help="of the table")
    asked = parser.parse_args()
    sizes = asked.rows or ((10_000, 1_000_000) if asked.small else ROWS)
    steps = 4 * asked.runs
    results = []
    for rows in sizes:
        for lazy in (True, False):
            results.append(measure(rows, lazy=lazy, steps=steps))
            gc.collect()
    lazy_ms, plain_ms = (r["ms"] for r in results[-2:])
    found = {"ratio_plain_to_lazy": plain_ms / lazy_ms, "rows": sizes[-1], "results": results}
    result.show(found, table(results), asked.json)


if __name__ == "__main__":
    main()
