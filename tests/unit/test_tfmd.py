"""The TFMD schema generated from a config and the types of the data."""

from pathlib import Path

import pyarrow as pa
import pytest
import tensorflow_data_validation as tfdv
from google.protobuf import text_format
from tensorflow_metadata.proto.v0 import schema_pb2, statistics_pb2

from tfx_distill.schema import tfmd
from tfx_distill.schema.config import RunConfig, ValidationConfig
from tfx_distill.schema.errors import ConfigError

TYPES = {
    "example_id": pa.int64(),
    "query_id": pa.int64(),
    "event_time": pa.int64(),
    "age": pa.float32(),
    "device": pa.string(),
    "video": pa.int64(),
    "topics": pa.list_(pa.string()),
    "clicked": pa.float32(),
    "watch_s": pa.float32(),
    "new_item": pa.int64(),
}


def _config(schema_file: Path | None = None) -> RunConfig:
    thresholds = [
        {"task": "click", "metric": "auc", "min": 0.5},
        {"task": "watch", "metric": "mse", "max": 9.0},
    ]
    return RunConfig.model_validate(
        {
            "name": "tiny",
            "data": {
                "spans": "span-{SPAN}/{split}-*",
                "example_id": "i",
                "query_id": "q",
                "event_time": "t",
                "schema_file": str(schema_file) if schema_file else None,
            },
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
            "gate": {"students": thresholds, "teacher": thresholds, "slices": ["new_item"]},
            "push": {"directory": "serving"},
        }
    )


def _features(schema: schema_pb2.Schema) -> dict[str, schema_pb2.Feature]:
    return {feature.name: feature for feature in schema.feature}


def test_every_column_in_order_with_its_type() -> None:
    schema = tfmd.tfmd_schema(_config(), TYPES)
    assert [feature.name for feature in schema.feature] == list(TYPES)
    types = {name: schema_pb2.FeatureType.Name(f.type) for name, f in _features(schema).items()}
    assert types == {
        "example_id": "INT",
        "query_id": "INT",
        "event_time": "INT",
        "age": "FLOAT",
        "device": "BYTES",
        "video": "INT",
        "topics": "BYTES",
        "clicked": "FLOAT",
        "watch_s": "FLOAT",
        "new_item": "INT",
    }


def test_presence_counts_and_domains() -> None:
    features = _features(tfmd.tfmd_schema(_config(), TYPES))
    always = {name for name, f in features.items() if f.presence.min_fraction == 1}
    assert always == {"example_id", "query_id", "event_time", "clicked"}
    assert all(feature.presence.min_count == 1 for feature in features.values())
    single = {name for name, f in features.items() if f.value_count.max == 1}
    assert single == set(TYPES) - {"topics"}
    assert not any(feature.HasField("shape") for feature in features.values())
    assert (features["clicked"].float_domain.min, features["clicked"].float_domain.max) == (0, 1)
    assert features["watch_s"].float_domain.min == 0
    assert not features["watch_s"].float_domain.HasField("max")


def test_drift_is_compared_as_the_config_says() -> None:
    def limits(**validation: float | None) -> dict[str, tuple[float, float]]:
        config = _config()
        data = config.data.model_copy(update={"validation": ValidationConfig(**validation)})
        schema = tfmd.tfmd_schema(config.model_copy(update={"data": data}), TYPES)
        comparators = {f.name: f.drift_comparator for f in schema.feature}
        return {
            name: (c.infinity_norm.threshold, c.jensen_shannon_divergence.threshold)
            for name, c in comparators.items()
            if c.HasField("infinity_norm") or c.HasField("jensen_shannon_divergence")
        }

    assert limits(drift=0.25, numeric_drift=0.5) == {
        "age": (0, 0.5),
        "device": (0.25, 0),
        "video": (0.25, 0),
        "topics": (0.25, 0),
    }
    assert set(limits(drift=None)) == {"age"}
    assert set(limits(numeric_drift=None)) == {"device", "video", "topics"}


