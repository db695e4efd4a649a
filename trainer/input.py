"""Batches for training: feature table shards, joined with teacher labels, shuffled, in columns.

Memory is bounded by a few shards, the batches made ahead, and what is kept for the next epoch,
whatever the size of the data.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import numpy as np
import tensorflow as tf

from tfx_distill.schema import columns
from tfx_distill.schema.config import FeaturesConfig
from tfx_distill.trainer import feature_table
from tfx_distill.trainer.features import Blocks
from tfx_distill.trainer.folds import fold_of
from tfx_distill.trainer.workers import ALONE, Workers

if TYPE_CHECKING:
    from numpy.typing import NDArray

Columns = dict[str, "NDArray[Any]"]

_KEPT_BYTES = 256 << 20
"""Of decompressed shards: small data is read once, whatever the epochs."""


class Coverage(Protocol):
    """How many examples have a teacher label."""

    @property
    def share(self) -> float:
        """Labelled share of the examples, 0 to 1."""


class TeacherLabels(Protocol):
    """Where teacher labels come from: a `labels.join.LabelJoiner`, or the like of it."""

    def join(
        self, shard: str, example_id: NDArray[np.int64], /
    ) -> tuple[dict[str, NDArray[np.float32]], NDArray[np.bool_]]:
        """By task the labels of these examples, [n], and whether there is one, [n]."""

    def coverage(self) -> Coverage:
        """Of all examples joined so far."""

    def require_coverage(self, minimum: float, /) -> None:
        """Raises LabelError where the share is below `minimum`."""


@dataclass(frozen=True)
class Fold:
    """Leaves out the queries of fold `number` of `folds`."""

    number: int
    folds: int

    def __str__(self) -> str:
        return f"without fold {self.number + 1} of {self.folds}"

    def kept(self, shard: Columns) -> Columns:
        """The examples of the other folds."""
        return _take(shard, fold_of(shard[columns.QUERY_ID], self.folds) != self.number)


@dataclass(frozen=True)
class Feed:
    """How batches reach a graph: in as few tensors as can be, each of which costs 20 microseconds.

    All that is one number an example is a row of one matrix, `columns.TARGETS`.

    Args:
      features: Of the run config.
      tasks: Whose hard labels the graph reads, in the order of the rows.
      taught: Whose teacher labels it reads, in the order of the rows.
      listwise: Whether it compares the examples of a query.
    """

    features: FeaturesConfig
    tasks: Sequence[str]
    taught: Sequence[str] = ()
    listwise: bool = False

    @property
    def spec(self) -> dict[str, tf.TensorSpec]:
        """Tensor specs of what the graph takes, by name."""
        spec = dict(Blocks.of(self.features).spec)
        rows = sum(len(of_matrix) for of_matrix in self._rows.values())
        spec[columns.TARGETS] = tf.TensorSpec([rows, None], tf.float32)
        if self._has_queries:
            spec[columns.QUERY_INDEX] = tf.TensorSpec([None], tf.int32)
        return spec

    def tensors(
        self, batches: Iterable[Columns], workers: Workers = ALONE
    ) -> Iterator[tuple[dict[str, tf.Tensor], int]]:
        """Batches as tensors, and how many examples each has.

        Of several workers each gets its part of the tensors; the number of examples is that of the
        whole batch.
        """
        rows = [column for of_matrix in self._rows.values() for column in of_matrix]
        names = set(self.spec) - {columns.TARGETS}
        for batch in batches:
            count = len(batch[columns.EXAMPLE_ID])
            part = batch if workers.count == 1 else part_of(batch, workers.number, workers.count)
            given = {name: tf.constant(part[name]) for name in names}
            given[columns.TARGETS] = tf.constant(np.stack([part[column] for column in rows]))
            yield given, count

    def batch(self, tensors: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        """Within the graph: the batch in the names of `columns`, its matrices apart again.

        `LABELS` and `WEIGHTS` have a row for each of `tasks`, `TEACHER` for each of `taught`.
        """
        batch = dict(tensors)
        sizes = [len(of_matrix) for of_matrix in self._rows.values()]
        batch |= zip(self._rows, tf.split(batch.pop(columns.TARGETS), sizes), strict=True)
        if self.taught:
            batch[columns.TEACHER_PRESENT] = batch[columns.TEACHER_PRESENT][0]
        return batch

    @property
    def _rows(self) -> dict[str, list[str]]:
        """By matrix, the columns that are its rows."""
        rows = {
            columns.LABELS: [columns.label(task) for task in self.tasks],
            columns.WEIGHTS: [columns.weight(task) for task in self.tasks],
        }
        if self.taught:
            rows[columns.TEACHER] = [columns.teacher(task) for task in self.taught]
            rows[columns.TEACHER_PRESENT] = [columns.TEACHER_PRESENT]
        return rows

    @property
    def _has_queries(self) -> bool:
        return self.listwise and bool(self.taught)


def part_of(batch: Columns, number: int, count: int) -> Columns:
    """The rows of worker `number` of `count`: about as many for each, cut between queries.

    A worker gets no row where a batch has fewer queries than there are workers.
    """
    queries = batch[columns.QUERY_ID]
    between = np.flatnonzero(np.append(queries[1:] != queries[:-1], True)) + 1
    cuts = [0, *(between[between >= len(queries) * i // count][0] for i in range(1, count + 1))]
    part = _take(batch, slice(cuts[number], cuts[number + 1]))
    if columns.QUERY_INDEX in part:
        # Numbers below that of the rows, as the sums over queries need them.
        _, index = np.unique(part[columns.QUERY_INDEX], return_inverse=True)
        part[columns.QUERY_INDEX] = index.astype(np.int32)
    return part


Item = TypeVar("Item")


def ahead(batches: Iterator[Item], most: int = 16) -> Iterator[Item]:
    """The same batches; the next ones are made while the last one is used.

    Args:
      batches: What to make.
      most: How many wait at the most. The first batch of a shard takes as long as some ten others.
    """
    reader = ThreadPoolExecutor(1)
    try:
        coming = deque(reader.submit(next, batches, None) for _ in range(most))
        while (batch := coming.popleft().result()) is not None:
            coming.append(reader.submit(next, batches, None))
            yield batch
    finally:
        reader.shutdown(cancel_futures=True)


@dataclass
class Examples:
    """The examples of one split, as batches.

    Args:
      files: Shards of the feature table.
      batch_size: Examples a batch; the last one of an epoch may be smaller.
      seed: Numbers that, with that of the epoch, say how shards and the examples in them are
        shuffled; None keeps the order.
      labels: Teacher labels to join by example id.
      taught: Tasks whose teacher label to read.
      whole_queries: Keep the examples of a query together, for listwise losses. Batches are then
        cut between queries, and a query longer than `batch_size` is a batch of its own.
      without: A fold of queries to leave out.
      first_epoch: Which epoch comes next, from 0.
      epochs: How many there are at the most, those before `first_epoch` included. Between the ones
        to come shards are kept, up to 256 MiB.
    """

    files: list[Path]
    batch_size: int
    seed: tuple[int, ...] | None = None
    labels: TeacherLabels | None = None
    taught: tuple[str, ...] = ()
    whole_queries: bool = False
    without: Fold | None = None
    first_epoch: int = 0
    epochs: int = 1

    def __post_init__(self) -> None:
        self._epoch = self.first_epoch
        self._kept: dict[Path, Columns] = {}
        self._free = _KEPT_BYTES if self.epochs - self.first_epoch > 1 else 0
        self.rows = feature_table.rows(self.files)

    def batches(self) -> Iterator[Columns]:
        """The batches of the next epoch, as arrays."""
        seed, epoch = self.seed, self._epoch
        self._epoch += 1
        shuffle = None if seed is None else np.random.default_rng([*seed, epoch])
        order = range(len(self.files)) if shuffle is None else shuffle.permutation(len(self.files))
        rest: Columns | None = None
        for file in (self.files[place] for place in order):
            shard = self._taught(file, self._read(file))
            if self.without is not None:
                shard = self.without.kept(shard)
            if shuffle is not None:
                shard = _take(shard, self._shuffled(shard, shuffle))
            cuts = self._cuts(shard, rest)
            for start, end in pairwise(cuts):
                yield self._numbered(_between(rest, shard, start, end))
            rest = _between(rest, shard, cuts[-1], None)
        if rest is not None and len(rest[columns.EXAMPLE_ID]):
            yield self._numbered(rest)

    def _read(self, file: Path) -> Columns:
        shard = self._kept.get(file)
        if shard is None:
            shard = feature_table.read(file, leave_out=[columns.EVENT_TIME])
            size = sum(values.nbytes for values in shard.values())
            if size <= self._free:
                self._free -= size
                self._kept[file] = shard
        return shard

    def _taught(self, file: Path, shard: Columns) -> Columns:
        if not self.taught or self.labels is None:
            return shard
        found, present = self.labels.join(file.stem, shard[columns.EXAMPLE_ID])
        labels = {columns.teacher(task): found[task] for task in self.taught}
        return {**shard, **labels, columns.TEACHER_PRESENT: present.astype(np.float32)}

    def _shuffled(self, shard: Columns, shuffle: np.random.Generator) -> NDArray[np.int64]:
        queries = shard[columns.QUERY_ID]
        if not self.whole_queries:
            return shuffle.permutation(len(queries))
        _, numbers = np.unique(queries, return_inverse=True)
        place = shuffle.permutation(int(numbers.max(initial=-1)) + 1)
        return np.argsort(place[numbers], kind="stable")

    def _cuts(self, shard: Columns, rest: Columns | None) -> list[int]:
        """Where batches of `rest` and `shard` end; what lies after the last cut waits."""
        queries = shard[columns.QUERY_ID]
        if rest is not None:
            queries = np.concatenate([rest[columns.QUERY_ID], queries])
        size, total = self.batch_size, len(queries)
        if not self.whole_queries:
            return list(range(0, total + 1, size))
        ends = np.append(np.flatnonzero(queries[1:] != queries[:-1]) + 1, total)
        cuts = [0]
        while total - cuts[-1] > size:
            fitting = ends[(ends > cuts[-1]) & (ends <= cuts[-1] + size)]
            cuts.append(int(fitting[-1] if len(fitting) else ends[ends > cuts[-1]][0]))
        return cuts

    def _numbered(self, batch: Columns) -> Columns:
        if self.taught and self.whole_queries:
            _, index = np.unique(batch[columns.QUERY_ID], return_inverse=True)
            batch[columns.QUERY_INDEX] = index.astype(np.int32)
        return batch


def _take(shard: Columns, index: NDArray[np.int64] | NDArray[np.bool_] | slice) -> Columns:
    if isinstance(index, slice):
        return {name: values[index] for name, values in shard.items()}
    if index.dtype == np.bool_:
        index = np.flatnonzero(index)
    # In half the time of `values[index]`.
    return {name: values.take(index, axis=0) for name, values in shard.items()}


def _between(rest: Columns | None, shard: Columns, start: int, end: int | None) -> Columns:
    """Some rows of `rest` and `shard`, one behind the other; copied only where they are of both."""
    held = 0 if rest is None else len(rest[columns.EXAMPLE_ID])
    if rest is None or start >= held:
        return _take(shard, slice(start - held, None if end is None else end - held))
    if end is not None and end <= held:
        return _take(rest, slice(start, end))
    behind = None if end is None else end - held
    return {n: np.concatenate([rest[n][start:], shard[n][:behind]]) for n in shard}
