"""The check of a whole run's logs: what it counts, allows and warns of."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from logged_columns import column_values, data_config, log_config, two_spans, write_parts

from tfx_distill.datasets import logs
from tfx_distill.datasets.log_columns import LogConfig, LoggedLabel
from tfx_distill.schema.config import RunConfig
from tfx_distill.schema.errors import ConfigError, DataError


def test_check_counts_rows_times_and_types(tmp_path: Path) -> None:
    write_parts(tmp_path, two_spans())
    report = logs.check(log_config(tmp_path))
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
    assert logs.check(log_config(tmp_path), (1, 1)).rows("train") == 4


def test_check_takes_the_run_config(tmp_path: Path) -> None:
    write_parts(tmp_path, two_spans())
    bound = {"task": "click", "metric": "auc", "min": 0.5}
    error = {"task": "watch", "metric": "mse", "max": 9.0}
    raw = {
        "name": "tiny",
        "data": data_config(tmp_path).model_dump(),
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
    assert LogConfig.of(config) == log_config(tmp_path)
    assert set(LogConfig.of(config).logged) == set(config.raw_columns)
    assert logs.check(config) == logs.check(log_config(tmp_path))
    # Encodings do not concern the ingest: its cache key stays the same.
    raw["features"]["categorical"][0]["vocab"] = 99
    assert LogConfig.of(RunConfig.model_validate(raw)) == LogConfig.of(config)
    # A value that the pushed model is to take instead of the log has the type of the column.
    raw["features"]["categorical"][0]["serving_value"] = "tv"
    logs.check(RunConfig.model_validate(raw))
    raw["features"]["categorical"][0]["serving_value"] = 7
    with pytest.raises(ConfigError, match=r"device\.serving_value: got 7; expected .* string"):
        logs.check(RunConfig.model_validate(raw))


def census(root: Path, parts: dict[tuple[int, str], Any], carried: int | None) -> logs.Report:
    """What the ingest of span 1 would count."""
    write_parts(root, parts)
    config = log_config(root)
    chosen = logs.split_files(config.data, [1], carried)
    found = [*chosen["train"], *chosen["eval"]]
    counted = logs.Census(logs.column_types(config, found))
    for file in found:
        counted.open(file)
        for batch in logs.read(file, config, counted.types):
            counted.add(batch)
    return counted.report()


def test_the_carried_eval_split_counts_as_trained_on(tmp_path: Path) -> None:
    parts = two_spans()
    parts[0, "eval"] = column_values(4, 3)
    report = census(tmp_path, parts, carried=0)
    assert (report.rows("train"), report.rows("eval")) == (7, 4)
    assert report.spans == (0, 1)
    at = 1_700_000_000
    assert report.watermark == at + 11
    assert [(part.span, part.split) for part in report.parts] == [
        (0, "eval"),
        (1, "train"),
        (1, "eval"),
    ]
    assert report.warnings == ()
    assert census(tmp_path, parts, carried=None).rows("train") == 4


def test_the_carried_eval_split_is_checked_with_the_rest(tmp_path: Path) -> None:
    parts = two_spans()
    parts[0, "eval"]["impression_id"][1] = parts[1, "train"]["impression_id"][2]
    with pytest.raises(DataError, match=r"span-1/train-0.parquet, row 2 .* first seen in .*row 1"):
        census(tmp_path, parts, carried=0)
    parts = two_spans()
    parts[0, "eval"]["timestamp"][1] = parts[1, "eval"]["timestamp"][0] + 1
    with pytest.raises(DataError, match=r"an eval example of .* none earlier .*/span-0/eval-0"):
        census(tmp_path, parts, carried=0)
    census(tmp_path, parts, carried=None)


def test_equal_times_of_train_and_eval_are_allowed(tmp_path: Path) -> None:
    parts = two_spans()
    parts[0, "eval"]["timestamp"][0] = parts[0, "train"]["timestamp"][-1]
    write_parts(tmp_path, parts)
    logs.check(log_config(tmp_path))


def test_a_query_in_both_splits_is_a_warning(tmp_path: Path) -> None:
    parts = two_spans()
    parts[1, "eval"]["request_id"][0] = parts[1, "train"]["request_id"][-1]
    write_parts(tmp_path, parts)
    (warning,) = logs.check(log_config(tmp_path)).warnings
    assert warning.startswith("span 1: 1 of 3 eval queries")


def test_a_label_may_be_missing_only_where_its_task_does_not_apply(tmp_path: Path) -> None:
    parts = two_spans()
    parts[0, "train"]["watch_s"] = [1.0, float("nan"), 2.0, None]
    write_parts(tmp_path, parts)
    logs.check(log_config(tmp_path))


@pytest.mark.parametrize("value", [None, 2, float("nan")])
def test_a_flag_that_is_neither_0_nor_1_is_refused(value: Any, tmp_path: Path) -> None:
    parts = {key: part | {"shown": [1, 0, 1, 1]} for key, part in two_spans().items()}
    labels = (LoggedLabel(name="clicked", binary=True, applies_when="shown"),)
    config = log_config(tmp_path, labels=labels)
    parts[0, "eval"]["clicked"] = [1, None, 0, 0]
    write_parts(tmp_path, parts)
    logs.check(config)
    parts[0, "eval"]["shown"] = [1.0, 0.0, value, 1.0]
    write_parts(tmp_path, parts)
    with pytest.raises(DataError, match=r"eval-0.parquet, column 'shown', row 2 .* 0 or 1 in a"):
        logs.check(config)
