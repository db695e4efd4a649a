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
    """Number of examples in these files; reads their footers only."""
    return sum(_count(file) for file in files)


def _count(file: Path) -> int:
    with pa.memory_map(str(file)) as source:
        reader = pa.ipc.open_file(source)
        return sum(reader.get_batch(i).num_rows for i in range(reader.num_record_batches))


def read(file: Path, wanted: Iterable[str] | None = None) -> Columns:
    """One shard as numpy arrays: blocks of shape [rows, width], everything else [rows]."""
    options = None
    with pa.memory_map(str(file)) as source:
        schema = pa.ipc.open_file(source).schema
        if wanted is not None:
            indices = [schema.get_field_index(name) for name in wanted]
            options = pa.ipc.IpcReadOptions(included_fields=sorted(i for i in indices if i >= 0))
        return arrays(pa.ipc.open_file(source, options=options).read_all())


def arrays(table: pa.Table) -> Columns:
    """Rows of the table as numpy arrays: blocks of shape [rows, width], everything else [rows]."""
    return {name: _numpy(table.column(name)) for name in table.column_names}


def _numpy(column: pa.ChunkedArray) -> NDArray[Any]:
    array = column.combine_chunks()
    if isinstance(array, pa.ChunkedArray):  # no chunk at all, or several after a type change
        array = pa.concat_arrays(array.chunks)
    if pa.types.is_fixed_size_list(array.type):
        return np.asarray(array.flatten()).reshape(len(array), array.type.list_size)
    return np.asarray(array)


class Writer:
    """Writes one shard, batch by batch; the file appears under its name when it is complete."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._part = file.with_name(f".{file.name}.{uuid4().hex}")
        self._writer: pa.ipc.RecordBatchFileWriter | None = None

    def write(self, batch: pa.RecordBatch) -> None:
        """Appends rows that `record` made."""
        if self._writer is None:
            self._part.parent.mkdir(parents=True, exist_ok=True)
            options = pa.ipc.IpcWriteOptions(compression="lz4")
            self._writer = pa.ipc.new_file(str(self._part), batch.schema, options=options)
        self._writer.write_batch(batch)

    def __enter__(self) -> Writer:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if self._writer is not None:
            self._writer.close()
            if kind is None:
                self._part.replace(self._file)
            else:
                self._part.unlink()


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
