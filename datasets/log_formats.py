"""Raw record batches out of Parquet, CSV and TFRecord files.

Each format offers the types of a file's columns without reading the file, and an iterator over
batches of at most `BATCH_ROWS` rows that holds only the columns asked for.
"""

from __future__ import annotations

import csv
import gzip
import itertools
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, Protocol

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from tfx_distill.schema.errors import DataError

BATCH_ROWS = 16_384
"""Most rows of a batch: the memory of everything that reads logs is bounded by it."""

Format = Literal["parquet", "csv", "tfrecord"]


class Reader(Protocol):
    """A file format."""

    def schema(self, path: Path) -> pa.Schema:
        """Names and types of the columns of a file; type null where it does not know them."""

    def batches(self, path: Path, wanted: Mapping[str, pa.DataType]) -> Iterator[pa.RecordBatch]:
        """The wanted columns, in the order given; types are hints where a file has none."""


def reader(kind: Format) -> Reader:
    """The reader of a format."""
    return _READERS[kind]()


class ParquetReader:
    """Parquet files, by row groups and projected to the wanted columns."""

    def schema(self, path: Path) -> pa.Schema:
        """See `Reader`."""
        return self._open(path).schema_arrow

    def batches(self, path: Path, wanted: Mapping[str, pa.DataType]) -> Iterator[pa.RecordBatch]:
        """See `Reader`."""
        file = self._open(path)
        done = 0
        try:
            for batch in file.iter_batches(batch_size=BATCH_ROWS, columns=list(wanted)):
                done += batch.num_rows
                yield _in_order(batch, wanted)
        except (pa.ArrowException, OSError) as error:
            raise _corrupt(
                path, f"row {done} or later", error, "a readable Parquet file"
            ) from error

    def _open(self, path: Path) -> pq.ParquetFile:
        try:
            return pq.ParquetFile(path)
        except (pa.ArrowException, OSError) as error:
            raise _corrupt(path, None, error, "a complete Parquet file") from error


class CsvReader:
    r"""CSV files with a header.

    A CSV holds text: ids, categories and lists (split at `|`) are strings, also where they look
    like numbers. An empty cell, `NULL` and `\N` are missing values.
    """

    def schema(self, path: Path) -> pa.Schema:
        """See `Reader`."""
        return pa.schema([pa.field(name, pa.null()) for name in self._header(path)])

    def batches(self, path: Path, wanted: Mapping[str, pa.DataType]) -> Iterator[pa.RecordBatch]:
        """See `Reader`."""
        done = 0
        try:
            opened = pyarrow.csv.open_csv(
                str(path),
                # Several threads would lose the row numbers of the errors.
                read_options=pyarrow.csv.ReadOptions(use_threads=False),
                convert_options=pyarrow.csv.ConvertOptions(
                    include_columns=list(wanted),
                    column_types={
                        name: pa.float64() if pa.types.is_floating(kind) else pa.string()
                        for name, kind in wanted.items()
                        if not pa.types.is_null(kind)
                    },
                    null_values=["", "NULL", r"\N"],
                    strings_can_be_null=True,
                ),
            )
            for block in opened:
                for start in range(0, block.num_rows, BATCH_ROWS):
                    batch = block.slice(start, BATCH_ROWS)
                    done += batch.num_rows
                    yield batch
        except (pa.ArrowException, OSError) as error:
            raise self._explained(path, done, error) from error

    def _header(self, path: Path) -> list[str]:
        opener: Any = gzip.open if path.suffix == ".gz" else open
        try:
            with opener(path, "rt", encoding="utf-8-sig", newline="") as lines:
                header = next(csv.reader(itertools.islice(lines, 1)), [])
        except (OSError, UnicodeDecodeError, csv.Error) as error:
            raise _corrupt(path, None, error, "a CSV file in UTF-8") from error
        if not header:
            raise DataError(
                str(path),
                got="an empty file",
                expected="a CSV file with a header",
                fix="Write the file again, or remove it.",
            )
        return header

    def _explained(self, path: Path, done: int, error: Exception) -> DataError:
        match = re.search(
            r"In CSV column #(\d+): (?:Row #(\d+): )?CSV conversion error to (\S+): (.*)",
            str(error),
            re.DOTALL,
        )
        if match is None:
            return _corrupt(path, f"row {done} or later", error, "a well-formed CSV file")
        column = self._header(path)[int(match[1])]
        # Arrow counts lines from 1, the header included.
        row = f"row {int(match[2]) - 2}" if match[2] else f"row {done} or later"
        return DataError(
            f"{path}, column {column!r}, {row} (counted from 0)",
            got=match[4].removeprefix("invalid value "),
            expected="a number" if match[3] == "double" else f"a value of type {match[3]}",
            fix="Correct the cell; leave it empty where the value is missing.",
        )


