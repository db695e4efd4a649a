"""The feature table: examples after Transform, in the shape in which every model reads them.

One Arrow IPC file per example shard, LZ4-compressed, with the feature blocks as fixed-size lists,
the keys, and per task the hard label and its weight. It is written once and read by the teacher,
the labeler and every student; ADR 8 says why it is neither TFRecord nor Parquet.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import numpy as np
import pyarrow as pa

from tfx_distill.schema import columns
from tfx_distill.schema.config import TaskConfig
from tfx_distill.trainer import raw_features

if TYPE_CHECKING:
    from numpy.typing import NDArray

SUFFIX = ".arrow"
FILE_FORMAT = "arrow_ipc"

Columns = dict[str, "NDArray[Any]"]


def shards(uri: str | Path, split: columns.Split) -> list[Path]:
    """Files of one split, in order."""
    return sorted((Path(uri) / f"Split-{split}").glob(f"*{SUFFIX}"))


def rows(files: Iterable[Path]) -> int:
    """Number of examples in these files; reads their ids only."""
    return sum(_count(file) for file in files)


def _count(file: Path) -> int:
    with pa.memory_map(str(file)) as source:
        schema = pa.ipc.open_file(source).schema
        # The format counts rows batch by batch, and a batch is decompressed to be counted.
        one = pa.ipc.IpcReadOptions(included_fields=[schema.get_field_index(columns.EXAMPLE_ID)])
        reader = pa.ipc.open_file(source, options=one)
        return sum(reader.get_batch(i).num_rows for i in range(reader.num_record_batches))


def read(file: Path, wanted: Iterable[str] | None = None, leave_out: Iterable[str] = ()) -> Columns:
    """One shard as numpy arrays: blocks of shape [rows, width], everything else [rows].

    Args:
      file: Of the feature table.
      wanted: Columns to read, as far as they are there; all by default.
      leave_out: Of these.
    """
    with pa.memory_map(str(file)) as source:
        schema = pa.ipc.open_file(source).schema
        chosen = set(schema.names if wanted is None else wanted) - set(leave_out)
        indices = sorted(schema.get_field_index(name) for name in chosen & set(schema.names))
        options = pa.ipc.IpcReadOptions(included_fields=indices)
        return arrays(pa.ipc.open_file(source, options=options).read_all())


def arrays(table: pa.Table) -> Columns:
    """Rows of the table as numpy arrays: blocks of shape [rows, width], everything else [rows]."""
    return {name: _numpy(table.column(name)) for name in table.column_names}


def _numpy(column: pa.ChunkedArray) -> NDArray[Any]:
    # Also of a single chunk `combine_chunks` makes a copy.
    array = column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()
    if isinstance(array, pa.ChunkedArray):  # no chunk at all, or several after a type change
        array = pa.concat_arrays(array.chunks)
    if pa.types.is_fixed_size_list(array.type):
        return np.asarray(array.flatten()).reshape(len(array), array.type.list_size)
    return np.asarray(array)


class Writer:
    """Writes one shard; the file appears under its name when it is complete.

    All rows are written as one record batch, which readers need not put together. Memory: the rows
    of a shard, as for whoever reads it.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        self._batches: list[pa.RecordBatch] = []

    def write(self, batch: pa.RecordBatch) -> None:
        """Appends rows that `record` made."""
        self._batches.append(batch)

    def __enter__(self) -> Writer:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None or not self._batches:
            return
        whole = pa.Table.from_batches(self._batches).combine_chunks()
        part = self._file.with_name(f".{self._file.name}.{uuid4().hex}")
        part.parent.mkdir(parents=True, exist_ok=True)
        try:
            options = pa.ipc.IpcWriteOptions(compression="lz4")
            with pa.ipc.new_file(str(part), whole.schema, options=options) as writer:
                writer.write_table(whole)
            part.replace(self._file)
        finally:
            part.unlink(missing_ok=True)


def record(batch: Mapping[str, NDArray[Any]]) -> pa.RecordBatch:
    """Rows of the table from arrays: blocks of shape [rows, width], everything else [rows]."""
    arrays = [_arrow(values) for values in batch.values()]
    return pa.RecordBatch.from_arrays(arrays, names=list(batch))


def _arrow(values: NDArray[Any]) -> pa.Array:
    if values.ndim == 1:
        return pa.array(values)
    return pa.FixedSizeListArray.from_arrays(pa.array(values.reshape(-1)), values.shape[1])


def hard_labels(batch: pa.RecordBatch, tasks: Iterable[TaskConfig]) -> Columns:
    """Label and weight of each task on its training scale, float32 of shape [rows].

    Where a task does not apply both are 0.
    """
    out: Columns = {}
    for task in tasks:
        values = raw_features.scalars(batch, task.label).astype(np.float32)
        applies = np.isfinite(values)
        if task.applies_when is not None:
            applies &= raw_features.scalars(batch, task.applies_when) == 1
        if task.transform == "log1p":
            values = np.log1p(np.maximum(values, 0))
        out[columns.label(task.name)] = np.where(applies, values, 0).astype(np.float32)
        out[columns.weight(task.name)] = applies.astype(np.float32)
    return out
