"""Which files of a log are read: spans, patterns and their fingerprint."""

import os
import time
from pathlib import Path

import pytest
from logged_columns import data_config, two_spans, write_parts

from tfx_distill.datasets import logs
from tfx_distill.schema.errors import ConfigError, DataError


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


def test_the_eval_split_of_the_span_before_is_trained_on_first(tmp_path: Path) -> None:
    write_parts(tmp_path, two_spans())
    chosen = logs.split_files(data_config(tmp_path), [1], carried=0)
    assert [(f.span, f.split) for f in chosen["train"]] == [(0, "eval"), (1, "train")]
    assert [(f.span, f.split) for f in chosen["eval"]] == [(1, "eval")]
    (tmp_path / "span-0/eval-0.parquet").unlink()
    with pytest.raises(DataError, match=r"span 0 of .* got no eval file"):
        logs.split_files(data_config(tmp_path), [1], carried=0)


def test_the_train_files_of_the_span_before_need_not_be_there_any_more(tmp_path: Path) -> None:
    write_parts(tmp_path, two_spans())
    (tmp_path / "span-0/train-0.parquet").unlink()
    assert len(logs.split_files(data_config(tmp_path), [1], carried=0)["train"]) == 2
    with pytest.raises(DataError, match=r"span 0 of .* got no train file"):
        logs.split_files(data_config(tmp_path), [0, 1])


def touch(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


def test_a_span_is_complete_when_its_folder_says_so(tmp_path: Path) -> None:
    data = data_config(tmp_path)
    for span in (2, 3, 10):
        touch(tmp_path, f"span-{span}/train-0", f"span-{span}/eval-0")
    touch(tmp_path, "span-5/train-0", "span-5/_SUCCESS", "span-6/_SUCCESS")
    assert logs.complete_spans(data, "_SUCCESS") == []
    touch(tmp_path, "span-10/_SUCCESS", "span-3/_SUCCESS")
    # 5 has no eval split, 6 no file at all.
    assert logs.complete_spans(data, "_SUCCESS") == [3, 10]
    assert logs.complete_spans(data, "DONE") == []
    assert logs.complete_spans(data, None) == [2, 3, 10]


def test_every_folder_of_a_span_must_say_so(tmp_path: Path) -> None:
    data = data_config(tmp_path, spans=f"{tmp_path}/{{SPAN}}/{{split}}/*/part-*")
    touch(tmp_path, "4/train/a/part-0", "4/train/b/part-0", "4/eval/a/part-0")
    for folder in ("train/a", "eval/a"):
        touch(tmp_path, f"4/{folder}/_SUCCESS")
        assert logs.complete_spans(data, "_SUCCESS") == []
    touch(tmp_path, "4/train/b/_SUCCESS")
    assert logs.complete_spans(data, "_SUCCESS") == [4]


def test_spans_in_one_folder_cannot_have_a_success_file(tmp_path: Path) -> None:
    touch(tmp_path, "train-1", "eval-1", "_SUCCESS")
    data = data_config(tmp_path, spans=f"{tmp_path}/{{split}}-{{SPAN}}")
    with pytest.raises(ConfigError, match=r"stream\.success_file: null") as raised:
        logs.complete_spans(data, "_SUCCESS")
    assert raised.value.where == "stream.success_file"
    assert logs.complete_spans(data, None) == [1]


def test_looking_at_a_thousand_spans_is_cheap(tmp_path: Path) -> None:
    for span in range(1000):
        touch(tmp_path, *(f"span-{span}/{name}" for name in ("train-0", "eval-0", "_SUCCESS")))
    data = data_config(tmp_path)
    begin = time.process_time()
    assert len(logs.complete_spans(data, "_SUCCESS")) == 1000
    assert len(logs.split_files(data, range(1000))["train"]) == 1999
    # It takes 0.1 s here; by pairs of files it would take 10.
    assert time.process_time() - begin < 2


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


def test_fingerprint_covers_the_carried_files_and_not_those_beside_them(tmp_path: Path) -> None:
    write_parts(tmp_path, two_spans())
    data = data_config(tmp_path)

    def touched(name: str) -> str:
        moment = (tmp_path / name).stat().st_mtime_ns
        os.utime(tmp_path / name, ns=(moment, moment + 1))
        return logs.fingerprint(data, [1], carried=0)

    before = logs.fingerprint(data, [1], carried=0)
    assert before != logs.fingerprint(data, [1])
    assert touched("span-0/train-0.parquet") == before
    assert touched("span-0/eval-0.parquet") != before
