"""A traced function: one graph for batches of all sizes, and for nothing else."""

from __future__ import annotations

import pytest
import tensorflow as tf

from tfx_distill.trainer.traced import Traced

SPEC = {"a": tf.TensorSpec([None], tf.float32), "b": tf.TensorSpec([2, None], tf.float32)}


def test_it_is_traced_once_and_when_it_is_first_called() -> None:
    traces = []

    def weighed(tensors: dict[str, tf.Tensor]) -> tf.Tensor:
        traces.append(1)
        return tf.reduce_sum(tensors["b"] * tensors["a"], 1)

    traced = Traced(weighed, SPEC)
    assert not traces
    for rows in (3, 1, 0):
        found = traced({"b": tf.ones([2, rows]), "a": tf.fill([rows], 2.0)})
        assert found.numpy().tolist() == [2.0 * rows] * 2
    assert len(traces) == 1


@pytest.mark.parametrize(
    "wrong",
    [
        {"a": tf.ones([3])},
        {"a": tf.ones([3]), "b": tf.ones([2, 3]), "c": tf.ones([3])},
        {"a": tf.ones([3]), "b": tf.ones([3, 3])},
        {"a": tf.ones([3], tf.int32), "b": tf.ones([2, 3])},
    ],
    ids=["missing", "further", "shape", "type"],
)
def test_what_does_not_fit_is_refused(wrong: dict[str, tf.Tensor]) -> None:
    with pytest.raises(TypeError):
        Traced(lambda tensors: tensors["a"], SPEC)(wrong)
