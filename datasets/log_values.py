"""Casting the logged columns to canonical types, and checking every value on the way.

Every error names the file, the column and the row, counted from 0.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tfx_distill.datasets.log_columns import (
    CATEGORIES,
    KEY,
    NUMBER,
    LogConfig,
    LoggedLabel,
    canonical_type,
    is_list,
    is_text,
    is_time,
)
from tfx_distill.schema import columns
from tfx_distill.schema.errors import DataError

Numbers = np.ndarray[Any, np.dtype[Any]]

_LATEST_SECOND = 100_000_000_000
"""The year 5138; a later time is one in milliseconds."""


class Place(NamedTuple):
    """Where a batch comes from: a file and the number of its first row, counted from 0."""

    path: Path
    first_row: int

    def row(self, offset: int) -> str:
        """The row that is `offset` rows below, in words."""
        return f"{self.path}, row {self.first_row + offset} (counted from 0)"

    def error(
        self, column: str, offset: int | None, *, got: str, expected: str, fix: str
    ) -> DataError:
        """An error in a column, and in a row of the batch where it is known."""
        row = "" if offset is None else f", row {self.first_row + offset} (counted from 0)"
        return DataError(
            f"{self.path}, column {column!r}{row}", got=got, expected=expected, fix=fix
        )


def canonical(
    raw: pa.RecordBatch, config: LogConfig, types: Mapping[str, pa.DataType], place: Place
) -> pa.RecordBatch:
    """Casts and checks a batch of logged examples.

    Args:
      raw: The columns `config.logged`.
      config: Their roles.
      types: Canonical types, by `log_columns.types`.
      place: Where the batch comes from, for errors.

    Returns:
      The columns of `types`.

    Raises:
      DataError: A value cannot be used; the message names its file, column and row.
    """

    def logged(name: str) -> pa.Array:
        column = raw.column(raw.schema.get_field_index(name))
        return column.dictionary_decode() if pa.types.is_dictionary(column.type) else column

    data = config.data
    out: dict[str, pa.Array] = {
        columns.EXAMPLE_ID: _ids(logged(data.example_id), data.example_id, place),
        columns.QUERY_ID: _ids(logged(data.query_id), data.query_id, place),
        columns.EVENT_TIME: _seconds(logged(data.event_time), data.event_time, place),
    }
    for name in config.kinds:
        kind = types[name]
        column = logged(name)
        if kind == NUMBER:
            out[name] = _numbers(_single(column, name, place), name, place)
        elif kind in CATEGORIES:
            out[name] = _categories(_single(column, name, place), kind, name, place)
        else:
            out[name] = _lists(column, kind, name, place)
    for label in config.labels:
        _check_label(label, out, logged(label.name), place)
    return pa.RecordBatch.from_arrays(list(out.values()), names=list(out))


def _single(column: pa.Array, name: str, place: Place) -> pa.Array:
    """The column itself, or the only values of a column of lists."""
    if not is_list(column.type):
        return column
    column = _variable(column)
    lengths = pc.fill_null(pc.list_value_length(column), 0).to_numpy(zero_copy_only=False)
    if len(lengths) and lengths.max() > 1:
        row = int(lengths.argmax())
        raise place.error(
            name,
            row,
            got=f"{lengths[row]} values",
            expected="one value",
            fix="Declare the column under features.multivalent, or log one value.",
        )
    return column.flatten().take(pa.array(np.cumsum(lengths) - 1, mask=lengths == 0))


def _numbers(column: pa.Array, name: str, place: Place) -> pa.Array:
    """Float32, NaN made null; infinities are refused."""
    if pa.types.is_decimal(column.type) or pa.types.is_boolean(column.type):
        column = column.cast(pa.float64() if pa.types.is_decimal(column.type) else pa.uint8())
    if not (
        pa.types.is_integer(column.type)
        or pa.types.is_floating(column.type)
        or pa.types.is_null(column.type)
    ):
        raise _wrong_type(column, "a number", name, place)
    if column.type == pa.float16():
        column = pa.array(column.to_numpy(zero_copy_only=False).astype(np.float32))
    column = column.cast(NUMBER, safe=False)
    if pc.any(pc.is_inf(column)).as_py():
        row = pc.index(pc.is_inf(column), True).as_py()
        raise place.error(
            name,
            row,
            got=str(column[row].as_py()),
            expected="a finite number that fits a float32",
            fix="Correct the value; leave it out where it is missing.",
        )
    nan = pc.is_nan(column)
    if pc.any(nan).as_py():
        column = pc.replace_with_mask(column, nan, pa.scalar(None, NUMBER))
    return column


def _categories(
    column: pa.Array,
    kind: pa.DataType,
    name: str,
    place: Place,
    rows: Numbers | None = None,
) -> pa.Array:
    """Strings (empty ones made null) or int64; `rows` are the values' rows if not one each."""
    if pa.types.is_null(column.type):
        return column.cast(kind)
    if canonical_type(column.type, as_list=False) != kind:
        raise _wrong_type(column, str(kind), name, place)
    try:
        column = column.cast(kind)
    except pa.ArrowInvalid as error:
        bad = _first_uncastable(column, kind)
        raise place.error(
            name,
            bad if rows is None else int(rows[bad]),
            got=" ".join(str(error).split()),
            expected="text in UTF-8" if kind == pa.string() else "integers that fit an int64",
            fix="Correct the value; leave it out where it is missing.",
        ) from error
    if kind == pa.string():
        empty = pc.equal(column, "")
        if pc.any(empty).as_py():
            # Not if_else: Arrow 18 returns wrong strings for a null and a sliced column.
            column = pc.replace_with_mask(column, empty, pa.scalar(None, kind))
    return column


