"""Reading and checking logs: what is read, and every error that a log can lead to."""

import os
from collections.abc import Callable
from datetime import date, datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tfx_distill.datasets import log_formats, log_values, logs
from tfx_distill.datasets.example_shards import in_lists
from tfx_distill.datasets.log_columns import LogConfig, LoggedLabel
from tfx_distill.datasets.log_values import Place
from tfx_distill.schema.config import DataConfig, RunConfig
from tfx_distill.schema.errors import ConfigError, DataError

Columns = dict[str, Any]


def _data(root: Path, kind: str = "parquet", **changes: Any) -> DataConfig:
    return DataConfig(
        **{
            "spans": f"{root}/span-{{SPAN}}/{{split}}-*",
            "format": kind,
            "example_id": "impression_id",
            "query_id": "request_id",
            "event_time": "timestamp",
        }
        | changes
    )


def _config(root: Path, kind: str = "parquet", **changes: Any) -> LogConfig:
    return LogConfig(
        **{
            "data": _data(root, kind),
            "numeric": ("age",),
            "categorical": ("device", "video"),
            "multivalent": ("topics",),
            "labels": (
                LoggedLabel(name="clicked", binary=True),
                LoggedLabel(name="watch_s", binary=False, log1p=True, applies_when="clicked"),
            ),
            "slices": ("new_item",),
        }
        | changes
    )


def _columns(first: int, rows: int = 4) -> Columns:
    number = np.arange(first, first + rows)
    return {
        "impression_id": number.tolist(),
        "request_id": [f"r{n // 2}" for n in number],
        "timestamp": (1_700_000_000 + number).tolist(),
        "age": [0.5, None, float("nan"), 3.0][:rows],
        "device": ["phone", None, "", "tv"][:rows],
        "video": [1, 2, None, 4][:rows],
        "topics": [["a", "b"], [], None, ["c", None]][:rows],
        "clicked": [1, 0, 1, 0][:rows],
        "watch_s": [1.5, None, 2.5, 0.0][:rows],
        "new_item": [True, False, True, None][:rows],
        "unused": ["x"] * rows,
    }


def _write(root: Path, parts: dict[tuple[int, str], Columns]) -> None:
    for (span, split), content in parts.items():
        path = root / f"span-{span}" / f"{split}-0.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.table(content), path)


def _two_spans() -> dict[tuple[int, str], Columns]:
    keys = [(0, "train"), (0, "eval"), (1, "train"), (1, "eval")]
    return {key: _columns(4 * place) for place, key in enumerate(keys)}


def _read(root: Path, config: LogConfig) -> pa.Table:
    found = logs.files(config.data)
    types = logs.column_types(config, found)
    return pa.Table.from_batches([b for file in found for b in logs.read(file, config, types)])


# Spans and files


