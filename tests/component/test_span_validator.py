"""SpanValidator: drift against the span before, the schema, and what a breach does."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import tensorflow_data_validation as tfdv
from small_examples import execute, made
from tensorflow_metadata.proto.v0 import anomalies_pb2, schema_pb2
from tfx.types import artifact_utils, standard_artifacts

from tfx_distill.components.span_validator import SpanValidator, describe
from tfx_distill.schema import tfmd
from tfx_distill.schema.config import RunConfig
from tfx_distill.schema.errors import DataError

TYPES = {
    "example_id": pa.int64(),
    "query_id": pa.int64(),
    "event_time": pa.int64(),
    "age": pa.float32(),
    "device": pa.string(),
    "video": pa.int64(),
    "clicked": pa.float32(),
}
ROWS = {"train": 2000, "eval": 1000}


def _schema(**validation: Any) -> schema_pb2.Schema:
    bound = {"task": "click", "metric": "auc", "min": 0.5}
    config = RunConfig.model_validate(
        {
            "name": "tiny",
            "data": {
                "spans": "span-{SPAN}/{split}-*",
                "example_id": "i",
                "query_id": "q",
                "event_time": "t",
                "validation": validation,
            },
            "features": {
                "numeric": ["age"],
                "categorical": [{"name": "device", "vocab": 4}, {"name": "video", "buckets": 9}],
            },
            "tasks": [{"name": "click", "kind": "binary", "label": "clicked"}],
            "students": [{"name": "small"}],
            "gate": {"students": [bound], "teacher": [bound]},
            "push": {"directory": "serving"},
        }
    )
    return tfmd.tfmd_schema(config, TYPES)


def _frame(rows: int, seed: int, *, phone: float = 0.5, age: float = 30.0, spread: float = 9.0):
    rng = np.random.default_rng(seed)
    return pd.DataFrame(
        {
            "example_id": np.arange(rows),
            "query_id": np.arange(rows) // 10,
            "event_time": np.arange(rows),
            "age": rng.normal(age, spread, rows).astype(np.float32),
            "device": rng.choice(["phone", "tv"], rows, p=[phone, 1 - phone]),
            "video": rng.integers(0, 5, rows),
            "clicked": (rng.random(rows) < 0.3).astype(np.float32),
        }
    )


def _statistics(folder: Path, span: int, **changes: dict[str, Any]) -> Any:
    """A statistics artifact; `changes` by split."""
    out = made(standard_artifacts.ExampleStatistics, folder / f"statistics-{span}", span + 1)
    options = tfdv.StatsOptions(schema=_schema())
    for place, (split, rows) in enumerate(ROWS.items()):
        frame = _frame(rows, 10 * span + place, **changes.get(split, {}))
        target = folder / f"statistics-{span}" / f"Split-{split}"
        target.mkdir(parents=True)
        stats = tfdv.generate_statistics_from_dataframe(frame, options)
        (target / "FeatureStats.pb").write_bytes(stats.SerializeToString())
    out.span = span
    out.split_names = artifact_utils.encode_split_names(list(ROWS))
    return out


def _validate(
    folder: Path, now: Any, previous: Any = None, **validation: Any
) -> dict[str, anomalies_pb2.Anomalies]:
    schema = made(standard_artifacts.Schema, folder / "schema", 8)
    tfmd.write(_schema(**validation), folder / "schema")
    anomalies = made(standard_artifacts.ExampleAnomalies, folder / "anomalies", 9)
    inputs = {"statistics": now, "schema": schema}
    if previous is not None:
        inputs["previous"] = previous
    config = json.dumps({"on_breach": validation.get("on_breach", "warn")})
    try:
        execute(SpanValidator, folder, inputs, {"anomalies": anomalies}, config=config)
    finally:
        found = {
            split: anomalies_pb2.Anomalies.FromString(
                (folder / f"anomalies/Split-{split}/SchemaDiff.pb").read_bytes()
            )
            for split in ROWS
        }
    assert anomalies.span == now.span
    assert artifact_utils.decode_split_names(anomalies.split_names) == list(ROWS)
    blessed = anomalies.get_json_value_custom_property("blessed")
    assert blessed == {split: int(not found[split].anomaly_info) for split in ROWS}
    return found


def test_a_span_like_the_one_before_has_no_anomaly_but_a_measured_drift(tmp_path: Path) -> None:
    found = _validate(tmp_path, _statistics(tmp_path, 1), _statistics(tmp_path, 0))
    for result in found.values():
        assert describe(result) == []
        measured = {info.path.step[0] for info in result.drift_skew_info}
        assert measured == {"age", "device", "video"}


def test_the_split_whose_devices_shift_is_found_and_no_other(tmp_path: Path) -> None:
    now = _statistics(tmp_path, 1, train={"phone": 0.95})
    found = _validate(tmp_path, now, _statistics(tmp_path, 0))
    (line,) = describe(found["train"])
    # 0.5 to 0.95: the largest change of a share.
    assert line.startswith("device: The Linfty distance between current and previous is 0.4")
    assert describe(found["eval"]) == []


def test_the_eval_split_is_compared_with_the_eval_split(tmp_path: Path) -> None:
    # Both eval splits are alike, and unlike both train splits.
    unlike = {"eval": {"phone": 0.95, "age": 70.0}}
    found = _validate(
        tmp_path, _statistics(tmp_path, 1, **unlike), _statistics(tmp_path, 0, **unlike)
    )
    assert [describe(result) for result in found.values()] == [[], []]


def test_a_shifted_number_is_found(tmp_path: Path) -> None:
    now = _statistics(tmp_path, 1, eval={"age": 70.0})
    found = _validate(tmp_path, now, _statistics(tmp_path, 0))
    (line,) = describe(found["eval"])
    assert line.startswith("age: The approximate Jensen-Shannon divergence")
    assert describe(found["train"]) == []


def test_limits_are_those_of_the_config(tmp_path: Path) -> None:
    now = _statistics(tmp_path, 1, train={"phone": 0.6, "age": 33.0})
    before = _statistics(tmp_path, 0)
    assert describe(_validate(tmp_path / "a", now, before)["train"]) == []
    tight = _validate(tmp_path / "b", now, before, drift=0.05, numeric_drift=0.01)
    assert set(tight["train"].anomaly_info) == {"age", "device"}
    off = _validate(tmp_path / "c", now, before, drift=None, numeric_drift=None)
    assert not off["train"].drift_skew_info


def test_without_a_span_before_only_the_schema_counts(tmp_path: Path) -> None:
    now = _statistics(tmp_path, 1, train={"phone": 0.95})
    found = _validate(tmp_path, now)
    assert [describe(result) for result in found.values()] == [[], []]
    assert not found["train"].drift_skew_info


def test_what_is_written_is_what_tfdv_finds(tmp_path: Path) -> None:
    now, before = _statistics(tmp_path, 1, train={"phone": 0.9}), _statistics(tmp_path, 0)
    found = _validate(tmp_path, now, before)
    for split in ROWS:
        read = [
            tfdv.load_stats_binary(f"{side.uri}/Split-{split}/FeatureStats.pb")
            for side in (now, before)
        ]
        expected = tfdv.validate_statistics(read[0], _schema(), previous_statistics=read[1])
        assert found[split] == expected
        # The shares counted by hand.
        shares = [
            _frame(ROWS[split], 10 * span + place, phone=phone)["device"].eq("phone").mean()
            for place in [list(ROWS).index(split)]
            for span, phone in ((1, 0.9 if split == "train" else 0.5), (0, 0.5))
        ]
        (drift,) = [
            info.drift_measurements[0].value
            for info in expected.drift_skew_info
            if info.path.step[0] == "device"
        ]
        assert drift == pytest.approx(abs(shares[0] - shares[1]), abs=1e-9)


def test_a_breach_fails_where_it_is_told_to_and_is_written(tmp_path: Path) -> None:
    now, before = _statistics(tmp_path, 7, train={"phone": 0.95}), _statistics(tmp_path, 6)
    with pytest.raises(DataError) as raised:
        _validate(tmp_path, now, before, on_breach="fail")
    message = str(raised.value)
    assert message.startswith("span 7: got train, device: The Linfty distance")
    assert "Nothing was trained" in message
    file = tmp_path / "anomalies/Split-train/SchemaDiff.pb"
    assert describe(anomalies_pb2.Anomalies.FromString(file.read_bytes()))
    _validate(tmp_path / "calm", _statistics(tmp_path, 8), before, on_breach="fail")


def test_a_breach_of_the_schema_is_found_with_and_without_a_span_before(tmp_path: Path) -> None:
    now, before = _statistics(tmp_path, 1), _statistics(tmp_path, 0)
    file = Path(now.uri) / "Split-eval/FeatureStats.pb"
    stats = tfdv.load_stats_binary(str(file))
    del stats.datasets[0].features[3:4]
    file.write_bytes(stats.SerializeToString())
    for folder, previous in (("a", None), ("b", before)):
        (line,) = describe(_validate(tmp_path / folder, now, previous)["eval"])
        assert line.startswith("age: Column is completely missing")
