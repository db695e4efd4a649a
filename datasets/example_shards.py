"""Ingested examples: Parquet shards in the shape that TFX reads as `FORMAT_PARQUET`.

Every column is a list (of int64, float32 or bytes), as in a tf.Example; null means missing.
So that stock components can read them through tfx_bsl's ParquetTFXIO, the types on disk are those
that it derives from the schema: large lists of int64, float32 and large binary.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from tfx_distill.schema import columns
from tfx_distill.schema.errors import DataError

ROW_GROUP_ROWS = 16_384
"""Rows that `read_shard` holds at a time, and ParquetTFXIO."""


class ShardWriter:
    """Writes canonical batches as `part-00000.parquet`, `part-00001.parquet`, ... into a folder.

    Shards are cut between queries where that is possible, so that the examples of a query that
    were logged together stay together. Memory: the rows of one shard, twice while it is shuffled.

    Args:
      folder: An existing, empty folder.
      shard_rows: Most rows of a shard.
      shuffle: Seed with which the queries of each shard are shuffled; the examples of one query
        stay adjacent and in order. None keeps the order of the log.
    """

    def __init__(self, folder: Path, shard_rows: int, shuffle: int | None = None) -> None:
        self._folder = folder
        self._shard_rows = shard_rows
        self._shuffle = shuffle
        self._held: list[pa.RecordBatch] = []
        self._held_rows = 0
        self._shards = 0

    def write(self, batch: pa.RecordBatch) -> None:
        """Takes a batch of any size."""
        self._held.append(batch)
        self._held_rows += batch.num_rows
        while self._held_rows > self._shard_rows:
            self._flush(self._cut())

    def close(self) -> None:
        """Writes what is left; a folder without rows gets no shard."""
        if self._held_rows:
            self._flush(self._held_rows)

    def _cut(self) -> int:
        """Rows of the next shard: up to the last change of query that fits."""
        table = pa.Table.from_batches(self._held).select([columns.QUERY_ID])
        queries = table.slice(0, self._shard_rows + 1).column(0).to_numpy()
        changes = np.flatnonzero(queries[1:] != queries[:-1]) + 1
        return int(changes[-1]) if len(changes) else self._shard_rows

    def _flush(self, rows: int) -> None:
        table = pa.Table.from_batches(self._held)
        shard = table.slice(0, rows)
        self._held = table.slice(rows).to_batches()
        self._held_rows -= rows
        if self._shuffle is not None:
            shard = _shuffled(shard, np.random.default_rng([self._shuffle, self._shards]))
        path = self._folder / f"part-{self._shards:05d}.parquet"
        self._shards += 1
        batches = shard.combine_chunks().to_batches()
        as_lists = pa.Table.from_batches([in_lists(batch) for batch in batches])
        pq.write_table(
            as_lists,
            path,
            row_group_size=ROW_GROUP_ROWS,
            compression="zstd",
            # Readers compare the name of the list's items, which later Arrow releases would change.
            use_compliant_nested_type=False,
        )


def read_shard(path: Path | str, names: Sequence[str] | None = None) -> Iterator[pa.RecordBatch]:
    """Batches of an ingested shard, at most `ROW_GROUP_ROWS` rows each, in the order of the file.

    Args:
      path: A file that `ShardWriter` wrote.
      names: Columns to read; all if not given.

    Yields:
      Columns of lists, null where missing.

    Raises:
      DataError: The file is damaged.
    """
    done = 0
    try:
        file = pq.ParquetFile(path)
        for group in range(file.num_row_groups):
            table = file.read_row_group(group, None if names is None else list(names))
            if names is not None:
                table = table.select(list(names))
            for batch in table.combine_chunks().to_batches():
                done += batch.num_rows
                yield batch
    except (pa.ArrowException, OSError) as error:
        raise DataError(
            f"{path}, row {done} or later (counted from 0)",
            got=f"{type(error).__name__}: {' '.join(str(error).split())[:300]}",
            expected="a complete shard of ingested examples",
            fix="Remove the outputs of SpanExampleGen and run it again.",
        ) from error


def in_lists(batch: pa.RecordBatch) -> pa.RecordBatch:
    """The batch with every column as a large list; values are not copied where none is missing."""
    return pa.RecordBatch.from_arrays(
        [_in_lists(column) for column in batch.columns], names=batch.schema.names
    )


def _in_lists(column: pa.Array) -> pa.Array:
    if pa.types.is_list(column.type):
        lengths = column.value_lengths().fill_null(0).to_numpy(zero_copy_only=False)
        values = column.flatten()
    else:
        lengths = column.is_valid().to_numpy(zero_copy_only=False)
        values = column.drop_null() if column.null_count else column
    if pa.types.is_string(values.type):
        values = values.cast(pa.large_string()).view(pa.large_binary())
    ends = np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])
    validity = column.is_valid().buffers()[1] if column.null_count else None
    return pa.Array.from_buffers(
        pa.large_list(values.type),
        len(column),
        [validity, pa.py_buffer(ends)],
        children=[values],
    )


def _shuffled(table: pa.Table, generator: np.random.Generator) -> pa.Table:
    """The queries of a table in random order, each one's rows adjacent and in order."""
    queries, query = np.unique(table.column(columns.QUERY_ID).to_numpy(), return_inverse=True)
    place = generator.permutation(len(queries))[query]
    return table.take(pa.array(np.argsort(place, kind="stable")))
