"""The Transform graph of a config, on rows made to be difficult."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_transform as tft
from small_examples import KNOWN_USERS, Prepared

from tfx_distill.schema.config import FeaturesConfig
from tfx_distill.trainer import raw_features
from tfx_distill.trainer.features import Blocks, preprocessing_fn

NOTHING = {"topics": [], "tags": []}


@pytest.fixture(scope="module")
def output(prepared: Prepared) -> tft.TFTransformOutput:
    return tft.TFTransformOutput(prepared.transform_graph.uri)


def sparse(rows: list[list[Any]], dtype: tf.DType) -> tf.SparseTensor:
    places = [(i, k) for i, row in enumerate(rows) for k in range(len(row))]
    width = max([1, *map(len, rows)])
    return tf.SparseTensor(
        np.array(places, np.int64).reshape(-1, 2),
        tf.constant([value for row in rows for value in row], dtype),
        [len(rows), width],
    )


@pytest.fixture(scope="module")
def transform(output: tft.TFTransformOutput) -> Any:
    """From rows of features, given by name or left out, to the blocks."""
    layer = output.transform_features_layer()
    spec = output.raw_feature_spec()

    def blocks(*rows: dict[str, Any]) -> dict[str, np.ndarray]:
        def values(row: dict[str, Any], name: str) -> list[Any]:
            found = row.get(name, [])
            return found if isinstance(found, list) else [found]

        columns = {
            name: sparse([values(row, name) for row in rows], feature.dtype)
            for name, feature in spec.items()
        }
        return {name: block.numpy() for name, block in layer(columns).items()}

    return blocks


def test_a_row_without_anything_is_all_zeros_and_flags(transform: Any) -> None:
    blocks = transform({}, {})
    assert blocks["numeric"].tolist() == [[0, 0, 0, 0, 1, 1, 1, 1]] * 2
    assert blocks["categorical"].tolist() == [[0, 0, 0, 0]] * 2
    assert blocks["multivalent"].tolist() == [[0, 0, 0, 0, 0]] * 2


def test_what_is_there_has_no_flag_whatever_its_value(transform: Any) -> None:
    blocks = transform({"age": 0.0, "views": 0.0, "constant": 0.0, "place": 0.0})
    assert blocks["numeric"][0, 4:].tolist() == [0, 0, 0, 0]
    assert blocks["numeric"][0, 0] < -2  # 0 is not what stands for a missing age
    assert blocks["numeric"][0, 1] < 0


def test_a_constant_feature_is_zero_for_values_never_seen(transform: Any) -> None:
    blocks = transform({"constant": 0.1}, {"constant": 1e9}, {"constant": -3.0})
    assert blocks["numeric"][:, 2].tolist() == [0, 0, 0]


def test_a_negative_counter_counts_as_zero(transform: Any) -> None:
    blocks = transform({"views": -5.0}, {"views": 0.0}, {"views": -1.0})
    assert np.isfinite(blocks["numeric"]).all()
    assert len(set(blocks["numeric"][:, 1].tolist())) == 1


def test_extreme_numbers_stay_finite(transform: Any) -> None:
    largest = float(np.finfo(np.float32).max)
    blocks = transform({"age": largest, "views": largest}, {"age": -largest})
    assert np.isfinite(blocks["numeric"]).all()
    assert blocks["numeric"][0, 1] < 100  # the logarithm tames it


def test_vocabularies_hold_the_most_frequent_values(
    output: tft.TFTransformOutput, transform: Any
) -> None:
    assert output.vocabulary_by_name("device") == [b"phone", b"tv"]
    assert output.vocabulary_by_name("video") == [b"5", b"-1", str(2**40).encode()]
    blocks = transform(
        {"device": "phone", "video": 5},
        {"device": "tv", "video": -1},
        {"device": "fridge", "video": 2**40},
        {"device": "Phone", "video": 77},
    )
    assert blocks["categorical"][:, 0].tolist()[:2] == [1, 2]
    assert set(blocks["categorical"][2:, 0].tolist()) <= {3, 4, 5}
    assert blocks["categorical"][:, 1].tolist() == [1, 2, 3, 4]


def test_hashes_are_those_of_the_string_and_of_the_decimals(transform: Any) -> None:
    user, known = next(iter(KNOWN_USERS.items()))
    blocks = transform({"user": user, "channel": -4}, {"user": "never seen", "channel": 10**15})
    assert blocks["categorical"][0, 2] == known % 2**64 % 16 + 1
    assert 1 <= blocks["categorical"][1, 2] <= 16
    assert ((blocks["categorical"][:, 3] >= 1) & (blocks["categorical"][:, 3] <= 8)).all()
    # An id means the same whether it was logged as a number or as text.
    as_text = int(tf.strings.to_hash_bucket_fast("-4", 8)) + 1
    assert blocks["categorical"][0, 3] == as_text


def test_of_several_values_where_one_belongs_the_first_counts(transform: Any) -> None:
    # A request can hold them. Beside each other, the columns must not slip into one another.
    single = {"age": 30.0, "place": 2.0, "device": "tv", "channel": 3}
    several = {"age": [30.0, 5.0], "place": 2.0, "device": ["tv", "phone"], "channel": [3, 4, 5]}
    expected, got = transform(single), transform(several)
    for name, block in expected.items():
        np.testing.assert_array_equal(got[name], block)


def test_lists_are_cut_and_padded_on_the_right(transform: Any) -> None:
    blocks = transform({"topics": ["t1"], "tags": [1, 2, 3, 4]}, {"topics": ["t9", "t1", "t2"]})
    first, second = blocks["multivalent"].tolist()
    assert first[0] == second[1] > 0
    assert first[1] == 0
    assert 0 not in first[2:]
    assert second[0] == 5  # one bucket for all that are not among the four
    assert second[2:] == [0, 0, 0]


def test_a_row_does_not_depend_on_the_rows_beside_it(transform: Any) -> None:
    rows = [
        {"age": 30.0, "device": "tv", "topics": ["t1", "t2"], "tags": [7]},
        {"views": 3.0, "user": "u1"},
        {"tags": [1, 2, 3, 4, 5], "channel": 2},
    ]
    together = transform(*rows)
    for place, row in enumerate(rows):
        alone = transform(row)
        for name, block in together.items():
            np.testing.assert_array_equal(block[place], alone[name][0])


def test_the_graph_has_the_blocks_that_models_expect(
    output: tft.TFTransformOutput, prepared: Prepared
) -> None:
    spec = Blocks.of(prepared.config.features).spec
    assert set(output.transformed_feature_spec()) == set(spec)
    for name, feature in output.transformed_feature_spec().items():
        assert feature.shape == spec[name].shape[1:]


@pytest.mark.parametrize(
    ("features", "blocks"),
    [
        ({"categorical": [{"name": "c", "buckets": 4}]}, {"categorical": 1}),
        ({"multivalent": [{"name": "m", "buckets": 4, "max_length": 3}]}, {"multivalent": 3}),
    ],
)
def test_a_config_without_some_kinds_has_no_blocks_of_them(
    features: dict[str, Any], blocks: dict[str, int]
) -> None:
    config = FeaturesConfig.model_validate(features)
    given = {name: sparse([["a", "b"], []], tf.string) for name in config.names}
    # Hashing analyses nothing, so that the function can be called as it is.
    made = preprocessing_fn(given, {"features": config.model_dump_json()})
    assert {name: block.shape[1] for name, block in made.items()} == blocks
    assert {name: spec.shape[1] for name, spec in Blocks.of(config).spec.items()} == blocks


def test_a_missing_serving_value_is_filled_in(transform: Any, prepared: Prepared) -> None:
    features = prepared.config.features
    dtypes = {"place": tf.float32, "age": tf.float32}
    known = {"age": sparse([[30.0], []], tf.float32)}
    only = FeaturesConfig(numeric=tuple(f for f in features.numeric if f.name in dtypes))
    filled = raw_features.fill(known, tf.constant(2), only, dtypes)
    assert tf.sparse.to_dense(filled["place"]).numpy().tolist() == [[1.0], [1.0]]
    assert filled["age"] is known["age"]