def _first_uncastable(column: pa.Array, kind: pa.DataType) -> int:
    """Position of the first value that cannot be cast, by bisection."""
    low, high = 0, len(column)
    while high - low > 1:
        middle = (low + high) // 2
        try:
            column.slice(low, middle - low).cast(kind)
            low = middle
        except pa.ArrowInvalid:
            high = middle
    return low


def _lists(column: pa.Array, kind: pa.DataType, name: str, place: Place) -> pa.Array:
    """Lists of strings or int64, without missing values inside."""
    if is_text(column.type):
        column = pc.split_pattern(column.cast(pa.string()), "|")
    elif pa.types.is_null(column.type):
        return column.cast(kind)
    if not is_list(column.type):
        raise _wrong_type(column, str(kind), name, place)
    column = _variable(column)
    lengths = pc.fill_null(pc.list_value_length(column), 0).to_numpy(zero_copy_only=False)
    values = column.flatten()
    if pa.types.is_dictionary(values.type):
        values = values.dictionary_decode()
    rows = np.repeat(np.arange(len(column)), lengths)
    values = _categories(values, kind.value_type, name, place, rows)
    if values.null_count:
        kept = values.is_valid().to_numpy(zero_copy_only=False)
        lengths = np.bincount(rows[kept], minlength=len(column))
        values = values.drop_null()
    return _list_array(lengths, values, column)


def _variable(column: pa.Array) -> pa.Array:
    """A column of lists of a fixed size as one of variable size; others as they are."""
    if not pa.types.is_fixed_size_list(column.type):
        return column
    lengths = column.is_valid().to_numpy(zero_copy_only=False) * column.type.list_size
    return _list_array(lengths, column.flatten(), column)


def _list_array(lengths: Numbers, values: pa.Array, like: pa.Array) -> pa.Array:
    """Lists of these lengths, null where `like` is."""
    ends = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
    valid = like.is_valid().buffers()[1] if like.null_count else None
    return pa.Array.from_buffers(
        pa.list_(values.type), len(like), [valid, pa.py_buffer(ends)], children=[values]
    )


