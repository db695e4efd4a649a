"""Logs of every format hold the same examples, and a damaged file is named."""

from pathlib import Path

import polars as pl
import pyarrow.parquet as pq
import pytest
from logged_columns import Columns, column_values, log_config, read_logs, two_spans, write_parts

from tfx_distill.datasets import log_formats, logs
from tfx_distill.schema.errors import DataError


def test_csv_reads_as_parquet_does(tmp_path: Path) -> None:
    parts = {(0, "train"): column_values(0), (0, "eval"): column_values(4)}
    write_parts(tmp_path / "parquet", parts)
    for (span, split), content in parts.items():
        path = tmp_path / "csv" / f"span-{span}" / f"{split}-0.csv"
        path.parent.mkdir(parents=True, exist_ok=True)
        joined = [None if t is None else "|".join(filter(None, t)) for t in content["topics"]]
        ints = [None if n is None else int(n) for n in content["new_item"]]
        pl.DataFrame(content | {"topics": joined, "new_item": ints}).write_csv(path)
    from_csv = read_logs(tmp_path / "csv", log_config(tmp_path / "csv", "csv")).to_pydict()
    from_parquet = read_logs(tmp_path / "parquet", log_config(tmp_path / "parquet")).to_pydict()
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
    parts = {(0, "train"): column_values(0), (0, "eval"): column_values(4)}
    # A feature that is missing in all of a file is not named in it.
    parts[0, "eval"]["device"] = [None] * 4
    write_parts(tmp_path / "parquet", parts)
    for ending, (key, content) in zip(("", ".gz"), parts.items(), strict=True):
        path = tmp_path / "records" / f"span-{key[0]}" / f"{key[1]}-0{ending}"
        _write_records(path, content)
    from_records = read_logs(tmp_path / "records", log_config(tmp_path / "records", "tfrecord"))
    from_parquet = read_logs(tmp_path / "parquet", log_config(tmp_path / "parquet"))
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
    content = {name: values * 3 for name, values in column_values(0).items()}
    content["impression_id"] = list(range(12))
    write_parts(tmp_path, {(0, "train"): content})
    config = log_config(tmp_path)
    (file,) = logs.files(config.data)
    types = logs.column_types(config, [file])
    assert [batch.num_rows for batch in logs.read(file, config, types)] == [3, 3, 3, 3]
    content["clicked"] = [1, 0, 1, 0, 1, 0, 1, None, 1, 0, 1, 0]
    write_parts(tmp_path, {(0, "train"): content})
    with pytest.raises(DataError, match=r"row 7 "):
        list(logs.read(file, config, types))


@pytest.mark.parametrize("keep", [0, 100, -1], ids=["empty", "truncated", "one byte short"])
def test_a_truncated_parquet_file_is_named(keep: int, tmp_path: Path) -> None:
    write_parts(tmp_path, two_spans())
    path = tmp_path / "span-1" / "train-0.parquet"
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(DataError) as caught:
        logs.check(log_config(tmp_path))
    assert caught.value.where == str(path)
    assert "a complete Parquet file" in caught.value.expected
    assert "write it again" in caught.value.fix


def test_a_parquet_file_damaged_inside_is_named(tmp_path: Path) -> None:
    write_parts(tmp_path, two_spans())
    path = tmp_path / "span-1" / "train-0.parquet"
    content = bytearray(path.read_bytes())
    start = pq.ParquetFile(path).metadata.row_group(0).column(0).dictionary_page_offset
    content[start : start + 30] = b"\xff" * 30
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"span-1/train-0\.parquet, row 0 or later"):
        logs.check(log_config(tmp_path))


CSV_ERRORS = {
    "text in a number": (2, "age", "abc", ["column 'age', row 1 ", "'abc'", "a number"]),
    "too many cells": (3, "unused", "x,y", ["train-0.csv, row ", "Expected 11 columns"]),
    "label": (4, "clicked", "", ["column 'clicked', row 3 ", "null", "a label in every row"]),
    "no time": (1, "timestamp", "soon", ["column 'timestamp'", "a timestamp or epoch seconds"]),
}


@pytest.mark.parametrize("name", CSV_ERRORS)
def test_errors_in_csv_name_file_column_and_row(name: str, tmp_path: Path) -> None:
    line, column, cell, says = CSV_ERRORS[name]
    content = column_values(0) | {"topics": ["a|b", "", None, "c"]}
    for split, shift in (("train", 0), ("eval", 4)):
        path = tmp_path / "span-0" / f"{split}-0.csv"
        path.parent.mkdir(exist_ok=True)
        ids = [n + shift for n in content["impression_id"]]
        times = [n + shift for n in content["timestamp"]]
        table = pl.DataFrame(content | {"impression_id": ids, "timestamp": times})
        table.write_csv(path)
    logs.check(log_config(tmp_path, "csv"))
    path = tmp_path / "span-0" / "train-0.csv"
    lines = [text.split(",") for text in path.read_text().splitlines()]
    lines[line][lines[0].index(column)] = cell
    path.write_text("\n".join(",".join(text) for text in lines))
    with pytest.raises(DataError) as caught:
        logs.check(log_config(tmp_path, "csv"))
    assert "train-0.csv" in caught.value.where
    for words in says:
        assert words in str(caught.value)


def test_an_empty_csv_is_named(tmp_path: Path) -> None:
    for split in ("train", "eval"):
        path = tmp_path / "span-0" / f"{split}-0.csv"
        path.parent.mkdir(exist_ok=True)
        path.touch()
    with pytest.raises(DataError, match=r"train-0\.csv: got an empty file"):
        logs.check(log_config(tmp_path, "csv"))


@pytest.mark.parametrize("fault", ["truncated", "no examples", "missing column", "two types"])
def test_errors_in_tfrecords_name_the_file(fault: str, tmp_path: Path) -> None:
    import tensorflow as tf

    for split, first in (("train", 0), ("eval", 4)):
        _write_records(tmp_path / "span-0" / f"{split}-0", column_values(first))
    path = tmp_path / "span-0" / "eval-0"
    content = column_values(4)
    if fault == "truncated":
        path.write_bytes(path.read_bytes()[:-7])
        says = "a complete TFRecord file"
    elif fault == "no examples":
        with tf.io.TFRecordWriter(str(path)) as out:
            out.write(b"\xff\xff")
        says = "serialised tf.Examples"
    elif fault == "missing column":
        for split, first in (("train", 0), ("eval", 4)):
            content = column_values(first)
            content["devise"] = content.pop("device")
            _write_records(tmp_path / "span-0" / f"{split}-0", content)
        path = tmp_path / "span-0" / "train-0"
        says = "did you mean 'devise'?"
    else:
        content["video"] = ["a", "b", "c", "d"]
        _write_records(path, content)
        says = "int64, as in"
    with pytest.raises(DataError) as caught:
        logs.check(log_config(tmp_path, "tfrecord"))
    assert str(path) in caught.value.where
    assert says in str(caught.value)