def test_spans_are_found_by_their_numbers(tmp_path: Path) -> None:
    for name in ("span-0/train-a", "span-0/eval-a", "span-007/train-a", "span-x/train-a"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.touch()
    (tmp_path / "span-0" / "test-a").touch()
    data = _data(tmp_path)
    assert logs.available_spans(data) == [0, 7]
    found = [(f.span, f.split, str(f.path.relative_to(tmp_path))) for f in logs.files(data)]
    assert found == [
        (0, "train", "span-0/train-a"),
        (0, "eval", "span-0/eval-a"),
        (7, "train", "span-007/train-a"),
    ]


def test_patterns_may_repeat_placeholders_and_cross_folders(tmp_path: Path) -> None:
    for name in ("deep/er/train/3-3.parquet", "deep/train/3-4.parquet", "eval/3-3.parquet"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    data = _data(tmp_path, spans=f"{tmp_path}/**/{{split}}/{{SPAN}}-{{SPAN}}.parquet")
    assert [(f.split, f.path.name) for f in logs.files(data)] == [
        ("train", "3-3.parquet"),
        ("eval", "3-3.parquet"),
    ]


def test_eval_is_the_newest_eval_split_and_train_all_before(tmp_path: Path) -> None:
    _write(tmp_path, _two_spans())
    chosen = logs.split_files(_data(tmp_path), [0, 1])
    assert [(f.span, f.split) for f in chosen["train"]] == [(0, "train"), (0, "eval"), (1, "train")]
    assert [(f.span, f.split) for f in chosen["eval"]] == [(1, "eval")]


@pytest.mark.parametrize(("text", "spans"), [("0-3", (0, 3)), ("7", (7, 7)), (" 1-1 ", (1, 1))])
def test_span_ranges_are_parsed(text: str, spans: tuple[int, int]) -> None:
    assert logs.parse_spans(text) == spans


@pytest.mark.parametrize("text", ["", "a", "1-", "-1", "1-2-3"])
def test_other_span_ranges_are_refused(text: str) -> None:
    with pytest.raises(DataError, match="FIRST-LAST"):
        logs.parse_spans(text)


def test_fingerprint_notices_what_changes_the_data_and_nothing_else(tmp_path: Path) -> None:
    _write(tmp_path / "a", _two_spans())
    data = _data(tmp_path / "a")
    file = tmp_path / "a" / "span-1" / "eval-0.parquet"
    before, without = logs.fingerprint(data, [0, 1]), logs.fingerprint(data, [0])
    assert before != without
    assert logs.fingerprint(data, [0, 1]) == before
    (tmp_path / "a").rename(tmp_path / "b")
    assert logs.fingerprint(_data(tmp_path / "b"), [0, 1]) == before
    file = tmp_path / "b" / "span-1" / "eval-0.parquet"
    moment = file.stat().st_mtime_ns
    os.utime(file, ns=(moment, moment + 1))
    data = _data(tmp_path / "b")
    touched = logs.fingerprint(data, [0, 1])
    assert touched != before
    assert logs.fingerprint(data, [0]) == without
    file.rename(file.with_name("eval-1.parquet"))
    assert logs.fingerprint(data, [0, 1]) not in (before, touched)


# Canonical batches


def test_columns_come_in_canonical_types(tmp_path: Path) -> None:
    _write(tmp_path, {(0, "train"): _columns(10), (0, "eval"): _columns(14)})
    table = _read(tmp_path, _config(tmp_path)).slice(0, 4)
    assert {field.name: str(field.type) for field in table.schema} == {
        "example_id": "int64",
        "query_id": "int64",
        "event_time": "int64",
        "age": "float",
        "device": "string",
        "video": "int64",
        "topics": "list<item: string>",
        "clicked": "float",
        "watch_s": "float",
        "new_item": "int64",
    }
    content = table.to_pydict()
    assert content["example_id"] == [10, 11, 12, 13]
    assert content["query_id"][0] == content["query_id"][1] != content["query_id"][2]
    assert content["event_time"] == [1_700_000_010 + n for n in range(4)]
    assert content["age"] == [0.5, None, None, 3.0]
    assert content["device"] == ["phone", None, None, "tv"]
    assert content["video"] == [1, 2, None, 4]
    assert content["topics"] == [["a", "b"], [], None, ["c"]]
    assert content["clicked"] == [1.0, 0.0, 1.0, 0.0]
    assert content["watch_s"] == [1.5, None, 2.5, 0.0]
    assert content["new_item"] == [1, 0, 1, None]


def test_string_ids_are_the_fingerprints_that_bigquery_computes() -> None:
    # FARM_FINGERPRINT of these strings, from the example in BigQuery's reference.
    expected = {
        "1footrue": -1541654101129638711,
        "2applefalse": 2794438866806483259,
        "3true": -4880158226897771312,
    }
    for kind in (pa.string(), pa.large_string(), pa.binary()):
        ids = log_values._ids(pa.array(expected, kind), "id", Place(Path("f"), 0))
        assert ids.to_pylist() == list(expected.values())
    unsigned = pa.array([1, 2**64 - 1], pa.uint64())
    assert log_values._ids(unsigned, "id", Place(Path("f"), 0)).to_pylist() == [1, -1]


@pytest.mark.parametrize(
    "column",
    [
        pa.array([1_700_000_000]),
        pa.array([1_700_000_000], pa.int32()),
        pa.array([1_700_000_000.75]),
        pa.array([1_700_000_000_999], pa.timestamp("ms")),
        pa.array([1_700_000_000_999_999_999], pa.timestamp("ns", tz="Europe/Berlin")),
        pa.array([datetime.fromtimestamp(1_700_000_000, timezone.utc)]),
        pa.array([[1_700_000_000]], pa.large_list(pa.int64())),
    ],
    ids=lambda column: str(column.type),
)
def test_times_become_epoch_seconds(column: pa.Array) -> None:
    assert log_values._seconds(column, "t", Place(Path("f"), 0)).to_pylist() == [1_700_000_000]


@pytest.mark.parametrize("kind", [pa.date32(), pa.date64()])
def test_dates_become_their_first_second(kind: pa.DataType) -> None:
    column = pa.array([date(2024, 1, 2)], kind)
    expected = int(datetime(2024, 1, 2, tzinfo=timezone.utc).timestamp())
    assert log_values._seconds(column, "t", Place(Path("f"), 0)).to_pylist() == [expected]


@pytest.mark.parametrize(
    "column",
    [
        pa.array([1, None, 3], pa.int16()),
        pa.array([1, None, 3], pa.uint64()),
        pa.array([1.0, None, 3.0], pa.float64()),
        pa.array(np.array([1, np.nan, 3], np.float16)),
        pa.array([1, None, 3], pa.decimal128(5, 2)),
        pa.array([1, None, 3]).dictionary_encode().dictionary_decode(),
    ],
    ids=lambda column: str(column.type),
)
def test_numbers_of_any_width_become_float32(column: pa.Array) -> None:
    out = log_values._numbers(column, "x", Place(Path("f"), 0))
    assert out.type == pa.float32()
    assert out.to_pylist() == [1.0, None, 3.0]


LISTS = st.lists(st.none() | st.lists(st.none() | st.sampled_from(["", "a", "bc", "é"])))


@settings(max_examples=50, deadline=None)
@given(rows=LISTS, skip=st.integers(0, 9), large=st.booleans())
def test_lists_keep_their_values_whatever_the_layout(
    rows: list[list[str | None] | None], skip: int, large: bool
) -> None:
    kind = pa.large_list(pa.large_string()) if large else pa.list_(pa.string())
    # A slice has offsets that do not start at 0, and validity bits that do not either.
    column = pa.array(rows, kind).slice(skip)
    out = log_values._lists(column, pa.list_(pa.string()), "x", Place(Path("f"), 0))
    out.validate(full=True)
    expected = [row if row is None else [v for v in row if v] for row in rows[skip:]]
    assert out.to_pylist() == expected
    wrapped = in_lists(pa.RecordBatch.from_arrays([out], ["x"])).column(0)
    wrapped.validate(full=True)
    assert wrapped.type == pa.large_list(pa.large_binary())
    assert wrapped.to_pylist() == [r and [v.encode() for v in r] for r in expected]


@settings(max_examples=50, deadline=None)
@given(
    rows=st.lists(st.tuples(st.none() | st.sampled_from(["", "a", "bc"]), st.none() | st.floats())),
    skip=st.integers(0, 9),
)
def test_missing_values_are_null_whatever_the_layout(
    rows: list[tuple[str | None, float | None]], skip: int
) -> None:
    place = Place(Path("f"), 0)
    texts = pa.array([text for text, _ in rows], pa.string()).slice(skip)
    out = log_values._categories(texts, pa.string(), "x", place)
    out.validate(full=True)
    assert out.to_pylist() == [text or None for text, _ in rows[skip:]]
    numbers = pa.array([number for _, number in rows], pa.float64()).slice(skip)
    expected = np.array([np.nan if n is None else n for _, n in rows[skip:]])
    with np.errstate(over="ignore"):
        expected = expected.astype(np.float32)
    if np.isinf(expected).any():
        with pytest.raises(DataError, match=f"row {np.isinf(expected).argmax()} "):
            log_values._numbers(numbers, "x", place)
    else:
        found = log_values._numbers(numbers, "x", place)
        assert found.null_count == np.isnan(expected).sum()
        np.testing.assert_array_equal(found.to_numpy(zero_copy_only=False), expected)


def test_lists_of_a_fixed_size_are_lists() -> None:
    fixed = pa.array([[1, 2], None, [3, None]], pa.list_(pa.int32(), 2))
    out = log_values._lists(fixed, pa.list_(pa.int64()), "x", Place(Path("f"), 0))
    out.validate(full=True)
    assert out.to_pylist() == [[1, 2], None, [3]]
    single = pa.array([[1], None, [3]], pa.list_(pa.int32(), 1))
    assert log_values._single(single, "x", Place(Path("f"), 0)).to_pylist() == [1, None, 3]


@settings(max_examples=50, deadline=None)
@given(rows=st.lists(st.none() | st.integers(-(2**63), 2**63 - 1)), skip=st.integers(0, 9))
def test_single_values_become_lists_of_one(rows: list[int | None], skip: int) -> None:
    column = pa.array(rows, pa.int64()).slice(skip)
    wrapped = in_lists(pa.RecordBatch.from_arrays([column], ["x"])).column(0)
    wrapped.validate(full=True)
    assert wrapped.type == pa.large_list(pa.int64())
    assert wrapped.to_pylist() == [None if v is None else [v] for v in rows[skip:]]
    # And back: what was written as lists can be read as a log.
    again = log_values._single(wrapped, "x", Place(Path("f"), 0))
    assert again.to_pylist() == rows[skip:]


# The other formats hold the same examples.


def test_csv_reads_as_parquet_does(tmp_path: Path) -> None:
    parts = {(0, "train"): _columns(0), (0, "eval"): _columns(4)}
    _write(tmp_path / "parquet", parts)
    for (span, split), content in parts.items():
        path = tmp_path / "csv" / f"span-{span}" / f"{split}-0.csv"
        path.parent.mkdir(parents=True, exist_ok=True)
        joined = [None if t is None else "|".join(filter(None, t)) for t in content["topics"]]
        ints = [None if n is None else int(n) for n in content["new_item"]]
        pl.DataFrame(content | {"topics": joined, "new_item": ints}).write_csv(path)
    from_csv = _read(tmp_path / "csv", _config(tmp_path / "csv", "csv")).to_pydict()
    from_parquet = _read(tmp_path / "parquet", _config(tmp_path / "parquet")).to_pydict()
    # A CSV has no types: its integers are text, and an empty list is an empty cell.
    assert from_csv.pop("new_item") == ["1", "0", "1", None] * 2
    assert from_csv.pop("video") == ["1", "2", None, "4"] * 2
    assert from_csv.pop("topics") == [["a", "b"], None, None, ["c"]] * 2
    assert len(set(from_csv.pop("example_id"))) == 8
    for name, values in from_csv.items():
        assert values == from_parquet[name], name


def _write_records(path: Path, content: Columns) -> None:
    import tensorflow as tf

    path.parent.mkdir(parents=True, exist_ok=True)
    with tf.io.TFRecordWriter(str(path), "GZIP" if path.suffix == ".gz" else "") as out:
        for row in range(len(content["impression_id"])):
            feature = {}
            for name, values in content.items():
                value = values[row]
                listed = value if isinstance(value, list) else [value]
                listed = [item for item in listed if item is not None]
                if listed and isinstance(listed[0], str):
                    texts = tf.train.BytesList(value=[v.encode() for v in listed])
                    feature[name] = tf.train.Feature(bytes_list=texts)
                elif listed and isinstance(listed[0], float):
                    feature[name] = tf.train.Feature(float_list=tf.train.FloatList(value=listed))
                elif listed:
                    feature[name] = tf.train.Feature(
                        int64_list=tf.train.Int64List(value=map(int, listed))
                    )
            example = tf.train.Example(features=tf.train.Features(feature=feature))
            out.write(example.SerializeToString())


def test_tf_examples_read_as_parquet_does(tmp_path: Path) -> None:
    parts = {(0, "train"): _columns(0), (0, "eval"): _columns(4)}
    # A feature that is missing in all of a file is not named in it.
    parts[0, "eval"]["device"] = [None] * 4
    _write(tmp_path / "parquet", parts)
    for ending, (key, content) in zip(("", ".gz"), parts.items(), strict=True):
        path = tmp_path / "records" / f"span-{key[0]}" / f"{key[1]}-0{ending}"
        _write_records(path, content)
    from_records = _read(tmp_path / "records", _config(tmp_path / "records", "tfrecord"))
    from_parquet = _read(tmp_path / "parquet", _config(tmp_path / "parquet"))
    # An empty list is not told from a missing one.
    topics = [["a", "b"], None, None, ["c"]] * 2
    assert from_records.column("topics").to_pylist() == topics
    for name in from_parquet.schema.names:
        if name != "topics":
            assert from_records.column(name).equals(from_parquet.column(name)), name


def test_batches_are_bounded_and_rows_are_counted_across_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_formats, "BATCH_ROWS", 3)
    content = {name: values * 3 for name, values in _columns(0).items()}
    content["impression_id"] = list(range(12))
    _write(tmp_path, {(0, "train"): content})
    config = _config(tmp_path)
    (file,) = logs.files(config.data)
    types = logs.column_types(config, [file])
    assert [batch.num_rows for batch in logs.read(file, config, types)] == [3, 3, 3, 3]
    content["clicked"] = [1, 0, 1, 0, 1, 0, 1, None, 1, 0, 1, 0]
    _write(tmp_path, {(0, "train"): content})
    with pytest.raises(DataError, match=r"row 7 "):
        list(logs.read(file, config, types))


# The check of a whole run


def test_check_counts_rows_times_and_types(tmp_path: Path) -> None:
    _write(tmp_path, _two_spans())
    report = logs.check(_config(tmp_path))
    at = 1_700_000_000
    assert report.parts == (
        logs.Part(0, "train", 1, 4, at, at + 3),
        logs.Part(0, "eval", 1, 4, at + 4, at + 7),
        logs.Part(1, "train", 1, 4, at + 8, at + 11),
        logs.Part(1, "eval", 1, 4, at + 12, at + 15),
    )
    assert report.spans == (0, 1)
    assert (report.rows("train"), report.rows("eval")) == (12, 4)
    assert report.watermark == at + 11
    assert report.types["video"] == pa.int64()
    assert report.warnings == ()
    assert logs.check(_config(tmp_path), (1, 1)).rows("train") == 4


def test_check_takes_the_run_config(tmp_path: Path) -> None:
    _write(tmp_path, _two_spans())
    bound = {"task": "click", "metric": "auc", "min": 0.5}
    error = {"task": "watch", "metric": "mse", "max": 9.0}
    raw = {
        "name": "tiny",
        "data": _data(tmp_path).model_dump(),
        "features": {
            "numeric": ["age"],
            "categorical": [{"name": "device", "vocab": 4}, {"name": "video", "buckets": 9}],
            "multivalent": [{"name": "topics", "vocab": 8}],
        },
        "tasks": [
            {"name": "click", "kind": "binary", "label": "clicked"},
            {
                "name": "watch",
                "kind": "regression",
                "label": "watch_s",
                "transform": "log1p",
                "applies_when": "clicked",
            },
        ],
        "students": [{"name": "small"}],
        "gate": {"students": [bound, error], "teacher": [bound, error], "slices": ["new_item"]},
        "push": {"directory": "serving"},
    }
    config = RunConfig.model_validate(raw)
    assert LogConfig.of(config) == _config(tmp_path)
    assert set(LogConfig.of(config).logged) == set(config.raw_columns)
    assert logs.check(config) == logs.check(_config(tmp_path))
    # Encodings do not concern the ingest: its cache key stays the same.
    raw["features"]["categorical"][0]["vocab"] = 99
    assert LogConfig.of(RunConfig.model_validate(raw)) == LogConfig.of(config)
    # A value that the pushed model is to take instead of the log has the type of the column.
    raw["features"]["categorical"][0]["serving_value"] = "tv"
    logs.check(RunConfig.model_validate(raw))
    raw["features"]["categorical"][0]["serving_value"] = 7
    with pytest.raises(ConfigError, match=r"device\.serving_value: got 7; expected .* string"):
        logs.check(RunConfig.model_validate(raw))


def test_equal_times_of_train_and_eval_are_allowed(tmp_path: Path) -> None:
    parts = _two_spans()
    parts[0, "eval"]["timestamp"][0] = parts[0, "train"]["timestamp"][-1]
    _write(tmp_path, parts)
    logs.check(_config(tmp_path))


def test_a_query_in_both_splits_is_a_warning(tmp_path: Path) -> None:
    parts = _two_spans()
    parts[1, "eval"]["request_id"][0] = parts[1, "train"]["request_id"][-1]
    _write(tmp_path, parts)
    (warning,) = logs.check(_config(tmp_path)).warnings
    assert warning.startswith("span 1: 1 of 3 eval queries")


def test_a_label_may_be_missing_only_where_its_task_does_not_apply(tmp_path: Path) -> None:
    parts = _two_spans()
    parts[0, "train"]["watch_s"] = [1.0, float("nan"), 2.0, None]
    _write(tmp_path, parts)
    logs.check(_config(tmp_path))


@pytest.mark.parametrize("value", [None, 2, float("nan")])
def test_a_flag_that_is_neither_0_nor_1_is_refused(value: Any, tmp_path: Path) -> None:
    parts = {key: part | {"shown": [1, 0, 1, 1]} for key, part in _two_spans().items()}
    labels = (LoggedLabel(name="clicked", binary=True, applies_when="shown"),)
    config = _config(tmp_path, labels=labels)
    parts[0, "eval"]["clicked"] = [1, None, 0, 0]
    _write(tmp_path, parts)
    logs.check(config)
    parts[0, "eval"]["shown"] = [1.0, 0.0, value, 1.0]
    _write(tmp_path, parts)
    with pytest.raises(DataError, match=r"eval-0.parquet, column 'shown', row 2 .* 0 or 1 in a"):
        logs.check(config)


# Every error names the place, what was got, what was expected and the fix.


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
    parts = _two_spans()
    change(parts)
    for key, content in parts.items():
        path = tmp_path / f"span-{key[0]}" / f"{key[1]}-0.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(content if isinstance(content, pa.Table) else pa.table(content), path)
    with pytest.raises(DataError) as caught:
        logs.check(_config(tmp_path))
    error = caught.value
    for words in where:
        assert words in error.where
    assert got in error.got
    assert expected in error.expected
    assert fix in error.fix


def test_the_unchanged_logs_of_the_table_above_are_fine(tmp_path: Path) -> None:
    _write(tmp_path, _two_spans())
    logs.check(_config(tmp_path))


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"span-\{SPAN\}.*no file.*data\.spans"):
        logs.check(_config(tmp_path))


