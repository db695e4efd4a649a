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
from typing import Any

import pyarrow as pa

from tfx_distill.schema import columns
from tfx_distill.schema.config import DataConfig, RunConfig, Section
from tfx_distill.schema.errors import ConfigError, DataError

NUMBER = pa.float32()
KEY = pa.int64()
CATEGORIES = (pa.string(), pa.int64())
LISTS = (pa.list_(pa.string()), pa.list_(pa.int64()))


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
        """The part of `config` that concerns the logs."""
        return cls(
            # Engines make no difference to what is read.
            data=config.data.model_copy(update={"engine": "beam"}),
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
        for path in schemas:
            _refuse_missing(path, config.logged, merged)
    else:
        for path, schema in schemas.items():
            _refuse_missing(path, config.logged, schema.names)
    found: dict[str, pa.DataType] = dict.fromkeys(columns.KEYS, KEY)
    for name, possible in config.kinds.items():
        found[name] = _one_type(name, possible, schemas)
    data = config.data
    for path, schema in schemas.items():
        for name in (data.example_id, data.query_id):
            _require(path, schema, name, "an integer or a string", _is_id)
        _require(path, schema, data.event_time, "a timestamp or epoch seconds", is_time)
    return found


def require_serving_values(config: RunConfig, types: Mapping[str, pa.DataType]) -> None:
    """Refuses a `serving_value` that is not of the type of its logged column.

    Args:
      config: The run config.
      types: Canonical types of the columns, as `types` finds them.

    Raises:
      ConfigError: A text is given for a column of integers, or the other way round.
    """
    for feature in (*config.features.categorical, *config.features.multivalent):
        value = feature.serving_value
        held = types[feature.name]
        held = held.value_type if pa.types.is_list(held) else held
        if value is not None and isinstance(value, str) == pa.types.is_integer(held):
            raise ConfigError(
                f"features, {feature.name}.serving_value",
                got=repr(value),
                expected=f"a value of the column's type, {held}",
                fix="Write integers without quotes and text with them.",
            )


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
        kind = canonical_type(held, as_list=possible == LISTS)
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


def canonical_type(held: pa.DataType, *, as_list: bool) -> pa.DataType | None:
    """Canonical type for a logged one; for a category unless it is a float."""
    if pa.types.is_dictionary(held):
        held = held.value_type
    if is_list(held):
        inner = canonical_type(held.value_type, as_list=False)
        if not as_list:
            return inner
        return pa.list_(inner) if inner in CATEGORIES else None
    if as_list:
        return None
    if pa.types.is_integer(held) or pa.types.is_boolean(held):
        return pa.int64()
    if is_text(held):
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
    if is_list(held):
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
    return bool(pa.types.is_integer(held) or is_text(held))


def is_time(held: pa.DataType) -> bool:
    """Whether a column of this type can be an event time."""
    return bool(
        pa.types.is_timestamp(held)
        or pa.types.is_date(held)
        or pa.types.is_integer(held)
        or pa.types.is_floating(held)
    )


def is_text(held: pa.DataType) -> bool:
    """Whether the type is one of strings or bytes."""
    return bool(
        pa.types.is_string(held)
        or pa.types.is_large_string(held)
        or pa.types.is_binary(held)
        or pa.types.is_large_binary(held)
    )


def is_list(held: pa.DataType) -> bool:
    """Whether the type is one of lists."""
    return bool(
        pa.types.is_list(held) or pa.types.is_large_list(held) or pa.types.is_fixed_size_list(held)
    )
