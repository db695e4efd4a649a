"""Which files of a log are read: spans, patterns and their fingerprint."""

import os
from pathlib import Path

import pytest
from logged_columns import data_config, two_spans, write_parts

from tfx_distill.datasets import logs
from tfx_distill.schema.errors import DataError


def test_spans_are_found_by_their_numbers(tmp_path: Path) -> None:
    for name in ("span-0/train-a", "span-0/eval-a", "span-007/train-a", "span-x/train-a"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.touch()
    (tmp_path / "span-0" / "test-a").touch()
    data = data_config(tmp_path)
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
    data = data_config(tmp_path, spans=f"{tmp_path}/**/{{split}}/{{SPAN}}-{{SPAN}}.parquet")
    assert [(f.split, f.path.name) for f in logs.files(data)] == [
        ("train", "3-3.parquet"),
        ("eval", "3-3.parquet"),
    ]


def test_eval_is_the_newest_eval_split_and_train_all_before(tmp_path: Path) -> None:
    write_parts(tmp_path, two_spans())
    chosen = logs.split_files(data_config(tmp_path), [0, 1])
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
    write_parts(tmp_path / "a", two_spans())
    data = data_config(tmp_path / "a")
    file = tmp_path / "a" / "span-1" / "eval-0.parquet"
    before, without = logs.fingerprint(data, [0, 1]), logs.fingerprint(data, [0])
    assert before != without
    assert logs.fingerprint(data, [0, 1]) == before
    (tmp_path / "a").rename(tmp_path / "b")
    assert logs.fingerprint(data_config(tmp_path / "b"), [0, 1]) == before
    file = tmp_path / "b" / "span-1" / "eval-0.parquet"
    moment = file.stat().st_mtime_ns
    os.utime(file, ns=(moment, moment + 1))
    data = data_config(tmp_path / "b")
    touched = logs.fingerprint(data, [0, 1])
    assert touched != before
    assert logs.fingerprint(data, [0]) == without
    file.rename(file.with_name("eval-1.parquet"))
    assert logs.fingerprint(data, [0, 1]) not in (before, touched)
