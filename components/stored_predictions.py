"""Stored predictions in partitions of whole queries, and the groups of queries that are resampled.

The files of an evaluation are read once and written, in columns, to a temporary folder by
partition: what follows holds one partition in memory at a time, however large the eval split is.
"""

from __future__ import annotations

import math
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from tfx_distill.components.column_extracts import refuse_many
from tfx_distill.components.evaluation_result import OVERALL
from tfx_distill.schema import columns
from tfx_distill.schema.errors import ConfigError, DataError
from tfx_distill.trainer.predict import prediction

if TYPE_CHECKING:
    from numpy.typing import NDArray

MAX_GROUPS = 20_000
"""More queries than this are merged at random, into this many groups of whole queries."""

PARTITION_ROWS = 131_072
"""Rows, about, that are in memory at once."""

MAX_PARTITIONS = 256
"""Partitions are written side by side, a file each; of larger data they hold more rows instead."""


Chosen = Mapping[str, range]
"""Some slices: by slice column, their codes."""


@dataclass(frozen=True)
class Partition:
    """Rows of whole groups of queries: arrays of shape [rows], in any order.

    Attributes:
      query: Id of the query.
      group: Number of the group that the query is in.
      codes: By slice column, the place of the row's value in `StoredPredictions.slices`; -1 where
        it has none. `OVERALL` is a column of one value, so that all rows are a slice like another.
      label: By task.
      weight: By task; 0 where the task does not apply.
      prediction: By model and task.
    """

    query: NDArray[np.int64]
    group: NDArray[np.int32]
    codes: Mapping[str, NDArray[np.int16]]
    label: Mapping[str, NDArray[np.float32]]
    weight: Mapping[str, NDArray[np.float32]]
    prediction: Mapping[tuple[str, str], NDArray[np.float32]]

    def within(self, chosen: Chosen) -> Partition:
        """The rows in any of the chosen slices, as if there were no other slices."""
        codes = {column: _only(self.codes[column], wanted) for column, wanted in chosen.items()}
        kept = np.any([code >= 0 for code in codes.values()], axis=0)
        if kept.all():
            return replace(self, codes=codes)
        return Partition(
            query=self.query[kept],
            group=self.group[kept],
            codes={column: code[kept] for column, code in codes.items()},
            label={task: label[kept] for task, label in self.label.items()},
            weight={task: weight[kept] for task, weight in self.weight.items()},
            prediction={key: score[kept] for key, score in self.prediction.items()},
        )


def _only(code: NDArray[np.int16], wanted: range) -> NDArray[np.int16]:
    """Codes in a range; -1 for the others."""
    inside = (code >= wanted.start) & (code < wanted.stop)
    return np.where(inside, code, np.int16(-1))


class StoredPredictions:
    """The predictions of an evaluation, while `opened`.

    Attributes:
      groups: Number of groups of queries.
      slices: Names of the slices by slice column, in the order of their codes.
      rows: How many rows each of them has, by slice column, in the same order.
    """

    def __init__(self, index: _Index, content: _Content, parts: Sequence[Path | _Arrays]) -> None:
        self.groups = index.groups
        self.slices = {OVERALL: [OVERALL]} | {
            name: [f"{name}={value}" for value in places] for name, places in index.places.items()
        }
        self.rows = {OVERALL: [index.rows]} | {
            name: [index.counts[name][value] for value in places]
            for name, places in index.places.items()
        }
        self._content = content
        self._parts = parts

    def partitions(self, chosen: Chosen) -> Iterator[Partition]:
        """What each partition has in some slices; no two partitions have a group in common."""
        for part in self._parts:
            arrays = _unspilled(part) if isinstance(part, Path) else part
            yield self._content.partition(arrays).within(chosen)


