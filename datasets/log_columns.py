"""The columns that a run reads from the logs, in canonical types.

Numbers, labels and 0/1 flags are float32. Categories and slices are int64 where the log holds
whole numbers or booleans, and strings otherwise; lists hold either. Ids are int64 fingerprints and
times int64 seconds since the epoch. A missing value is null: so are NaN, an empty string and a null
inside a list, since a model cannot tell them from a missing value.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tfx_distill.schema import columns
from tfx_distill.schema.config import DataConfig, RunConfig, Section
from tfx_distill.schema.errors import ConfigError, DataError

NUMBER = pa.float32()
KEY = pa.int64()
CATEGORIES = (pa.string(), pa.int64())
LISTS = (pa.list_(pa.string()), pa.list_(pa.int64()))

_LATEST_SECOND = 100_000_000_000
"""The year 5138; a later time is one in milliseconds."""


class LoggedLabel(Section):
    """What must hold for the label column of a task."""

    name: str
    binary: bool
    log1p: bool = False
    applies_when: str | None = None


class LogConfig(Section):
    """The part of a run config on which reading the logs depends.

    Feature encodings, models and gates are left out, so that changing those ingests nothing anew.
    """

    data: DataConfig
    numeric: tuple[str, ...] = ()
    categorical: tuple[str, ...] = ()
    multivalent: tuple[str, ...] = ()
    labels: tuple[LoggedLabel, ...]
    slices: tuple[str, ...] = ()
    seed: int = 0

    @classmethod
    def of(cls, config: RunConfig) -> LogConfig:
        """The part of `config` that concerns the logs.

        Raises:
          ConfigError: A label or slice has the name of a key that the pipeline adds.
        """
        own = cls(
            data=config.data,
            numeric=tuple(f.name for f in config.features.numeric),
            categorical=tuple(f.name for f in config.features.categorical),
            multivalent=tuple(f.name for f in config.features.multivalent),
            labels=tuple(
                LoggedLabel(
                    name=task.label,
                    binary=task.kind == "binary",
                    log1p=task.transform == "log1p",
                    applies_when=task.applies_when,
                )
                for task in config.tasks
            ),
            slices=config.gate.slices,
            seed=config.seed,
        )
        for name in sorted(columns.RESERVED.intersection(own.kinds)):
            raise ConfigError(
                f"column {name!r}",
                got="a label or slice of that name",
                expected=f"another name than {sorted(columns.RESERVED)}",
                fix="Rename the column in the log.",
            )
        return own

    @property
    def kinds(self) -> dict[str, tuple[pa.DataType, ...]]:
        """Possible canonical types of each column but the keys, in the order of the output."""
        flags = [label.applies_when for label in self.labels if label.applies_when]
        labels = [label.name for label in self.labels]
        kinds: dict[str, tuple[pa.DataType, ...]] = {}
        for names, possible in (
            (self.numeric, (NUMBER,)),
            (self.categorical, CATEGORIES),
            (self.multivalent, LISTS),
            (labels, (NUMBER,)),
            (flags, (NUMBER,)),
            (self.slices, CATEGORIES),
        ):
            for name in names:
                kinds.setdefault(name, possible)
        return kinds

    @property
    def logged(self) -> tuple[str, ...]:
        """Every column to read, without repeats."""
        ids = (self.data.example_id, self.data.query_id, self.data.event_time)
        return tuple(dict.fromkeys((*ids, *self.kinds)))


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


def types(config: LogConfig, schemas: Mapping[Path, pa.Schema]) -> dict[str, pa.DataType]:
    """Canonical type of every output column, the keys first.

    Args:
      config: Says which columns there must be.
      schemas: Columns of each file of the run, type null where it is unknown.

    Raises:
      DataError: A column is missing, has a type that its role does not allow, or has two types.
    """
    if config.data.format == "tfrecord":
        # A tf.Example leaves a missing value out: a column need not be in every file.
        merged: dict[str, pa.Field] = {}
        for schema in schemas.values():
            for field in schema:
                merged.setdefault(field.name, field)
        for path, schema in schemas.items():
            _refuse_missing(path, config.logged, merged)
    else:
        for path, schema in schemas.items():
            _refuse_missing(path, config.logged, schema.names)
    found: dict[str, pa.DataType] = dict.fromkeys(columns.KEYS, KEY)
    for name, possible in config.kinds.items():
        found[name] = _one_type(name, possible, schemas)
    ids = ((config.data.example_id, "an integer or a string"),)
    ids += ((config.data.query_id, "an integer or a string"),)
    for path, schema in schemas.items():
        for name, expected in ids:
            _require(path, schema, name, expected, _is_id)
        _require(path, schema, config.data.event_time, "a timestamp or epoch seconds", _is_time)
    return found


def canonical(
    raw: pa.RecordBatch, config: LogConfig, kinds: Mapping[str, pa.DataType], place: Place
) -> pa.RecordBatch:
    """Casts and checks a batch of logged examples.

    Args:
      raw: The columns `config.logged`.
      config: Their roles.
      kinds: What `types` returned for the run.
      place: Where the batch comes from, for errors.

    Returns:
      The columns of `kinds`.

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
        kind = kinds[name]
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