def test_missing_span_and_missing_split_are_named(tmp_path: Path) -> None:
    parts = _two_spans() | {(3, "train"): _columns(50)}
    _write(tmp_path, parts)
    with pytest.raises(DataError, match=r"^span 2 of .* choose from .*: 0-1, 3\.$"):
        logs.check(_config(tmp_path))
    with pytest.raises(DataError, match=r"^span 3 of .* got no eval file"):
        logs.check(_config(tmp_path), (3, 3))
    with pytest.raises(DataError, match="Swap"):
        logs.check(_config(tmp_path), (1, 0))


@pytest.mark.parametrize("keep", [0, 100, -1], ids=["empty", "truncated", "one byte short"])
def test_a_truncated_parquet_file_is_named(keep: int, tmp_path: Path) -> None:
    _write(tmp_path, _two_spans())
    path = tmp_path / "span-1" / "train-0.parquet"
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(DataError) as caught:
        logs.check(_config(tmp_path))
    assert caught.value.where == str(path)
    assert "a complete Parquet file" in caught.value.expected
    assert "write it again" in caught.value.fix


def test_a_parquet_file_damaged_inside_is_named(tmp_path: Path) -> None:
    _write(tmp_path, _two_spans())
    path = tmp_path / "span-1" / "train-0.parquet"
    content = bytearray(path.read_bytes())
    start = pq.ParquetFile(path).metadata.row_group(0).column(0).dictionary_page_offset
    content[start : start + 30] = b"\xff" * 30
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"span-1/train-0\.parquet, row 0 or later"):
        logs.check(_config(tmp_path))