@contextmanager
def opened(
    files: Sequence[Path],
    models: Mapping[str, Sequence[str]],
    slices: Sequence[str],
    *,
    partition_rows: int = PARTITION_ROWS,
    max_groups: int = MAX_GROUPS,
) -> Iterator[StoredPredictions]:
    """Partitions stored predictions; the partitions are gone when the context ends.

    Args:
      files: Of an evaluation, see `trainer.predict.predict`.
      models: Tasks of each model.
      slices: Columns to slice by.
      partition_rows: Rows, about, of a partition.
      max_groups: Up to so many queries, each is a group of its own.

    Raises:
      ConfigError: A slice column is not there, or has too many values.
      DataError: A file cannot be read or lacks another column, or there is no row.
    """
    index = _Index(files, slices, max_groups)
    content = _Content(models, slices)
    batches = (content.arrays(b, index) for b in _read(files, content.names, slices))
    partitions = min(math.ceil(index.rows / partition_rows), MAX_PARTITIONS, index.groups)
    if partitions == 1:
        whole = [np.concatenate(arrays) for arrays in zip(*batches, strict=True)]
        yield StoredPredictions(index, content, [whole])
        return
    with tempfile.TemporaryDirectory(prefix="predictions-") as folder:
        paths = [Path(folder) / f"{number:03d}.arrow" for number in range(partitions)]
        _spill(batches, paths)
        yield StoredPredictions(index, content, paths)


_Arrays = list["NDArray[Any]"]


class _Index:
    """What must be known of all rows first: the queries' groups, and the values of the slices."""

    def __init__(self, files: Sequence[Path], slices: Sequence[str], max_groups: int) -> None:
        self.rows = 0
        self._max_groups = max_groups
        known = np.array([], np.int64)
        self.counts: dict[str, Counter[Any]] = {name: Counter() for name in slices}
        for batch in _read(files, [columns.QUERY_ID], slices):
            self.rows += len(batch)
            # One more than are told apart is enough to know that there are too many.
            query = _column(batch, columns.QUERY_ID).to_numpy()
            known = np.union1d(known, query)[: max_groups + 1]
            for name, counts in self.counts.items():
                values, rows = pc.value_counts(_column(batch, name)).flatten()
                counts.update(dict(zip(values.to_pylist(), rows.to_pylist(), strict=True)))
                del counts[None]
                refuse_many(name, len(counts))
        if not self.rows:
            raise DataError(
                str(files[0].parent if files else "predictions"),
                got="no prediction",
                expected="the stored predictions of an evaluation",
                fix="Evaluate the model again.",
            )
        self._known = known if len(known) <= max_groups else None
        self.groups = len(known) if self._known is not None else max_groups
        self.places = {
            name: {value: place for place, value in enumerate(sorted(counts, key=str))}
            for name, counts in self.counts.items()
        }

    def group(self, query: NDArray[np.int64]) -> NDArray[np.int32]:
        """The group of each query."""
        if self._known is not None:
            return np.searchsorted(self._known, query).astype(np.int32)
        return (_mixed(query) % np.uint64(self._max_groups)).astype(np.int32)

    def codes(self, name: str, column: pa.Array) -> NDArray[np.int16]:
        """The place of each value of a slice column among its values, -1 for null."""
        encoded = pc.dictionary_encode(column)
        places = [self.places[name].get(value, -1) for value in encoded.dictionary.to_pylist()]
        # A null is index -1, which is the last place.
        found = pc.fill_null(encoded.indices, -1).to_numpy(zero_copy_only=False)
        return np.array([*places, -1], np.int16)[found]