def nearest(name: str, existing: Iterable[str]) -> str:
    """Advice that names the existing column most like `name`."""
    names = list(existing)
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    hint = f"did you mean {close[0]!r}?" if close else f"there are {names[:20]}."
    return f"Correct the name in the config: {hint}"


def _refuse_missing(path: Path, wanted: Iterable[str], existing: Iterable[str]) -> None:
    there = set(existing)
    for name in wanted:
        if name not in there:
            raise DataError(
                f"{path}, column {name!r}",
                got="no such column",
                expected="every column that the config names",
                fix=nearest(name, existing),
            )


def _one_type(
    name: str, possible: tuple[pa.DataType, ...], schemas: Mapping[Path, pa.Schema]
) -> pa.DataType:
    """The one type that a column has in all files."""
    first: tuple[Path, pa.DataType] | None = None
    for path, schema in schemas.items():
        index = schema.get_field_index(name)
        held = pa.null() if index < 0 else schema.field(index).type
        if pa.types.is_null(held):
            continue
        kind = _canonical_type(held, as_list=possible == LISTS)
        if possible == (NUMBER,) and kind == pa.int64():
            kind = NUMBER
        if kind not in possible:
            raise DataError(
                f"{path}, column {name!r}",
                got=f"type {held}",
                expected=_in_words(possible),
                fix="Correct the column in the log, or its role in the config.",
            )
        if first is not None and kind != first[1]:
            raise DataError(
                f"{path}, column {name!r}",
                got=f"type {held}",
                expected=f"{first[1]}, as in {first[0]}",
                fix="Write the column with one type in all files.",
            )
        first = first or (path, kind)
    return possible[0] if first is None else first[1]


def _canonical_type(held: pa.DataType, *, as_list: bool) -> pa.DataType | None:
    """Canonical type for a logged one; for a category unless it is a float."""
    if pa.types.is_dictionary(held):
        held = held.value_type
    if _is_list(held):
        inner = _canonical_type(held.value_type, as_list=False)
        if not as_list:
            return inner
        return pa.list_(inner) if inner in CATEGORIES else None
    if as_list:
        return None
    if pa.types.is_integer(held) or pa.types.is_boolean(held):
        return pa.int64()
    if _is_text(held):
        return pa.string()
    if pa.types.is_floating(held) or pa.types.is_decimal(held):
        return NUMBER
    return None


def _in_words(possible: tuple[pa.DataType, ...]) -> str:
    if possible == (NUMBER,):
        return "a number"
    return "a list of strings or integers" if possible == LISTS else "a string or an integer"


def _require(path: Path, schema: pa.Schema, name: str, expected: str, allowed: Any) -> None:
    index = schema.get_field_index(name)
    if index < 0:
        return
    held = schema.field(index).type
    if _is_list(held):
        held = held.value_type
    if not pa.types.is_null(held) and not allowed(held):
        raise DataError(
            f"{path}, column {name!r}",
            got=f"type {held}",
            expected=expected,
            fix="Correct the column in the log, or name another one in the config.",
        )


def _is_id(held: pa.DataType) -> bool:
    if pa.types.is_dictionary(held):
        held = held.value_type
    return bool(pa.types.is_integer(held) or _is_text(held))