def _ids(column: pa.Array, name: str, place: Place) -> pa.Array:
    """Int64 ids: integers as they are, strings by FarmHash64, as BigQuery's FARM_FINGERPRINT."""
    column = _single(column, name, place)
    if column.null_count:
        raise place.error(
            name,
            pc.index(column.is_null(), True).as_py(),
            got="null",
            expected="an id in every row",
            fix="Log the id, or leave the row out.",
        )
    if pa.types.is_uint64(column.type):
        return column.view(KEY)
    if pa.types.is_integer(column.type):
        return column.cast(KEY)
    if not is_text(column.type):
        raise _wrong_type(column, "an integer or a string", name, place)
    import tensorflow as tf

    text = column.cast(pa.binary()).to_numpy(zero_copy_only=False)
    if not len(text):
        return pa.array([], KEY)
    return pa.array(tf.fingerprint(text).numpy().view("<i8").reshape(-1))


def _seconds(column: pa.Array, name: str, place: Place) -> pa.Array:
    """Int64 seconds since the epoch; a timestamp without a time zone is in UTC."""
    column = _single(column, name, place)
    if not (is_time(column.type) or pa.types.is_null(column.type)):
        raise _wrong_type(column, "a timestamp or epoch seconds", name, place)
    if pa.types.is_floating(column.type):
        column = pc.floor(column)
        endless = pc.invert(pc.is_finite(column))
        column = pc.replace_with_mask(column, endless, pa.scalar(None, column.type))
    if column.null_count:
        raise place.error(
            name,
            pc.index(column.is_null(), True).as_py(),
            got="no time",
            expected="a time in every row",
            fix="Log the time, or leave the row out.",
        )
    if pa.types.is_date(column.type):
        column = column.cast(pa.timestamp("s"))
    if pa.types.is_timestamp(column.type):
        column = column.cast(pa.timestamp("s", tz=column.type.tz), safe=False)
    column = column.cast(KEY, safe=False)
    late = pc.greater(column, _LATEST_SECOND)
    if pc.any(late).as_py():
        row = pc.index(late, True).as_py()
        raise place.error(
            name,
            row,
            got=str(column[row].as_py()),
            expected="seconds since the epoch, or a timestamp",
            fix="These look like milliseconds or less: divide them, or log a timestamp.",
        )
    return column


def _check_label(
    label: LoggedLabel, out: Mapping[str, pa.Array], raw: pa.Array, place: Place
) -> None:
    values = out[label.name].to_numpy(zero_copy_only=False)
    applies = np.ones(len(values), bool)
    if label.applies_when:
        flag = out[label.applies_when].to_numpy(zero_copy_only=False)
        _refuse(
            ~((flag == 0) | (flag == 1)),
            out[label.applies_when],
            label.applies_when,
            place,
            expected="0 or 1 in a column that says when a task applies",
        )
        applies = flag == 1
    missing = np.isnan(values)
    where = f" where {label.applies_when} is 1" if label.applies_when else " in every row"
    _refuse(missing & applies, raw, label.name, place, expected=f"a label{where}")
    if label.binary:
        wrong = ~(missing | (values == 0) | (values == 1))
        _refuse(wrong, raw, label.name, place, expected="0 or 1 as the label of a binary task")
    if label.log1p:
        wrong = values < 0
        _refuse(
            wrong,
            raw,
            label.name,
            place,
            expected="at least 0, since the task's transform is log1p",
        )


def _refuse(wrong: Numbers, raw: pa.Array, name: str, place: Place, *, expected: str) -> None:
    if wrong.any():
        row = int(wrong.argmax())
        value = raw[row].as_py()
        raise place.error(
            name,
            row,
            got="null" if value is None else str(value),
            expected=expected,
            fix=f"Correct the value or leave the row out; {int(wrong.sum())} of the "
            f"{len(wrong)} rows from {place.first_row} on are wrong.",
        )


def _wrong_type(column: pa.Array, expected: str, name: str, place: Place) -> DataError:
    valid = column.is_valid()
    row = pc.index(valid, True).as_py() if len(column) else -1
    shown = repr(column[row].as_py())[:60] if row >= 0 else "nothing"
    return place.error(
        name,
        row if row >= 0 else None,
        got=f"{shown} of type {column.type}",
        expected=expected,
        fix="Correct the column in the log, or its role in the config.",
    )