class TfRecordReader:
    """TFRecord files of serialised tf.Examples, gzipped where the name ends in `.gz`.

    Types are those of the first `PEEK` examples: a column that none of them has is unknown.
    """

    PEEK = 4096

    def schema(self, path: Path) -> pa.Schema:
        """See `Reader`."""
        from tfx_bsl.coders.example_coder import ExamplesToRecordBatchDecoder

        for records in self._records(path, self.PEEK):
            try:
                return ExamplesToRecordBatchDecoder().DecodeBatch(records).schema
            except RuntimeError as error:
                raise _corrupt(path, "row 0 or later", error, "serialised tf.Examples") from error
        return pa.schema([])

    def batches(self, path: Path, wanted: Mapping[str, pa.DataType]) -> Iterator[pa.RecordBatch]:
        """See `Reader`."""
        from tensorflow_metadata.proto.v0 import schema_pb2
        from tfx_bsl.coders.example_coder import ExamplesToRecordBatchDecoder

        known = self.schema(path)
        schema = schema_pb2.Schema()
        for name, hint in wanted.items():
            place = known.get_field_index(name)
            held = hint if place < 0 else known.field(place).type
            schema.feature.add(name=name, type=_proto_type(held))
        decoder = ExamplesToRecordBatchDecoder(schema.SerializeToString())
        done = 0
        for records in self._records(path, BATCH_ROWS):
            try:
                batch = decoder.DecodeBatch(records)
            except RuntimeError as error:
                raise _corrupt(
                    path,
                    f"rows {done} to {done + len(records) - 1}",
                    error,
                    "serialised tf.Examples with one type per feature",
                ) from error
            done += batch.num_rows
            yield batch

    def _records(self, path: Path, size: int) -> Iterator[Any]:
        import tensorflow as tf

        compression = "GZIP" if path.suffix == ".gz" else ""
        records = tf.data.TFRecordDataset([str(path)], compression).batch(size)
        done = 0
        try:
            for batch in records.as_numpy_iterator():
                done += len(batch)
                yield batch
        except tf.errors.OpError as error:
            raise _corrupt(
                path, f"row {done} or later", error, "a complete TFRecord file"
            ) from error


_READERS: dict[str, type[Reader]] = {
    "parquet": ParquetReader,
    "csv": CsvReader,
    "tfrecord": TfRecordReader,
}


def _in_order(batch: pa.RecordBatch, wanted: Mapping[str, pa.DataType]) -> pa.RecordBatch:
    return pa.RecordBatch.from_arrays(
        [batch.column(batch.schema.get_field_index(name)) for name in wanted], names=list(wanted)
    )


def _proto_type(held: pa.DataType) -> int:
    from tensorflow_metadata.proto.v0 import schema_pb2

    if pa.types.is_list(held) or pa.types.is_large_list(held):
        held = held.value_type
    if pa.types.is_floating(held):
        return schema_pb2.FLOAT
    return schema_pb2.INT if pa.types.is_integer(held) else schema_pb2.BYTES


def _corrupt(path: Path, row: str | None, error: Exception, expected: str) -> DataError:
    return DataError(
        f"{path}, {row} (counted from 0)" if row else str(path),
        got=f"{type(error).__name__}: {' '.join(str(error).split())[:300]}",
        expected=expected,
        fix="The file is damaged or incomplete: copy or write it again, or leave its span out.",
    )
