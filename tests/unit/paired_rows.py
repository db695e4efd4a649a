"""Small stored predictions of a candidate and a baseline, with all that makes metrics difficult."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from tfx_distill.schema.config import Kind

KINDS: dict[str, Kind] = {"click": "binary", "time": "regression"}
MODELS: dict[str, Sequence[str]] = {
    "candidate": ("click", "time"),
    "baseline": ("click", "time"),
    "twin": ("click",),
}
SLICES = ("device", "new_item")


def rows(seed: int, queries: int = 40, size: int = 9) -> dict[str, Any]:
    """Columns by name: ties, queries of one row, a task that does not always apply, null slices."""
    rng = np.random.default_rng(seed)
    sizes = rng.integers(1, 2 * size, queries)
    query = np.repeat(rng.integers(-(2**62), 2**62, queries), sizes)
    count = len(query)
    click = (rng.random(count) < 0.4).astype(np.float32)
    out = {
        "example_id": np.arange(count),
        "query_id": query,
        "device": rng.choice(["phone", "tv", None], count),
        "new_item": rng.integers(0, 2, count),
        "label_click": click,
        "weight_click": (rng.random(count) < 0.9).astype(np.float32),
        "label_time": rng.gamma(1, 1, count).astype(np.float32),
        "weight_time": click,
    }
    for model, tasks in MODELS.items():
        for task in tasks:
            # Rounded, so that there are ties.
            out[f"{model}/{task}"] = rng.random(count).round(2).astype(np.float32)
    order = rng.permutation(count)
    return {name: column[order] for name, column in out.items()}


def write(columns: dict[str, Any], folder: Path, files: int = 3) -> list[Path]:
    """Stores the rows in several files; queries are torn apart."""
    folder.mkdir(parents=True, exist_ok=True)
    table = pa.table({name: pa.array(values) for name, values in columns.items()})
    bounds = np.linspace(0, len(table), files + 1).astype(int)
    paths = [folder / f"part-{number:05d}.parquet" for number in range(files)]
    for path, start, end in zip(paths, bounds, bounds[1:], strict=False):
        pq.write_table(table.slice(start, end - start), path)
    return paths
