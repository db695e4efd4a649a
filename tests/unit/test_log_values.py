"""The values of a log in their canonical types, whatever types and layouts they come in."""

from datetime import date, datetime, timezone
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from logged_columns import column_values, log_config, read_logs, write_parts

from tfx_distill.datasets import log_values
from tfx_distill.datasets.example_shards import in_lists
from tfx_distill.datasets.log_values import Place
from tfx_distill.schema.errors import DataError


def test_columns_come_in_canonical_types(tmp_path: Path) -> None:
    write_parts(tmp_path, {(0, "train"): column_values(10), (0, "eval"): column_values(14)})
    table = read_logs(tmp_path, log_config(tmp_path)).slice(0, 4)
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
