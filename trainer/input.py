"""Batches for training: feature table shards, joined with teacher labels, shuffled, in columns.

Memory is bounded by a few shards, and the batches made ahead, whatever the size of the data.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
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


def batch_spec(
    features: FeaturesConfig, tasks: Sequence[str], taught: Sequence[str] = ()
) -> dict[str, tf.TensorSpec]:
    """Tensor specs of what a step reads of a batch, by name.

    Args:
      features: Of the run config.
      tasks: Whose hard labels it reads, in the order of the rows.
      taught: Whose teacher labels it reads, in the order of the rows.
    """
    spec = dict(Blocks.of(features).spec)
    for name in (columns.LABELS, columns.WEIGHTS):
        spec[name] = tf.TensorSpec([len(tasks), None], tf.float32)
    if taught:
        spec[columns.TEACHER] = tf.TensorSpec([len(taught), None], tf.float32)
        spec[columns.TEACHER_PRESENT] = tf.TensorSpec([None], tf.float32)
        spec[columns.QUERY_INDEX] = tf.TensorSpec([None], tf.int32)
    return spec


def fed(
    batches: Iterable[Columns],
    spec: Iterable[str],
    tasks: Sequence[str],
    taught: Sequence[str] = (),
    workers: Workers = ALONE,
) -> Iterator[tuple[dict[str, tf.Tensor], int]]:
    """Batches as the tensors of a `batch_spec`, and how many examples each has.

    Labels become matrices: one tensor costs a step less than one for each task. Of several workers
    each gets its part of the tensors; the number of examples is that of the whole batch.
    """
    matrices = {
        columns.LABELS: [columns.label(task) for task in tasks],
        columns.WEIGHTS: [columns.weight(task) for task in tasks],
        columns.TEACHER: [columns.teacher(task) for task in taught],
    }
    for batch in batches:
        rows = len(batch[columns.EXAMPLE_ID])
        part = batch if workers.count == 1 else part_of(batch, workers.number, workers.count)
        # A student that only has tasks of the teacher's has no hard labels at all.
        none = np.zeros([0, len(part[columns.EXAMPLE_ID])], np.float32)
        stacked = {
            name: np.stack([part[column] for column in wanted]) if wanted else none
            for name, wanted in matrices.items()
        }
        yield {name: tf.constant({**part, **stacked}[name]) for name in spec}, rows


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
    """

    files: list[Path]
    batch_size: int
    seed: tuple[int, ...] | None = None
    labels: TeacherLabels | None = None
    taught: tuple[str, ...] = ()
    whole_queries: bool = False
    without: Fold | None = None
    first_epoch: int = 0

    def __post_init__(self) -> None:
        self._epoch = self.first_epoch
        self.rows = feature_table.rows(self.files)

    def batches(self) -> Iterator[Columns]:
        """The batches of the next epoch, as arrays."""
        seed, epoch = self.seed, self._epoch
        self._epoch += 1
        shuffle = None if seed is None else np.random.default_rng([*seed, epoch])
        order = range(len(self.files)) if shuffle is None else shuffle.permutation(len(self.files))
        rest: Columns | None = None
        for file in (self.files[place] for place in order):
            shard = self._taught(file, feature_table.read(file, leave_out=[columns.EVENT_TIME]))
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

    def _taught(self, file: Path, shard: Columns) -> Columns:
        if not self.taught or self.labels is None:
            return shard
        found, present = self.labels.join(file.stem, shard[columns.EXAMPLE_ID])
        shard[columns.TEACHER_PRESENT] = present.astype(np.float32)
        for task in self.taught:
            shard[columns.teacher(task)] = found[task]
        return shard

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
        if self.taught:
            queries = batch[columns.QUERY_ID]
            index = np.zeros(len(queries), np.int64)
            if self.whole_queries:
                _, index = np.unique(queries, return_inverse=True)
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
