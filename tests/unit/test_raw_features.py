"""Raw features: from columns of lists to dense tensors with sentinels, and to sparse ones."""

import numpy as np
import pyarrow as pa
import pytest
import tensorflow as tf

from tfx_distill.schema.config import FeaturesConfig
from tfx_distill.trainer import raw_features
from tfx_distill.trainer.raw_features import MISSING_INT

FEATURES = FeaturesConfig.model_validate(
    {
        "numeric": ["age", {"name": "position", "serving_value": 0}],
        "categorical": [{"name": "user", "buckets": 8}, {"name": "device", "vocab": 3}],
        "multivalent": [{"name": "topics", "vocab": 9, "max_length": 2}],
    }
)
DTYPES = {
    "age": tf.float32,
    "position": tf.float32,
    "user": tf.int64,
    "device": tf.string,
    "topics": tf.string,
}


def batch(wrap):
    kind = pa.large_list if wrap else lambda item: item

    def column(values, item):
        values = [None if v is None else [v] for v in values] if wrap else values
        return pa.array(values, kind(item))

    return pa.RecordBatch.from_arrays(
        [
            column([1.5, None, -2.0], pa.float32()),
            column([1.0, 2.0, 3.0], pa.float32()),
            column([7, None, 9], pa.int64()),
            column([None, b"tv", b"phone"], pa.large_binary()),
            pa.array([[b"a", b"b", b"c"], None, [b"d"]], pa.large_list(pa.large_binary())),
        ],
        names=["age", "position", "user", "device", "topics"],
    )


@pytest.mark.parametrize("wrap", [True, False], ids=["lists", "plain"])
def test_arrays(wrap):
    got = raw_features.arrays(batch(wrap), FEATURES)
    np.testing.assert_array_equal(got["age"], np.float32([1.5, np.nan, -2]))
    np.testing.assert_array_equal(got["user"], [7, MISSING_INT, 9])
    assert got["device"].tolist() == [b"", b"tv", b"phone"]
    assert got["topics"].tolist() == [[b"a", b"b"], [b"", b""], [b"d", b""]]


def test_a_slice_of_a_batch_is_read_from_its_own_start():
    got = raw_features.arrays(batch(True).slice(1), FEATURES)
    assert got["user"].tolist() == [MISSING_INT, 9]
    assert got["topics"].tolist() == [[b""], [b"d"]]


def test_serving_leaves_out_what_the_model_fills_in():
    got = raw_features.arrays(batch(True), FEATURES, serving=True)
    assert set(got) == {"age", "user", "device", "topics"}
    assert set(raw_features.spec(FEATURES, DTYPES, serving=True)) == set(got)


def test_sparse_drops_sentinels_and_fills_serving_values_even_zero():
    dense = raw_features.arrays(batch(True), FEATURES, serving=True)
    tensors = {name: tf.constant(value, DTYPES[name]) for name, value in dense.items()}
    sparse = raw_features.sparse(tensors, FEATURES, DTYPES)
    assert sparse["age"].indices.numpy().tolist() == [[0, 0], [2, 0]]
    assert sparse["user"].values.numpy().tolist() == [7, 9]
    assert sparse["topics"].values.numpy().tolist() == [b"a", b"b", b"d"]
    position = sparse["position"]
    assert position.values.numpy().tolist() == [0.0, 0.0, 0.0]
    assert position.indices.numpy().tolist() == [[0, 0], [1, 0], [2, 0]]


def test_sentinels_in_tf_examples_count_as_missing():
    parsed = {
        "age": tf.sparse.from_dense([[np.nan], [2.0]]),
        "device": tf.SparseTensor([[0, 0], [1, 0]], [b"", b"tv"], [2, 1]),
        "user": tf.SparseTensor([[0, 0], [1, 0]], [np.int64(MISSING_INT), np.int64(7)], [2, 1]),
    }
    kept = raw_features.present(parsed)
    assert kept["age"].values.numpy().tolist() == [2.0]
    assert kept["device"].values.numpy().tolist() == [b"tv"]
    assert kept["user"].values.numpy().tolist() == [7]
