"""Stored predictions of simulated models, in the columns of an evaluation.

Labels follow a logit or a value that varies by query and by example; a model knows it but for noise
of its own, again by query and by example. Two models of equal noise are equally good.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from tfx_distill.schema.config import Kind


@dataclass(frozen=True)
class Simulation:
    """What to simulate.

    Attributes:
      queries: How many.
      rows_per_query: Mean; each query has at least one.
      kinds: Kind of each task; the second and later ones apply where the first label is not 0, if
        `conditional`.
      noise: Standard deviation of a model's noise, by model.
      values: How many values each slice column has, by column; those of the first column belong to
        queries, others to examples.
      conditional: See `kinds`.
    """

    queries: int
    rows_per_query: float
    kinds: Mapping[str, Kind]
    noise: Mapping[str, float]
    values: Mapping[str, int]
    conditional: bool = False

    @property
    def models(self) -> dict[str, Sequence[str]]:
        """Tasks of each model: all."""
        return {model: tuple(self.kinds) for model in self.noise}


def table(simulation: Simulation, seed: int) -> pa.Table:
    """Draws predictions; see `Simulation`."""
    rng = np.random.default_rng(seed)
    size = 1 + rng.poisson(simulation.rows_per_query - 1, simulation.queries)
    ids = rng.integers(-(2**63), 2**63 - 1, simulation.queries)
    place = np.repeat(np.arange(simulation.queries), size)
    rows = len(place)

    def effects(scale: float) -> np.ndarray:
        of_query, of_row = rng.normal(0, scale, simulation.queries), rng.normal(0, scale, rows)
        return of_query[place] + of_row

    out = {"example_id": np.arange(rows), "query_id": ids[place]}
    for number, (name, values) in enumerate(simulation.values.items()):
        by_query = rng.integers(0, values, simulation.queries)[place]
        out[name] = rng.integers(0, values, rows) if number else by_query
    applies = np.ones(rows, np.float32)
    for number, (task, kind) in enumerate(simulation.kinds.items()):
        truth = effects(0.8)
        if kind == "binary":
            label = (rng.random(rows) < 1 / (1 + np.exp(1 - truth))).astype(np.float32)
        else:
            label = (truth + rng.normal(0, 1, rows) + 3).clip(0).astype(np.float32)
        if number and simulation.conditional:
            applies = (out[f"label_{next(iter(simulation.kinds))}"] > 0).astype(np.float32)
        out |= {f"label_{task}": label, f"weight_{task}": applies}
        for model, noise in simulation.noise.items():
            known = truth + effects(noise)
            predicted = 1 / (1 + np.exp(1 - known)) if kind == "binary" else known + 3
            out[f"{model}/{task}"] = predicted.astype(np.float32)
    return pa.table(out)


def write(simulation: Simulation, seed: int, folder: Path, files: int = 1) -> list[Path]:
    """Writes `table` to files of about equal size."""
    whole = table(simulation, seed)
    folder.mkdir(parents=True, exist_ok=True)
    bounds = np.linspace(0, len(whole), files + 1).astype(int)
    paths = []
    for number in range(files):
        path = folder / f"part-{number:05d}.parquet"
        pq.write_table(whole.slice(bounds[number], bounds[number + 1] - bounds[number]), path)
        paths.append(path)
    return paths
