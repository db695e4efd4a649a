"""How far a student agrees with its teacher, from the predictions that its evaluation kept."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from tfx_distill.components import evaluation_result
from tfx_distill.labels.moments import PairMoments

ALL = ""
"""The slice of all examples."""
_FEWEST = 30
"""Examples that a slice needs to be listed."""


@dataclass(frozen=True)
class Agreement:
    """Student and teacher on the examples of one slice and task.

    Attributes:
      slice: `column=value`; empty for all examples.
      task: The task.
      examples: How many both predict.
      correlation: Pearson's; None where one of the two is the same for all.
      difference: Mean of student minus teacher: probabilities, or values on the training scale.
    """

    slice: str
    task: str
    examples: int
    correlation: float | None
    difference: float


@dataclass
class _Pairs:
    """Pairs of predictions so far; `sum` is that of student minus teacher."""

    moments: PairMoments = field(default_factory=PairMoments)
    sum: float = 0.0

    def add(self, student: npt.NDArray[np.float32], teacher: npt.NDArray[np.float32]) -> None:
        self.moments.add(student, teacher)
        self.sum += float((student.astype(np.float64) - teacher).sum())


def agreement(evaluation: Path, tasks: Sequence[str], slices: Sequence[str]) -> list[Agreement]:
    """Compares `candidate` with `teacher` in stored predictions, batch by batch.

    Args:
      evaluation: Folder of the ModelEvaluation artifact.
      tasks: Those that either does not predict are left out.
      slices: Columns; those that are not there are left out.

    Returns:
      By slice, that of all examples first, and task; slices of fewer than 30 examples left out.
    """
    found: dict[tuple[str, str], _Pairs] = {}
    for file in evaluation_result.predictions(evaluation):
        parquet = pq.ParquetFile(str(file))
        there = set(parquet.schema_arrow.names)
        both = [t for t in tasks if {f"candidate/{t}", f"teacher/{t}"} <= there]
        cut_by = [name for name in slices if name in there]
        columns = [f"{model}/{task}" for task in both for model in ("candidate", "teacher")]
        for batch in parquet.iter_batches(columns=[*cut_by, *columns]):
            parts = list(_parts(batch, cut_by))
            for task in both:
                student, teacher = (
                    batch.column(batch.schema.names.index(f"{m}/{task}")).to_numpy(
                        zero_copy_only=False
                    )
                    for m in ("candidate", "teacher")
                )
                finite = np.isfinite(student) & np.isfinite(teacher)
                for name, rows in parts:
                    used = rows & finite
                    found.setdefault((name, task), _Pairs()).add(student[used], teacher[used])
    return [
        Agreement(name, task, p.moments.count, p.moments.correlation, p.sum / p.moments.count)
        for (name, task), p in sorted(found.items(), key=lambda item: item[0][0])
        if p.moments.count >= (1 if name == ALL else _FEWEST)
    ]


def _parts(
    batch: pa.RecordBatch, slices: Sequence[str]
) -> Iterator[tuple[str, npt.NDArray[np.bool_]]]:
    """Which rows of a batch are in each slice."""
    yield ALL, np.ones(batch.num_rows, dtype=np.bool_)
    for name in slices:
        column = batch.column(batch.schema.names.index(name)).dictionary_encode()
        codes = column.indices.fill_null(-1).to_numpy(zero_copy_only=False)
        for code, value in enumerate(column.dictionary.to_pylist()):
            yield f"{name}={value}", codes == code
