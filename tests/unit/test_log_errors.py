"""Every error of a log names the place, what was got, what was expected and the fix."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from logged_columns import Columns, column_values, log_config, two_spans, write_parts

from tfx_distill.datasets import logs
from tfx_distill.schema.errors import DataError


def _set(key: tuple[int, str], column: str, row: int, value: Any) -> Callable[..., None]:
    def change(parts: dict[tuple[int, str], Columns]) -> None:
        values = parts[key][column]
        parts[key][column] = [*values[:row], value, *values[row + 1 :]]

    return change


def _replace(key: tuple[int, str], column: str, values: Any) -> Callable[..., None]:
    def change(parts: dict[tuple[int, str], Columns]) -> None:
        parts[key][column] = values

    return change


def _rename(key: tuple[int, str], column: str, name: str) -> Callable[..., None]:
    def change(parts: dict[tuple[int, str], Columns]) -> None:
        parts[key][name] = parts[key].pop(column)

    return change


def _empty(key: tuple[int, str]) -> Callable[..., None]:
    def change(parts: dict[tuple[int, str], Columns]) -> None:
        parts[key] = pa.table(parts[key]).slice(0, 0)  # type: ignore[assignment]

    return change


T0, E0, T1, E1 = (0, "train"), (0, "eval"), (1, "train"), (1, "eval")
TRAIN0, EVAL1 = "span-0/train-0.parquet", "span-1/eval-0.parquet"

ERRORS: dict[str, tuple[Callable[..., None], list[str], str, str, str]] = {
    # name: (change, where, got, expected, fix)
    "missing column": (
        _rename(T0, "watch_s", "watch_sec"),
        [TRAIN0, "column 'watch_s'"],
        "no such column",
        "every column",
        "did you mean 'watch_sec'?",
    ),
    "missing column, nothing like it": (
        _rename(T0, "watch_s", "zzzz"),
        [TRAIN0, "column 'watch_s'"],
        "no such column",
        "every column",
        "there are [",
    ),
    "string where a number is declared": (
        _replace(E1, "age", ["1", "2", "3", "4"]),
        [EVAL1, "column 'age'"],
        "type string",
        "a number",
        "role in the config",
    ),
    "number where a category is declared": (
        _replace(T0, "video", [1.0, 2.0, 3.0, 4.0]),
        [TRAIN0, "column 'video'"],
        "type double",
        "a string or an integer",
        "role in the config",
    ),
    "single values where lists are declared": (
        _replace(T0, "topics", ["a", "b", "c", "d"]),
        [TRAIN0, "column 'topics'"],
        "type string",
        "a list of strings or integers",
        "role in the config",
    ),
    "two types in two files": (
        _replace(E1, "video", ["1", "2", "3", "4"]),
        [EVAL1, "column 'video'"],
        "type string",
        "int64, as in",
        "one type in all files",
    ),
    "several values in a single-valued column": (
        _replace(T0, "device", [["a"], ["b"], ["c", "d"], []]),
        [TRAIN0, "column 'device'", "row 2 "],
        "2 values",
        "one value",
        "features.multivalent",
    ),
    "infinite feature": (
        _set(T0, "age", 1, float("inf")),
        [TRAIN0, "column 'age'", "row 1 "],
        "inf",
        "a finite number",
        "Correct the value",
    ),
    "integer beyond int64": (
        _replace(T0, "video", pa.array([1, 2, 2**64 - 1, 3], pa.uint64())),
        [TRAIN0, "column 'video'", "row 2 "],
        "18446744073709551615",
        "fit an int64",
        "Correct the value",
    ),
    "text that is not UTF-8": (
        _replace(T0, "device", [b"a", b"\xff", b"c", b"d"]),
        [TRAIN0, "column 'device'", "row 1 "],
        "UTF8",
        "text in UTF-8",
        "Correct the value",
    ),
    "text that is not UTF-8, in a list": (
        _replace(T0, "topics", [[b"a", b"b"], None, [b"c", b"\xff"], []]),
        [TRAIN0, "column 'topics'", "row 2 "],
        "UTF8",
        "text in UTF-8",
        "Correct the value",
    ),
    "null label": (
        _set(E1, "clicked", 2, None),
        [EVAL1, "column 'clicked'", "row 2 "],
        "null",
        "a label in every row",
        "leave the row out",
    ),
    "NaN label": (
        _replace(T0, "watch_s", [float("nan"), 0.0, 0.0, 0.0]),
        [TRAIN0, "column 'watch_s'", "row 0 "],
        "nan",
        "a label where clicked is 1",
        "leave the row out",
    ),
    "binary label out of range": (
        _set(E1, "clicked", 3, 2),
        [EVAL1, "column 'clicked'", "row 3 "],
        "2",
        "0 or 1",
        "1 of the 4 rows",
    ),
    "negative label with log1p": (
        _set(T0, "watch_s", 1, -1.0),
        [TRAIN0, "column 'watch_s'", "row 1 "],
        "-1.0",
        "at least 0",
        "Correct the value",
    ),
    "null id": (
        _set(T0, "impression_id", 1, None),
        [TRAIN0, "column 'impression_id'", "row 1 "],
        "null",
        "an id in every row",
        "Log the id",
    ),
    "id of a wrong type": (
        _replace(T0, "request_id", [0.5, 1.5, 2.5, 3.5]),
        [TRAIN0, "column 'request_id'"],
        "type double",
        "an integer or a string",
        "name another one",
    ),
    "null time": (
        _set(T0, "timestamp", 2, None),
        [TRAIN0, "column 'timestamp'", "row 2 "],
        "no time",
        "a time in every row",
        "Log the time",
    ),
    "time as text": (
        _replace(T0, "timestamp", ["2024-01-01"] * 4),
        [TRAIN0, "column 'timestamp'"],
        "type string",
        "a timestamp or epoch seconds",
        "name another one",
    ),
    "time in milliseconds": (
        _set(T0, "timestamp", 3, 1_700_000_000_000),
        [TRAIN0, "column 'timestamp'", "row 3 "],
        "1700000000000",
        "seconds since the epoch",
        "look like milliseconds",
    ),
    "empty split": (
        _empty(E1),
        ["span 1", "split eval"],
        "no rows in 1 file(s)",
        "at least one example",
        "leave the span out",
    ),
    "duplicate id across splits": (
        _set(E1, "impression_id", 2, 1),
        [EVAL1, "row 2 "],
        "example id 1 again, first seen in",
        "an id of its own",
        "Log unique ids",
    ),
    "eval earlier than train": (
        _set(E1, "timestamp", 1, 1_700_000_009),
        ["span 1", EVAL1, "row 1 "],
        "2023-11-14 22:13:29+00:00",
        "the newest one trained on, 2023-11-14 22:13:31+00:00",
        "Cut train and eval by event time",
    ),
    "eval earlier than an earlier span": (
        _set(E0, "timestamp", 3, 1_700_000_013),
        ["span 1", EVAL1, "row 0 "],
        "2023-11-14 22:13:32+00:00",
        "span-0/eval-0.parquet, row 3 ",
        "Cut train and eval by event time",
    ),
}


@pytest.mark.parametrize("name", ERRORS)
def test_every_error_says_where_got_expected_and_fix(name: str, tmp_path: Path) -> None:
    change, where, got, expected, fix = ERRORS[name]
    parts = two_spans()
    change(parts)
    for key, content in parts.items():
        path = tmp_path / f"span-{key[0]}" / f"{key[1]}-0.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(content if isinstance(content, pa.Table) else pa.table(content), path)
    with pytest.raises(DataError) as caught:
        logs.check(log_config(tmp_path))
    error = caught.value
    for words in where:
        assert words in error.where
    assert got in error.got
    assert expected in error.expected
    assert fix in error.fix


def test_the_unchanged_logs_of_the_table_above_are_fine(tmp_path: Path) -> None:
    write_parts(tmp_path, two_spans())
    logs.check(log_config(tmp_path))


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"span-\{SPAN\}.*no file.*data\.spans"):
        logs.check(log_config(tmp_path))


def test_missing_span_and_missing_split_are_named(tmp_path: Path) -> None:
    parts = two_spans() | {(3, "train"): column_values(50)}
    write_parts(tmp_path, parts)
    with pytest.raises(DataError, match=r"^span 2 of .* choose from .*: 0-1, 3\.$"):
        logs.check(log_config(tmp_path))
    with pytest.raises(DataError, match=r"^span 3 of .* got no eval file"):
        logs.check(log_config(tmp_path), (3, 3))
    with pytest.raises(DataError, match="Swap"):
        logs.check(log_config(tmp_path), (1, 0))