CSV_ERRORS = {
    "text in a number": (2, "age", "abc", ["column 'age', row 1 ", "'abc'", "a number"]),
    "too many cells": (3, "unused", "x,y", ["train-0.csv, row ", "Expected 11 columns"]),
    "label": (4, "clicked", "", ["column 'clicked', row 3 ", "null", "a label in every row"]),
    "no time": (1, "timestamp", "soon", ["column 'timestamp'", "a timestamp or epoch seconds"]),
}


@pytest.mark.parametrize("name", CSV_ERRORS)
def test_errors_in_csv_name_file_column_and_row(name: str, tmp_path: Path) -> None:
    line, column, cell, says = CSV_ERRORS[name]
    content = _columns(0) | {"topics": ["a|b", "", None, "c"]}
    for split, shift in (("train", 0), ("eval", 4)):
        path = tmp_path / "span-0" / f"{split}-0.csv"
        path.parent.mkdir(exist_ok=True)
        ids = [n + shift for n in content["impression_id"]]
        times = [n + shift for n in content["timestamp"]]
        table = pl.DataFrame(content | {"impression_id": ids, "timestamp": times})
        table.write_csv(path)
    logs.check(_config(tmp_path, "csv"))
    path = tmp_path / "span-0" / "train-0.csv"
    lines = [text.split(",") for text in path.read_text().splitlines()]
    lines[line][lines[0].index(column)] = cell
    path.write_text("\n".join(",".join(text) for text in lines))
    with pytest.raises(DataError) as caught:
        logs.check(_config(tmp_path, "csv"))
    assert "train-0.csv" in caught.value.where
    for words in says:
        assert words in str(caught.value)