class _Content:
    """Which columns a partition is made of, and their order."""

    def __init__(self, models: Mapping[str, Sequence[str]], slices: Sequence[str]) -> None:
        self._slices = list(dict.fromkeys(slices))
        self._tasks = list(dict.fromkeys(task for served in models.values() for task in served))
        self._predicted = [(model, task) for model, served in models.items() for task in served]
        self._values = [
            *(columns.label(task) for task in self._tasks),
            *(columns.weight(task) for task in self._tasks),
            *(prediction(model, task) for model, task in self._predicted),
        ]

    @property
    def names(self) -> list[str]:
        """Columns of the files, without those of the slices."""
        return [columns.QUERY_ID, *self._values]

    def arrays(self, batch: pa.RecordBatch, index: _Index) -> _Arrays:
        """Columns of a batch, as `partition` takes them."""
        query = _column(batch, columns.QUERY_ID).to_numpy()
        return [
            query,
            index.group(query),
            *(index.codes(name, _column(batch, name)) for name in self._slices),
            *(
                _column(batch, name).to_numpy(zero_copy_only=False).astype(np.float32, copy=False)
                for name in self._values
            ),
        ]

    def partition(self, arrays: Iterable[NDArray[Any]]) -> Partition:
        """Names the columns."""
        column = iter(arrays)
        query, group = next(column), next(column)
        return Partition(
            query=query,
            group=group,
            codes={OVERALL: np.zeros(len(query), np.int16)}
            | {name: next(column) for name in self._slices},
            label={task: next(column) for task in self._tasks},
            weight={task: next(column) for task in self._tasks},
            prediction={key: next(column) for key in self._predicted},
        )


def _mixed(query: NDArray[np.int64]) -> NDArray[np.uint64]:
    """A hash of each id: the finaliser of SplitMix64 (Steele, Lea and Flood 2014)."""
    x = query.astype(np.int64).view(np.uint64)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def _read(
    files: Sequence[Path], names: Sequence[str], slices: Sequence[str]
) -> Iterator[pa.RecordBatch]:
    """Batches of some columns, and of those to slice by.

    Raises:
      ConfigError: A file lacks a column to slice by.
      DataError: A file cannot be read, or lacks another column.
    """
    wanted = [*names, *slices]
    for file in files:
        try:
            parquet = pq.ParquetFile(str(file))
            missing = [name for name in wanted if name not in parquet.schema_arrow.names]
            if not missing:
                yield from parquet.iter_batches(batch_size=PARTITION_ROWS, columns=wanted)
                continue
            got = f"no column(s) {missing}"
        except (pa.ArrowException, OSError) as error:
            missing, got = [], " ".join(str(error).split())
        if unsliced := [name for name in missing if name in slices]:
            raise ConfigError(
                f"gate.slices: {', '.join(unsliced)}",
                got=f"no such column in {file}",
                expected="columns that were in the config when the model was evaluated",
                fix="Evaluate the model again with the present config.",
            )
        raise DataError(
            str(file),
            got=got,
            expected="the stored predictions of an evaluation with the present config",
            fix="Evaluate the model again.",
        )


def _column(batch: pa.RecordBatch, name: str) -> pa.Array:
    return batch.column(batch.schema.names.index(name))


def _spill(batches: Iterator[_Arrays], paths: Sequence[Path]) -> None:
    """Writes rows by partition: that of a group is its number modulo the number of partitions."""
    with ExitStack() as stack:
        writers: list[Any] = [None] * len(paths)
        for query, group, *others in batches:
            partition = group % len(paths)
            order = np.argsort(partition, kind="stable")
            arrays = [array[order] for array in (query, group, *others)]
            bounds = np.searchsorted(partition[order], np.arange(len(paths) + 1))
            batch = pa.RecordBatch.from_arrays(
                [pa.array(array) for array in arrays], names=[str(i) for i in range(len(arrays))]
            )
            for number, (start, end) in enumerate(pairwise(bounds)):
                if writers[number] is None:
                    file = stack.enter_context(paths[number].open("wb"))
                    writers[number] = stack.enter_context(pa.ipc.new_stream(file, batch.schema))
                if end > start:
                    writers[number].write_batch(batch.slice(start, end - start))


def _unspilled(path: Path) -> _Arrays:
    with path.open("rb") as file:
        return [column.to_numpy() for column in pa.ipc.open_stream(file).read_all().columns]
