"""How requests are dealt out, with models that say what they like to have taken."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import numpy as np
import pyarrow as pa
import pytest
import tensorflow as tf
from tensorflow.core.framework import tensor_pb2

from tfx_distill.components.serving_measurement import (
    WARM_UP,
    quickest,
    take_turns,
    write_requests,
)
from tfx_distill.components.serving_process import Probe
from tfx_distill.components.serving_report import Latency
from tfx_distill.schema.config import FeaturesConfig, ServingLimits

Call = tuple[str, int, int]


class Fake:
    """Notes which requests it got."""

    def __init__(self, name: str, calls: list[Call], took: Callable[[int], float]) -> None:
        self._name, self._calls, self._took = name, calls, took

    def seconds(self, rows: int, number: int) -> float:
        self._calls.append((self._name, rows, number))
        return self._took(number)


def turns(**took: Callable[[int], float]) -> tuple[tuple[Latency, ...], list[Call]]:
    calls: list[Call] = []
    probes: Any = {name: Fake(name, calls, f) for name, f in took.items()}
    limits = ServingLimits(candidates=(3, 5), requests=4)
    return take_turns(cast("dict[str, Probe]", probes), limits), calls


def test_models_take_turns_and_each_is_first_as_often_as_the_other() -> None:
    _, calls = turns(candidate=lambda n: 1, baseline=lambda n: 1)
    for rows in (3, 5):
        of_size = [(name, number) for name, size, number in calls if size == rows]
        pairs = list(zip(of_size[::2], of_size[1::2], strict=True))
        assert len(pairs) == WARM_UP + 4
        for number, (first, second) in enumerate(pairs):
            assert {first, second} == {("candidate", number), ("baseline", number)}
        assert sum(first[0] == "candidate" for first, _ in pairs) == len(pairs) / 2


def test_the_first_requests_are_not_counted() -> None:
    found, _ = turns(candidate=lambda n: 9.0 if n < WARM_UP else 0.002)
    assert [(one.candidates, one.requests) for one in found] == [(3, 4), (5, 4)]
    assert all(one.p50_ms == one.p99_ms == pytest.approx(2.0) for one in found)


def test_the_quickest_round_counts_for_each_model_and_size() -> None:
    def latencies(*p99: float) -> list[Latency]:
        places = [("candidate", 3), ("baseline", 3), ("candidate", 5)]
        return [
            Latency(model=model, candidates=size, requests=4, p50_ms=0.1, p99_ms=ms)
            for (model, size), ms in zip(places, p99, strict=True)
        ]

    assert quickest(latencies(3, 7, 5), latencies(4, 6, 5)) == tuple(latencies(3, 6, 5))


def test_requests_hold_the_examples_twice_without_what_is_left_to_the_model(tmp_path: Any) -> None:
    features = FeaturesConfig.model_validate(
        {
            "numeric": ["age", {"name": "place", "serving_value": 1.0}],
            "categorical": [{"name": "device", "vocab": 4}],
            "multivalent": [{"name": "tags", "buckets": 8, "max_length": 2}],
        }
    )
    batch = pa.RecordBatch.from_arrays(
        [
            pa.array([[1.5], None], pa.large_list(pa.float32())),
            pa.array([[3.0], [4.0]], pa.large_list(pa.float32())),
            pa.array([[b"a\0"], None], pa.large_list(pa.large_binary())),
            pa.array([[1, 2, 3], []], pa.large_list(pa.int64())),
        ],
        names=["age", "place", "device", "tags"],
    )
    write_requests(tmp_path / "requests.npz", batch, features)
    with np.load(tmp_path / "requests.npz") as file:
        found = {
            name: tf.make_ndarray(tensor_pb2.TensorProto.FromString(file[name].tobytes()))
            for name in file.files
        }
    assert found.keys() == {"raw/age", "raw/device", "raw/tags", "examples"}
    np.testing.assert_array_equal(found["raw/age"], np.array([1.5, np.nan], np.float32))
    assert found["raw/device"].tolist() == [b"a\0", b""]
    missing = np.iinfo(np.int64).min
    assert found["raw/tags"].tolist() == [[1, 2], [missing, missing]]
    first, second = (tf.train.Example.FromString(e).features.feature for e in found["examples"])
    assert "place" not in first
    assert first["age"].float_list.value[:] == [1.5]
    assert first["device"].bytes_list.value[:] == [b"a\0"]
    assert first["tags"].int64_list.value[:] == [1, 2, 3]
    assert not second["device"].bytes_list.value
    assert not second["age"].float_list.value
