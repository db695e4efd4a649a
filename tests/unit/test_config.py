"""The run config: what is accepted, what is filled in, and what survives a round trip."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import yaml
from config_basis import BASIS, changed
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from tfx_distill.schema import config as run_config
from tfx_distill.schema.config import (
    CategoricalFeature,
    DistillConfig,
    ModelConfig,
    RunConfig,
    TeacherModelConfig,
)

REPOSITORY = Path(__file__).resolve().parents[2]


# What is accepted


def test_a_short_config_gets_its_defaults() -> None:
    config = RunConfig.model_validate(BASIS)
    assert config.seed == 0
    assert config.run_folder == Path("runs/video")
    assert config.label_table == "runs/video/labels"
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