def test_whole_numbers_that_are_categories_are_counted_as_categories() -> None:
    types = TYPES | {"topics": pa.list_(pa.int64())}
    features = _features(tfmd.tfmd_schema(_config(), types))
    counted = {name for name, f in features.items() if f.int_domain.is_categorical}
    assert counted == {"video", "topics"}


def _statistics(name: str, counts: dict[str, int]) -> statistics_pb2.DatasetFeatureStatisticsList:
    rows = sum(counts.values())
    feature = statistics_pb2.FeatureNameStatistics(type="STRING")
    feature.path.step.append(name)
    common = feature.string_stats.common_stats
    common.num_non_missing = common.tot_num_values = rows
    common.min_num_values = common.max_num_values = 1
    for value, count in counts.items():
        feature.string_stats.rank_histogram.buckets.add(label=value, sample_count=count)
    out = statistics_pb2.DatasetFeatureStatisticsList()
    out.datasets.add(num_examples=rows, features=[feature])
    return out


@pytest.mark.parametrize(
    ("tablets", "drifts"), [(10, False), (30, False), (50, True)], ids=["same", "a bit", "much"]
)
def test_drift_of_a_category_is_an_anomaly_only_when_it_is_large(
    tablets: int, drifts: bool
) -> None:
    schema = tfmd.tfmd_schema(_config(), TYPES)
    del schema.feature[:]
    schema.feature.append(_features(tfmd.tfmd_schema(_config(), TYPES))["device"])
    anomalies = tfdv.validate_statistics(
        _statistics("device", {"phone": 100 - tablets, "tablet": tablets}),
        schema,
        previous_statistics=_statistics("device", {"phone": 90, "tablet": 10}),
    )
    assert bool(anomalies.anomaly_info) == drifts


def test_written_under_a_name_that_changes_with_the_content(tmp_path: Path) -> None:
    schema = tfmd.tfmd_schema(_config(), TYPES)
    path = tfmd.write(schema, tmp_path / "schema")
    assert text_format.Parse(path.read_text(), schema_pb2.Schema()) == schema
    assert tfmd.write(schema, tmp_path / "schema") == path
    schema.feature[0].presence.min_count = 2
    assert tfmd.write(schema, tmp_path / "schema") != path


def test_a_users_schema_is_taken_in_the_order_of_the_columns(tmp_path: Path) -> None:
    own = tfmd.tfmd_schema(_config(), dict(reversed(TYPES.items())))
    own.feature.add(name="elsewhere", type=schema_pb2.INT)
    age = _features(own)["age"]
    age.float_domain.max = 99
    age.ClearField("value_count")
    age.shape.dim.add(size=1)
    path = tfmd.write(own, tmp_path)
    taken = tfmd.tfmd_schema(_config(path), TYPES)
    assert [feature.name for feature in taken.feature] == list(TYPES)
    assert _features(taken)["age"].float_domain.max == 99
    assert not _features(taken)["age"].HasField("shape")
    assert _features(taken)["age"].value_count.max == 1


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (None, ["missing.pbtxt", "No such file"]),
        ("feature { nmae: 'x' }", ["schema.pbtxt", "nmae"]),
        ("drop device", ["no feature 'device'", "rename 'devise'"]),
        ("retype video", ["feature 'video'", "BYTES", "INT", "int64"]),
    ],
)
def test_an_unusable_users_schema_is_refused(
    text: str | None, says: list[str], tmp_path: Path
) -> None:
    path = tmp_path / ("schema.pbtxt" if text else "missing.pbtxt")
    if text:
        schema = tfmd.tfmd_schema(_config(), TYPES)
        if text == "drop device":
            _features(schema)["device"].name = "devise"
        if text == "retype video":
            _features(schema)["video"].type = schema_pb2.BYTES
        path.write_text(text if "{" in text else text_format.MessageToString(schema))
    with pytest.raises(ConfigError) as caught:
        tfmd.tfmd_schema(_config(path), TYPES)
    for words in says:
        assert words in str(caught.value)
