"""Many evaluations of the same students, each on queries of its own, judged by the gate's own code.

The queries of an evaluation are drawn with replacement from a population of stored predictions: the
draws are independent, and what is true of a student is known without error.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from sklearn import metrics

from benchmarks.gate.power_rates import JUDGED, VERDICT, Gains, Judged, joint_refusal, oriented
from tfx_distill.components.bootstrap_result import Bootstrap
from tfx_distill.components.evaluation_result import OVERALL, Evaluated
from tfx_distill.components.gate_settings import GateSettings
from tfx_distill.components.intervals import bootstrap
from tfx_distill.components.judging import Metrics, judge
from tfx_distill.components.verdict import Check, Verdict
from tfx_distill.schema import columns
from tfx_distill.schema.config import Threshold

TASK = "click"
CONFIDENCE, REPLICATES = 0.95, 1_000
ON_A_SLICE = 3
"""How many times the loss over all examples a slice may lose, as in the shipped config."""


def true_gains(population: pa.Table, student: str, sound: str, slices: Sequence[str]) -> Gains:
    """What is true of a student in a whole population, by scikit-learn."""
    label = population[columns.label(TASK)].to_numpy()
    parts = {OVERALL: np.ones(len(label), bool)}
    for name in slices:
        for value in pc.unique(population[name]).drop_null().to_pylist():
            inside = pc.fill_null(pc.equal(population[name], value), False)
            parts[f"{name}={value}"] = inside.to_numpy()
    found: dict[tuple[str, str], float] = {}
    for part, rows in parts.items():
        ours, theirs = (population[name].to_numpy()[rows] for name in (student, sound))
        own = label[rows]
        auc = metrics.roc_auc_score(own, ours) - metrics.roc_auc_score(own, theirs)
        loss = metrics.log_loss(own, theirs) - metrics.log_loss(own, ours)
        found |= {(part, "auc"): float(auc), (part, "log_loss"): float(loss)}
    return found


class Population:
    """The stored predictions of many queries, from which evaluations are drawn.

    Args:
      table: See `power_students.make`; the rows of a query are side by side.
      slices: Columns to slice by.
    """

    def __init__(self, table: pa.Table, slices: Sequence[str]) -> None:
        self.table, self.slices = table, tuple(slices)
        query = table[columns.QUERY_ID].to_numpy()
        self._first = np.flatnonzero(np.r_[True, query[1:] != query[:-1]])
        self._size = np.diff(np.r_[self._first, len(query)])

    @property
    def queries(self) -> int:
        """How many there are."""
        return len(self._first)

    def evaluation(self, queries: int, seed: Sequence[int]) -> pa.Table:
        """Queries drawn with replacement; one that is drawn twice is two queries."""
        drawn = np.random.default_rng(seed).integers(0, self.queries, queries)
        first, size = self._first[drawn], self._size[drawn]
        before = np.cumsum(size) - size
        rows = np.repeat(first - before, size) + np.arange(size.sum())
        number = pa.array(np.repeat(np.arange(queries), size))
        table = self.table.take(pa.array(rows))
        return table.set_column(table.schema.get_field_index(columns.QUERY_ID), "query_id", number)


@lru_cache(maxsize=1)
def opened(file: Path, slices: tuple[str, ...]) -> Population:
    """The population of a file, which stays in memory."""
    return Population(pq.read_table(file).combine_chunks(), slices)


def judged(
    evaluation: pa.Table,
    student: str,
    sound: str,
    slices: Sequence[str],
    allowed: Sequence[float],
    truth: Gains,
    seed: int,
) -> Judged:
    """Has the gate judge a student against the sound one.

    Args:
      evaluation: Stored predictions by the names of the students.
      student: The candidate.
      sound: The baseline.
      slices: Columns to slice by.
      allowed: Losses to allow, in the units of each metric, one verdict for each.
      truth: Of the candidate.
      seed: Of the bootstrap.
    """
    names = {student: f"candidate/{TASK}", sound: f"baseline/{TASK}"}
    shared = [columns.QUERY_ID, *slices, columns.label(TASK), columns.weight(TASK)]
    table = evaluation.select([*shared, *names])
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "part-00000.parquet"
        pq.write_table(table.rename_columns([*shared, *names.values()]), file)
        found = resampled([file], slices, seed)
    verdicts = {loss: verdict(found, slices, _thresholds(loss), seed) for loss in allowed}
    whole = {d.metric: d for d in found.differences if d.slice == OVERALL and d.metric in JUDGED}
    return Judged(
        gain={m: oriented(m) * (d.value or 0.0) for m, d in whole.items()},
        error={m: d.standard_error or 0.0 for m, d in whole.items()},
        critical=next(iter(verdicts.values())).critical or 0.0,
        refused={
            loss: {m: not check.passed for m, check in overall(one).items()}
            | {VERDICT: not one.blessed}
            for loss, one in verdicts.items()
        },
        predicted={loss: joint_refusal(found, one, truth) for loss, one in verdicts.items()},
    )


def resampled(files: Sequence[Path], slices: Sequence[str], seed: int) -> Bootstrap:
    """The gate's bootstrap of a candidate and a baseline."""
    return bootstrap(
        files,
        {"candidate": (TASK,), "baseline": (TASK,)},
        {TASK: "binary"},
        slices,
        ndcg_at=10,
        confidence=CONFIDENCE,
        replicates=REPLICATES,
        seed=seed,
    )


def verdict(
    found: Bootstrap, slices: Sequence[str], thresholds: Sequence[Threshold], seed: int
) -> Verdict:
    """The gate's verdict; values are those of the bootstrap, which are the evaluation's."""
    settings = GateSettings(
        candidate="student",
        kinds={TASK: "binary"},
        thresholds=tuple(thresholds),
        slices=tuple(slices),
        ndcg_at=10,
        first="twin",
        confidence=CONFIDENCE,
        replicates=REPLICATES,
        min_slice_queries=100,
        seed=seed,
    )
    evaluated = Evaluated(
        models={"candidate": (TASK,), "baseline": (TASK,)},
        in_service=True,
        baseline="baseline",
        reason="The sound student is in service.",
    )
    values: dict[str, dict[str, dict[str, dict[str, float]]]] = {}
    for e in found.estimates:
        if e.value is not None:
            by_task = values.setdefault(e.slice, {}).setdefault(e.model, {})
            by_task.setdefault(e.task, {})[e.metric] = e.value
    known: Metrics = values
    return judge(settings, evaluated, known, found)


def overall(found: Verdict) -> dict[str, Check]:
    """The checks over all examples, by metric."""
    return {check.metric: check for check in found.checks if check.slice == OVERALL}


def _thresholds(allowed: float) -> list[Threshold]:
    return [
        Threshold(
            task=TASK,
            metric=metric,
            max_regression=allowed,
            max_slice_regression=ON_A_SLICE * allowed,
        )
        for metric in JUDGED
    ]