def test_an_empty_csv_is_named(tmp_path: Path) -> None:
    for split in ("train", "eval"):
        path = tmp_path / "span-0" / f"{split}-0.csv"
        path.parent.mkdir(exist_ok=True)
        path.touch()
    with pytest.raises(DataError, match=r"train-0\.csv: got an empty file"):
        logs.check(_config(tmp_path, "csv"))


@pytest.mark.parametrize("fault", ["truncated", "no examples", "missing column", "two types"])
def test_errors_in_tfrecords_name_the_file(fault: str, tmp_path: Path) -> None:
    import tensorflow as tf

    for split, first in (("train", 0), ("eval", 4)):
        _write_records(tmp_path / "span-0" / f"{split}-0", _columns(first))
    path = tmp_path / "span-0" / "eval-0"
    content = _columns(4)
    if fault == "truncated":
        path.write_bytes(path.read_bytes()[:-7])
        says = "a complete TFRecord file"
    elif fault == "no examples":
        with tf.io.TFRecordWriter(str(path)) as out:
            out.write(b"\xff\xff")
        says = "serialised tf.Examples"
    elif fault == "missing column":
        for split, first in (("train", 0), ("eval", 4)):
            content = _columns(first)
            content["devise"] = content.pop("device")
            _write_records(tmp_path / "span-0" / f"{split}-0", content)
        path = tmp_path / "span-0" / "train-0"
        says = "did you mean 'devise'?"
    else:
        content["video"] = ["a", "b", "c", "d"]
        _write_records(path, content)
        says = "int64, as in"
    with pytest.raises(DataError) as caught:
        logs.check(_config(tmp_path, "tfrecord"))
    assert str(path) in caught.value.where
    assert says in str(caught.value)
