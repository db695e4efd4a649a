"""The rows of a partition to which a task applies, slice by slice."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from tfx_distill.components.stored_predictions import Partition
from tfx_distill.schema.config import Kind

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Rows = NDArray[np.intp]

Part = tuple[str, int]
"""A slice: its column and the code of its value."""


@dataclass(frozen=True)
class TaskRows:
    """The rows to which a task applies, for the models that serve it; arrays of shape [rows].

    Attributes:
      name: Of the task.
      kind: Of the task.
      place: Which rows of the partition these are.
      query: Id of the query.
      codes: By slice column, see `Partition`.
      label: On the training scale.
      weight: Above 0.
      positive: Label times weight; of a binary task, the weight as a positive.
      negative: The rest of the weight.
      prediction: By model.
    """

    name: str
    kind: Kind
    place: Rows
    query: NDArray[np.int64]
    codes: Mapping[str, NDArray[np.int16]]
    label: NDArray[np.float64]
    weight: NDArray[np.float64]
    positive: NDArray[np.float64]
    negative: NDArray[np.float64]
    prediction: Mapping[str, NDArray[np.float32]]

    def sliced(self, column: str, order: Rows | None = None) -> Rows:
        """The rows in a slice of a column: slice by slice, within one in this or their order."""
        code = self.codes[column]
        order = np.arange(len(code)) if order is None else order
        kept = order[code[order] >= 0]
        return kept[np.argsort(code[kept], kind="stable")]

    def parts(self, column: str) -> Iterator[tuple[Part, Rows]]:
        """The rows of each slice of a column."""
        order = self.sliced(column)
        code = self.codes[column][order]
        starts = np.flatnonzero(np.diff(code, prepend=-1))
        for start, rows in zip(starts, np.split(order, starts)[1:], strict=True):
            yield (column, int(code[start])), rows


def task_rows(
    partition: Partition, models: Mapping[str, Sequence[str]], kinds: Mapping[str, Kind]
) -> list[TaskRows]:
    """The rows of each task of a partition.

    Args:
      partition: Of the stored predictions.
      models: Tasks of each model.
      kinds: Kind of each task.
    """
    found = []
    for name in partition.label:
        place = np.flatnonzero(partition.weight[name] > 0)
        label = partition.label[name][place].astype(np.float64)
        weight = partition.weight[name][place].astype(np.float64)
        found.append(
            TaskRows(
                name=name,
                kind=kinds[name],
                place=place,
                query=partition.query[place],
                codes={column: code[place] for column, code in partition.codes.items()},
                label=label,
                weight=weight,
                positive=label * weight,
                negative=weight - label * weight,
                prediction={
                    model: partition.prediction[model, name][place]
                    for model, served in models.items()
                    if name in served
                },
            )
        )
    return found
