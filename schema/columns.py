"""Names and Arrow types of the columns that the pipeline itself adds to tables."""

from __future__ import annotations

from typing import Literal

import pyarrow as pa

EXAMPLE_ID = "example_id"
QUERY_ID = "query_id"
EVENT_TIME = "event_time"

KEYS: tuple[str, ...] = (EXAMPLE_ID, QUERY_ID, EVENT_TIME)
RESERVED = frozenset(KEYS)
"""Keys of every example: int64 fingerprints of the logged ids, int64 seconds since the epoch."""

Split = Literal["train", "eval"]
SPLITS: tuple[Split, ...] = ("train", "eval")

MISSING_FEATURE_FRACTION = "missing_feature_fraction"
SCORED_AT = "scored_at"


def label(task: str) -> str:
    """Hard label of a task in a feature table: float32, on the task's training scale."""
    return f"label_{task}"


def weight(task: str) -> str:
    """Weight of the hard label: float32, 0 where the task does not apply, else 1."""
    return f"weight_{task}"


TARGETS = "targets"
"""Matrix in which a batch reaches a step: the rows of `LABELS`, `WEIGHTS`, `TEACHER` and
`TEACHER_PRESENT`, below each other."""

LABELS = "labels"
"""Matrix of a training batch: float32, a row of hard labels for each served task."""

WEIGHTS = "weights"
"""Matrix of a training batch: float32, the weights of the hard labels."""

TEACHER = "teacher"
"""Matrix of a training batch: float32, a row for each taught task, 0 without a teacher label."""

QUERY_INDEX = "query_index"
"""Column of a training batch: int32, the queries of the batch numbered from 0."""

TEACHER_PRESENT = "teacher_label_present"
"""Column of a training batch: float32, 1 where the teacher labelled the example, else 0."""


def teacher(task: str) -> str:
    """Column of a training batch: float32, the teacher's label of a task, 0 where absent."""
    return f"teacher_{task}"


def teacher_label(task: str, kind: str) -> str:
    """Teacher label in the label table: a logit for binary, a value for regression tasks."""
    return f"logit_{task}" if kind == "binary" else f"value_{task}"


def label_table(kinds: dict[str, str]) -> pa.Schema:
    """Columns of the label table for tasks of these kinds, its partition columns not counted."""
    return pa.schema(
        [
            pa.field(EXAMPLE_ID, pa.int64(), nullable=False),
            *(
                pa.field(teacher_label(task, kind), pa.float32(), nullable=False)
                for task, kind in kinds.items()
            ),
            pa.field(MISSING_FEATURE_FRACTION, pa.float32(), nullable=False),
            pa.field(SCORED_AT, pa.timestamp("us", tz="UTC"), nullable=False),
        ]
    )
