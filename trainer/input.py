"""Batches for training: feature table shards, joined with teacher labels, shuffled, in columns.

Memory is bounded by one shard and one batch, whatever the size of the data.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import tensorflow as tf

from tfx_distill.schema import columns
from tfx_distill.schema.config import FeaturesConfig, TaskConfig
from tfx_distill.trainer import feature_table
from tfx_distill.trainer.features import Blocks

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tfx_distill.labels.join import LabelJoiner

Columns = dict[str, "NDArray[Any]"]


@dataclass
class Examples:
    """The examples of one split, as batches.

    Args:
      files: Shards of the feature table.
      features: The features section of the run config.
      tasks: Whose hard labels to read.
      batch_size: Examples a batch; the last one of an epoch may be smaller.
      seed: Shuffles shards and the examples in them, differently in each epoch; None keeps order.
      labels: Teacher labels to join by example id.
      taught: Tasks whose teacher label to read.
      whole_queries: Keep the examples of a query together, for listwise losses. Batches are then
        cut between queries, and a query longer than `batch_size` is a batch of its own.
    """

    files: list[Path]
    features: FeaturesConfig
    tasks: tuple[TaskConfig, ...]
    batch_size: int
    seed: int | None = None
    labels: LabelJoiner | None = None
    taught: tuple[str, ...] = ()
    whole_queries: bool = False

    def __post_init__(self) -> None:
        self._epoch = 0
        self.rows = feature_table.rows(self.files)

    def dataset(self) -> tf.data.Dataset:
        """The batches of one epoch as a dataset; each iteration is the next epoch."""
        spec = dict(Blocks.of(self.features).spec)
        spec[columns.EXAMPLE_ID] = tf.TensorSpec([None], tf.int64)
        for task in self.tasks:
            for name in (columns.label(task.name), columns.weight(task.name)):
                spec[name] = tf.TensorSpec([None], tf.float32)
        if self.taught:
            spec[columns.QUERY_INDEX] = tf.TensorSpec([None], tf.int32)
            spec[columns.TEACHER_PRESENT] = tf.TensorSpec([None], tf.float32)
            for name in self.taught:
                spec[columns.teacher(name)] = tf.TensorSpec([None], tf.float32)

        def epoch() -> Iterator[Columns]:
            for batch in self.batches():
                yield {name: batch[name] for name in spec}

        return tf.data.Dataset.from_generator(epoch, output_signature=spec).prefetch(4)

    def batches(self) -> Iterator[Columns]:
        """The batches of the next epoch, as arrays."""
        seed, epoch = self.seed, self._epoch
        self._epoch += 1
        shuffle = None if seed is None else np.random.default_rng([seed, epoch])
        order = range(len(self.files)) if shuffle is None else shuffle.permutation(len(self.files))
        rest: Columns | None = None
        for file in (self.files[place] for place in order):
            shard = self._taught(file, feature_table.read(file))
            if shuffle is not None:
                shard = _take(shard, self._shuffled(shard, shuffle))
            if rest is not None:
                shard = {name: np.concatenate([rest[name], shard[name]]) for name in shard}
            cuts = self._cuts(shard)
            for start, end in pairwise(cuts):
                yield self._numbered(_take(shard, slice(start, end)))
            rest = _take(shard, slice(cuts[-1], None))
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

    def _cuts(self, shard: Columns) -> list[int]:
        """Where batches end; what lies after the last cut waits for the next shard."""
        size, total = self.batch_size, len(shard[columns.EXAMPLE_ID])
        if not self.whole_queries:
            return list(range(0, total + 1, size))
        queries = shard[columns.QUERY_ID]
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


def _take(shard: Columns, index: NDArray[np.int64] | slice) -> Columns:
    return {name: values[index] for name, values in shard.items()}
