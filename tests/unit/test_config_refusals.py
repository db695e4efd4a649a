"""Every way to get the run config wrong."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import pytest
import yaml
from config_basis import BASIS, changed, refused

from tfx_distill.schema import config as run_config
from tfx_distill.schema.config import (
    DistillLoss,
    RunConfig,
)
from tfx_distill.schema.errors import ConfigError


@pytest.mark.parametrize("value", [".nan", ".inf", "-.inf"])
@pytest.mark.parametrize("key", ["gate.students.0.max", "features.numeric.1.serving_value"])
def test_numbers_that_json_cannot_hold_are_refused(key: str, value: str, tmp_path: Path) -> None:
    # They would reach a component as null, which is another config.
    error = refused(tmp_path, yaml.safe_dump(changed(key, "N")).replace(": N\n", f": {value}\n"))
    assert error.where.endswith(f": {key}")
    assert "finite" in error.expected


# Unknown keys, at every depth


@pytest.mark.parametrize(
    ("key", "known"),
    [
        ("gates", ["beam", "data", "gate", "seed", "tasks"]),
        ("data.example", ["event_time", "example_id", "query_id"]),
        ("teacher.width", ["model", "training"]),
        ("teacher.model.widht", ["architecture", "width"]),
        ("features.numeric.1.buckets", ["name", "serving_value", "transform"]),
        ("features.multivalent.0.max_len", ["buckets", "max_length", "vocab"]),
        ("students.0.training.epoch", ["batch_size", "epochs"]),
        ("students.0.distill.click.wieght", ["loss", "mode", "weight"]),
        ("gate.students.1.mini", ["max", "max_regression", "min"]),
        ("stream.bootstrp", ["bootstrap"]),
        # The first thing that is wrong here is that `image` is missing.
        ("kubeflow.pipelineroot", ["pipeline_root", "image"]),
    ],
)
def test_an_unknown_key_is_named_with_the_known_ones(
    key: str, known: list[str], tmp_path: Path
) -> None:
    content = changed("students.0.distill", {"click": {"mode": "direct"}})
    node: Any = content
    *folders, last = [int(part) if part.isdigit() else part for part in key.split(".")]
    for part in folders:
        node = node.setdefault(part, {}) if isinstance(node, dict) else node[part]
    node[last] = 4
    error = refused(tmp_path, content)
    assert error.where.endswith(f": {key}")
    assert error.got == "an unknown key"
    assert "remove" in error.fix
    for name in known:
        assert f"'{name}'" in error.expected
    assert f"'{last}'" not in error.expected


# Wrong values


@pytest.mark.parametrize(
    ("key", "value", "got", "expected"),
    [
        ("name", "Video 1", "'Video 1'", "match pattern"),
        ("seed", "many", "'many'", "valid integer"),
        ("data.spans", "data/train.parquet", "'data/train.parquet'", "must contain {SPAN}"),
        ("data.spans", "data/{SPAN}.csv", "'data/{SPAN}.csv'", "must contain {split}"),
        ("data.format", "orc", "'orc'", "'parquet', 'csv' or 'tfrecord'"),
        ("data.query_id", None, "nothing", "field required"),
        ("features", {}, "{}", "name at least one feature"),
        ("features.categorical.0.buckets", 9, "", "exactly one of 'vocab' and 'buckets'"),
        ("features.categorical.0", {"name": "x"}, "", "exactly one of 'vocab' and 'buckets'"),
        ("features.categorical.0.vocab", 0, "0", "greater than 0"),
        ("tasks", [], "[]", "at least 1 item"),
        ("tasks.0.kind", "ranking", "'ranking'", "'binary' or 'regression'"),
        ("tasks.0.transform", "log1p", "", "'transform' is for regression"),
        ("students", {"name": "x"}, "", "valid tuple"),
        ("students.0.training", {"epochs": 2.5}, "2.5", "valid integer"),
        ("students.0.model", {"dropout": 1}, "1", "less than 1"),
        ("students.0.distill", {"click": "soft"}, "'soft'", "'direct', 'auxiliary'"),
        ("labels", {"min_coverage": 99}, "99", "less than or equal to 1"),
        ("gate.students.0.metric", "f1", "'f1'", "'auc', 'log_loss'"),
        ("gate.students.0.min", None, "", "at least one of 'min', 'max' and 'max_regression'"),
        (
            "gate.students.0",
            {"task": "click", "metric": "calibration", "max_regression": 0.1},
            "",
            "calibration is best at 1",
        ),
        (
            "gate.students.0",
            {"task": "click", "metric": "auc", "min": 0, "max_slice_regression": 0.1},
            "",
            "'max_slice_regression' needs 'max_regression'",
        ),
        ("gate.confidence", 0.999, "", "needs 5000 'replicates'"),
        ("gate.serving", {"max_p99_ms": {"50": 5}}, "", "'max_p99_ms' has [50]"),
    ],
)
def test_a_wrong_value_is_named(
    key: str, value: Any, got: str, expected: str, tmp_path: Path
) -> None:
    error = refused(tmp_path, changed(key, value))
    # Of a section that is wrong as a whole the section is named, of a new section its key.
    assert f": {key.rsplit('.', 1)[0]}" in error.where
    assert got in error.got
    assert expected in error.expected


def test_further_errors_are_counted(tmp_path: Path) -> None:
    content = changed("seed", "x") | {"gates": 1, "root": 3}
    assert "2 more" in refused(tmp_path, content).fix


@pytest.mark.parametrize(
    ("key", "scheme"),
    [("labels.table", "gs"), ("push.directory", "s3"), ("root", "s3"), ("data.spans", "s3")],
)
def test_a_url_is_no_folder(key: str, scheme: str, tmp_path: Path) -> None:
    # As a path, s3://bucket would be the folder `s3:` beside the config.
    error = refused(tmp_path, changed(key, f"{scheme}://bucket/{{SPAN}}/{{split}}"))
    assert error.where.endswith(f": {key}")
    assert f"{scheme}://bucket" in error.got
    assert "local or mounted" in error.expected
    assert RunConfig.model_validate(changed(key, "/mnt/s3/{SPAN}/{split}"))


def test_labels_may_lie_in_a_bucket() -> None:
    config = RunConfig.model_validate(changed("labels.table", "s3://my-lake/a/teacher=1/v1.0/"))
    assert config.label_table == "s3://my-lake/a/teacher=1/v1.0/"


@pytest.mark.parametrize(
    "url",
    ["s3://lake", "s3://lake/", "s3:/lake/a", "s3://Lake/a", "s3://lake/a b", "s3://lake/../a"],
)
def test_a_bucket_needs_a_prefix_of_safe_characters(url: str, tmp_path: Path) -> None:
    error = refused(tmp_path, changed("labels.table", url))
    assert error.where.endswith(": labels.table")
    assert "s3://BUCKET/PREFIX" in error.expected


# Parts that do not go together

click, watch = BASIS["gate"]["students"]


@pytest.mark.parametrize(
    ("key", "value", "where", "got", "expected"),
    [
        ("tasks.1.name", "click", "tasks", "task 'click' twice", "once"),
        ("students.1", {"name": "compact"}, "students", "student 'compact' twice", "once"),
        ("features.numeric.0", "views", "features", "feature 'views' twice", "once"),
        ("features.numeric.0", "clicked", "features", "'clicked', the label", "before"),
        ("features.numeric.0", "event_time", "features", "'event_time'", "['event_time', "),
        ("tasks.0.label", "query_id", "tasks", "'query_id'", "['event_time', "),
        ("tasks.1.applies_when", "query_id", "tasks", "'query_id'", "['event_time', "),
        ("gate.slices", ["example_id"], "gate.slices", "'example_id'", "['event_time', "),
        ("students.0.distill", {"buy": "none"}, "students.compact.distill", "'buy'", "['click', "),
        ("students.0.tasks", ["buy"], "students.compact.tasks", "'buy'", "['click', 'watch']"),
        ("students.0.tasks", [], "students.compact.tasks", "no task", "at least one"),
        (
            "students.0.distill",
            {"click": "non_serving"},
            "students.compact.distill.click",
            "'non_serving' for a task that the student serves",
            "'direct'",
        ),
        ("gate.students", [click], "gate.students", "no threshold for 'watch'", "every task"),
        ("gate.teacher", [click], "gate.teacher", "no threshold for 'watch'", "every task"),
        (
            "gate.students.0",
            {"task": "buy", "metric": "auc", "min": 0},
            "gate.students",
            "unknown task 'buy'",
            "['click', 'watch']",
        ),
        ("gate.students.0.metric", "mse", "gate.students", "'mse' for the binary task", "'gauc'"),
        ("gate.students.1.metric", "auc", "gate.students", "'auc' for the regression", "'mae'"),
        (
            "gate.teacher.0",
            {"task": "click", "metric": "auc", "max_regression": 0},
            "gate.teacher",
            "'max_regression' for 'click'",
            "no baseline",
        ),
    ],
)
def test_parts_that_do_not_fit_are_named(
    key: str, value: Any, where: str, got: str, expected: str, tmp_path: Path
) -> None:
    error = refused(tmp_path, changed(key, value))
    assert error.where.endswith(f"run.yaml: {where}")
    assert got in error.got
    assert expected in error.expected


def test_a_task_that_is_not_served_distils_without_serving_or_not_at_all(tmp_path: Path) -> None:
    student = {"name": "compact", "tasks": ["click"], "distill": {"watch": "non_serving"}}
    assert RunConfig.model_validate(changed("students.0", student))
    student["distill"] = {"watch": "direct"}
    error = refused(tmp_path, changed("students.0", student))
    assert error.where.endswith(": students.compact.distill.watch")
    assert "does not serve" in error.got
    assert error.expected == "'non_serving'"


LOSSES: tuple[DistillLoss, ...] = get_args(DistillLoss)


@pytest.mark.parametrize("loss", LOSSES)
def test_losses_of_probabilities_are_for_binary_tasks(loss: DistillLoss, tmp_path: Path) -> None:
    assert RunConfig.model_validate(changed("students.0.distill", {"click": {"loss": loss}}))
    content = changed("students.0.distill", {"watch": {"loss": loss}})
    if loss not in ("cross_entropy", "calibrated_listwise"):
        assert RunConfig.model_validate(content)
        return
    error = refused(tmp_path, content)
    assert error.where.endswith(": students.compact.distill.watch")
    assert loss in error.got
    assert "regression" in error.got
    assert error.expected == "one of ['squared', 'huber', 'listnet', 'rank_distil']"


@pytest.mark.parametrize("option", ["temperature", "huber_delta", "top_k"])
@pytest.mark.parametrize(
    ("task", "loss"),
    [("click", loss) for loss in (None, *LOSSES)]
    + [("watch", loss) for loss in (None, "squared", "huber", "listnet", "rank_distil")],
)
def test_an_option_that_the_loss_does_not_heed_is_refused(
    task: str, loss: DistillLoss | None, option: str, tmp_path: Path
) -> None:
    used = loss or {"click": "cross_entropy", "watch": "squared"}[task]
    heeded = {
        "temperature": ("cross_entropy", "listnet", "rank_distil"),
        "huber_delta": ("huber",),
        "top_k": ("rank_distil",),
    }[option]
    rule = {"loss": loss, option: 2} if loss else {option: 2}
    content = changed("students.0.distill", {task: rule})
    if used in heeded:
        assert RunConfig.model_validate(content)
        return
    error = refused(tmp_path, content)
    assert error.where.endswith(f": students.compact.distill.{task}")
    assert f"{option} 2" in error.got
    assert used in error.got
    assert str(list(heeded)) in error.expected


# The file itself


@pytest.mark.parametrize(
    ("content", "got"),
    [
        ("a: [1", "line 1"),
        ("", "NoneType"),
        ("- 1", "list"),
        ("plain words", "str"),
    ],
)
def test_a_file_that_holds_no_config_is_named(content: str, got: str, tmp_path: Path) -> None:
    assert got in refused(tmp_path, content).got


@pytest.mark.parametrize(
    ("make", "got"),
    [
        (lambda file: None, "no such file"),
        (lambda file: file.mkdir(), "Is a directory"),
        (lambda file: file.write_bytes(b"name: \xff\xfe"), "codec can't decode"),
    ],
    ids=["missing", "folder", "bytes"],
)
def test_a_file_that_cannot_be_read_is_named(
    make: Callable[[Path], object], got: str, tmp_path: Path
) -> None:
    file = tmp_path / "run.yaml"
    make(file)
    with pytest.raises(ConfigError) as caught:
        run_config.load(file)
    assert caught.value.where == str(file)
    assert got in caught.value.got
    assert caught.value.fix