def _is_time(held: pa.DataType) -> bool:
    return bool(
        pa.types.is_timestamp(held)
        or pa.types.is_date(held)
        or pa.types.is_integer(held)
        or pa.types.is_floating(held)
    )


def _is_text(held: pa.DataType) -> bool:
    return bool(
        pa.types.is_string(held)
        or pa.types.is_large_string(held)
        or pa.types.is_binary(held)
        or pa.types.is_large_binary(held)
    )


def _is_list(held: pa.DataType) -> bool:
    return bool(
        pa.types.is_list(held) or pa.types.is_large_list(held) or pa.types.is_fixed_size_list(held)
    )


def _single(column: pa.Array, name: str, place: Place) -> pa.Array:
    """The column itself, or the only values of a column of lists."""
    if not _is_list(column.type):
        return column
    if pa.types.is_fixed_size_list(column.type):
        column = column.cast(pa.list_(column.type.value_type))
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
        column = pc.if_else(nan, pa.scalar(None, NUMBER), column)
    return column


def _categories(column: pa.Array, kind: pa.DataType, name: str, place: Place) -> pa.Array:
    """Strings (empty ones made null) or int64."""
    if pa.types.is_null(column.type):
        return column.cast(kind)
    if _canonical_type(column.type, as_list=False) != kind:
        raise _wrong_type(column, str(kind), name, place)
    try:
        column = column.cast(kind)
    except pa.ArrowInvalid as error:
        raise place.error(
            name,
            None,
            got=" ".join(str(error).split()),
            expected="text in UTF-8" if kind == pa.string() else "integers that fit an int64",
            fix=f"Correct the value; it is in the {len(column)} rows from {place.first_row} on.",
        ) from error
    if kind == pa.string():
        empty = pc.equal(column, "")
        if pc.any(empty).as_py():
            column = pc.if_else(empty, pa.scalar(None, kind), column)
    return column


def _lists(column: pa.Array, kind: pa.DataType, name: str, place: Place) -> pa.Array:
    """Lists of strings or int64, without missing values inside."""
    if _is_text(column.type):
        column = pc.split_pattern(column.cast(pa.string()), "|")
    elif pa.types.is_null(column.type):
        return column.cast(kind)
    elif pa.types.is_fixed_size_list(column.type):
        column = column.cast(pa.list_(column.type.value_type))
    if not _is_list(column.type):
        raise _wrong_type(column, str(kind), name, place)
    lengths = pc.fill_null(pc.list_value_length(column), 0).to_numpy(zero_copy_only=False)
    values = column.flatten()
    if pa.types.is_dictionary(values.type):
        values = values.dictionary_decode()
    values = _categories(values, kind.value_type, name, place)
    if values.null_count:
        rows = np.repeat(np.arange(len(column)), lengths)
        kept = values.is_valid().to_numpy(zero_copy_only=False)
        lengths = np.bincount(rows[kept], minlength=len(column))
        values = values.drop_null()
    ends = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
    valid = column.is_valid().buffers()[1] if column.null_count else None
    return pa.Array.from_buffers(
        kind, len(column), [valid, pa.py_buffer(ends)], children=[values]
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
    if not _is_text(column.type):
        raise _wrong_type(column, "an integer or a string", name, place)
    import tensorflow as tf

    text = column.cast(pa.binary()).to_numpy(zero_copy_only=False)
    if not len(text):
        return pa.array([], KEY)
    return pa.array(tf.fingerprint(text).numpy().view("<i8").reshape(-1))


def _seconds(column: pa.Array, name: str, place: Place) -> pa.Array:
    """Int64 seconds since the epoch; a timestamp without a time zone is in UTC."""
    column = _single(column, name, place)
    if not (_is_time(column.type) or pa.types.is_null(column.type)):
        raise _wrong_type(column, "a timestamp or epoch seconds", name, place)
    if pa.types.is_floating(column.type):
        column = pc.floor(column)
        column = pc.if_else(pc.is_finite(column), column, pa.scalar(None, column.type))
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
        _refuse(wrong, raw, label.name, place, expected="at least 0, since the task's transform is log1p")


def _refuse(
    wrong: np.ndarray[Any, Any], raw: pa.Array, name: str, place: Place, *, expected: str
) -> None:
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
