"""The run config: what is accepted, what is filled in, and every way to get it wrong."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from tfx_distill.schema import config as run_config
from tfx_distill.schema.config import (
    CategoricalFeature,
    DistillConfig,
    DistillLoss,
    ModelConfig,
    RunConfig,
    TeacherModelConfig,
)
from tfx_distill.schema.errors import ConfigError

REPOSITORY = Path(__file__).resolve().parents[2]
BASIS: dict[str, Any] = {
    "name": "video",
    "data": {
        "spans": "data/span-{SPAN}/{split}-*.parquet",
        "example_id": "impression_id",
        "query_id": "request_id",
        "event_time": "timestamp",
    },
    "features": {
        "numeric": ["age", {"name": "views", "transform": "log1p"}],
        "categorical": [{"name": "device", "vocab": 8}, {"name": "user", "buckets": 64}],
        "multivalent": [{"name": "topics", "vocab": 8, "max_length": 3}],
    },
    "tasks": [
        {"name": "click", "kind": "binary", "label": "clicked"},
        {"name": "watch", "kind": "regression", "label": "watch_s", "applies_when": "clicked"},
    ],
    "students": [{"name": "compact"}],
    "gate": {
        "students": [
            {"task": "click", "metric": "auc", "min": 0.5},
            {"task": "watch", "metric": "mse", "max_regression": 0.1},
        ],
        "teacher": [
            {"task": "click", "metric": "auc", "min": 0.5},
            {"task": "watch", "metric": "mse", "max": 9},
        ],
        "slices": ["device"],
    },
    "push": {"directory": "serving"},
}


def changed(path: str, value: Any) -> dict[str, Any]:
    """The basis with one key set, given as `students.0.name`; None removes it."""
    content = copy.deepcopy(BASIS)
    *folders, last = [int(part) if part.isdigit() else part for part in path.split(".")]
    node: Any = content
    for part in folders:
        node = node.setdefault(part, {}) if isinstance(node, dict) else node[part]
    if value is None:
        del node[last]
    elif isinstance(node, list) and last == len(node):
        node.append(value)
    else:
        node[last] = value
    return content


def refused(tmp_path: Path, content: Any) -> ConfigError:
    """The error that a user gets for a config file of this content."""
    file = tmp_path / "run.yaml"
    file.write_text(content if isinstance(content, str) else yaml.safe_dump(content))
    with pytest.raises(ConfigError) as caught:
        run_config.load(file)
    assert caught.value.where.startswith(str(file))
    return caught.value


# What is accepted


def test_a_short_config_gets_its_defaults() -> None:
    config = RunConfig.model_validate(BASIS)
    assert config.seed == 0
    assert config.run_folder == Path("runs/video")
    assert config.label_table == Path("runs/video/labels")
    assert config.data.format == "parquet"
    assert config.data.shard_rows == 65_536
    age, views = config.features.numeric
    assert (age.transform, views.transform) == ("none", "log1p")
    assert config.teacher.model == TeacherModelConfig(architecture="mmoe", width=4.0)
    assert config.teacher.model.hidden == ModelConfig().hidden
    assert config.students[0].model == ModelConfig(architecture="shared_bottom", width=1.0)
    assert config.students[0].training.early_stopping_patience == 1
    assert config.labels.min_coverage == 0.99
    assert config.gate.ndcg_at == 10
    assert config.beam.runner == "FnApiRunner"
    assert config.raw_columns == (
        *("impression_id", "request_id", "timestamp"),
        *("age", "views", "device", "user", "topics", "clicked", "watch_s"),
    )


def test_a_mode_alone_stands_for_a_rule() -> None:
    config = RunConfig.model_validate(changed("students.0.distill", {"click": "direct"}))
    assert config.students[0].distill == {"click": DistillConfig(mode="direct")}


@pytest.mark.parametrize(("kind", "loss"), [("binary", "cross_entropy"), ("regression", "squared")])
def test_the_loss_follows_the_kind_of_the_task(kind: Any, loss: str) -> None:
    assert DistillConfig().loss_for(kind) == loss
    assert DistillConfig(loss="listnet").loss_for(kind) == "listnet"


def test_embeddings_have_a_row_for_missing_values() -> None:
    assert CategoricalFeature(name="a", buckets=10).cardinality == 11
    assert CategoricalFeature(name="a", vocab=10, oov_buckets=3).cardinality == 14


@pytest.mark.parametrize(("size", "width", "scaled"), [(32, 4.0, 128), (8, 0.5, 4), (4, 0.01, 1)])
def test_width_scales_but_never_to_nothing(size: int, width: float, scaled: int) -> None:
    assert ModelConfig(width=width).scaled(size) == scaled


def test_yaml_numbers_without_a_point_are_numbers(tmp_path: Path) -> None:
    # To YAML 1.1, 3e-3 is a string.
    file = tmp_path / "run.yaml"
    content = yaml.safe_dump(changed("teacher.training.learning_rate", "LOW"))
    file.write_text(content.replace("LOW", "3e-3"))
    assert run_config.load(file).teacher.training.learning_rate == 0.003


def test_overrides_replace_keys_of_the_file(tmp_path: Path) -> None:
    file = tmp_path / "run.yaml"
    file.write_text(yaml.safe_dump(BASIS | {"seed": 1}))
    assert run_config.load(file).seed == 1
    assert run_config.load(file, {"seed": 7}).seed == 7


def test_the_config_cannot_be_changed() -> None:
    config = RunConfig.model_validate(BASIS)
    with pytest.raises(ValidationError, match="frozen"):
        config.seed = 1  # type: ignore[misc]
    with pytest.raises(ValidationError, match="frozen"):
        config.students[0].training.epochs = 1  # type: ignore[misc]
    assert isinstance(config.students, tuple)


@pytest.mark.parametrize("name", ["video", "movielens"])
def test_the_shipped_configs_are_valid(name: str) -> None:
    assert run_config.load(REPOSITORY / "configs" / f"{name}.yaml").name == name


# Round trips: through YAML as it is stored with the run, and through JSON as components get it

finite = st.floats(allow_nan=False, allow_infinity=False)
positive = st.floats(1e-6, 1e6)
names = st.from_regex(r"[a-z][a-z0-9_]{0,9}", fullmatch=True)
models = st.fixed_dictionaries(
    {},
    optional={
        "architecture": st.sampled_from(["shared_bottom", "mmoe", "dcn_v2"]),
        "width": positive,
        "depth": st.integers(1, 5),
        "dropout": st.floats(0, 0.9),
    },
)
trainings = st.fixed_dictionaries(
    {},
    optional={
        "learning_rate": positive,
        "warmup_steps": st.integers(0, 9),
        "clip_norm": st.none() | positive,
        "early_stopping_patience": st.none() | st.integers(1, 9),
    },
)
categorical = st.fixed_dictionaries(
    {"name": names.map("c_{}".format)},
    optional={"serving_value": st.text(max_size=5) | st.integers(-(2**63), 2**63 - 1)},
).flatmap(
    lambda feature: st.sampled_from(["vocab", "buckets"]).map(lambda key: feature | {key: 16})
)


@st.composite
def valid_configs(draw: st.DrawFn) -> dict[str, Any]:
    numeric = st.fixed_dictionaries(
        {"name": names.map("n_{}".format)}, optional={"serving_value": finite}
    )
    student = st.fixed_dictionaries(
        {"name": names, "model": models, "training": trainings},
        optional={
            "distill": st.fixed_dictionaries(
                {},
                optional={
                    "click": st.sampled_from(["none", "direct", "auxiliary"])
                    | st.builds(dict, loss=st.just("cross_entropy"), temperature=positive),
                    "watch": st.builds(dict, loss=st.just("huber"), huber_delta=positive),
                },
            )
        },
    )
    unique = {"max_size": 3, "unique_by": lambda part: part["name"]}
    features = {
        "numeric": draw(st.lists(numeric, min_size=1, **unique)),  # type: ignore[call-overload]
        "categorical": draw(st.lists(categorical, **unique)),  # type: ignore[call-overload]
    }
    gate = copy.deepcopy(BASIS["gate"])
    gate["students"][0] |= draw(st.fixed_dictionaries({}, optional={"max": finite}))
    return BASIS | {
        "name": draw(names),
        "seed": draw(st.integers()),
        "features": features,
        "teacher": {"model": draw(models), "training": draw(trainings)},
        "students": draw(st.lists(student, min_size=1, **unique)),  # type: ignore[call-overload]
        "gate": gate | {"slices": draw(st.lists(names.map("s_{}".format), max_size=2))},
    }


@settings(max_examples=40)
@given(valid_configs())
def test_a_config_survives_yaml_and_json(content: dict[str, Any]) -> None:
    config = RunConfig.model_validate(content)
    assert RunConfig.model_validate(yaml.safe_load(config.to_yaml())) == config
    assert RunConfig.model_validate_json(config.model_dump_json()) == config


def test_the_resolved_config_shows_every_default() -> None:
    resolved = yaml.safe_load(RunConfig.model_validate(BASIS).to_yaml())
    assert resolved["teacher"]["training"]["learning_rate"] == 0.003
    assert resolved["students"][0]["model"]["hidden"] == 32
    assert resolved["features"]["categorical"][0]["oov_buckets"] == 1
    assert list(resolved)[:3] == ["name", "seed", "root"]


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


@pytest.mark.parametrize("key", ["labels.table", "push.directory", "root", "data.spans"])
def test_a_url_is_no_folder(key: str, tmp_path: Path) -> None:
    # As a path, s3://bucket would be the folder `s3:` beside the config.
    error = refused(tmp_path, changed(key, "s3://bucket/{SPAN}/{split}"))
    assert error.where.endswith(f": {key}")
    assert "s3://bucket" in error.got
    assert "local or mounted" in error.expected
    assert RunConfig.model_validate(changed(key, "/mnt/s3/{SPAN}/{split}"))


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
        ("gate.teacher", [], "gate.teacher", "no threshold for 'click', 'watch'", "every task"),
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
