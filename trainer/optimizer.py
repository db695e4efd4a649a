"""The optimizer: Adam, and its lazy form for large embedding tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import tensorflow as tf
import tf_keras

from tfx_distill.schema.config import TrainingConfig
from tfx_distill.trainer.workers import ALONE, Workers


class Optimizer:
    """Adam (Kingma et al., ICLR 2015) on the variables of a model, clipped by the global norm.

    An embedding table of `training.lazy_rows` rows or more is updated only where the batch has
    ids: weights and moments of all other rows stay as they are, so that a step costs what the
    batch costs and not what the table does. Plain Adam moves every row at each step, by its
    decaying moments. This is LazyAdam, as TensorFlow Addons had it: a row's moments decay once for
    each batch that has it, the bias correction counts all steps.

    Args:
      training: How to train.
      weights: The variables, by name.
      workers: Who else finds gradients.
    """

    def __init__(
        self,
        training: TrainingConfig,
        weights: Mapping[str, tf.Variable],
        workers: Workers = ALONE,
    ) -> None:
        self._workers = workers
        self._variables = list(weights.values())
        self._lazy_rows = training.lazy_rows
        self._adam = _Adam(_learning_rate(training), global_clipnorm=training.clip_norm)
        # Made now: later, everything would be traced twice.
        self._adam.build(self._variables)
        self.steps: tf.Variable = self._adam.iterations
        slots = {
            f"{slot}/{name}": self._adam.get_slot(weight, slot)
            for name, weight in weights.items()
            for slot in ("m", "v")
        }
        self.state: dict[str, tf.Variable] = {"iteration:0": self.steps, **slots}
        """The variables of the optimizer, by names that go into a `TrainingState`."""

    def apply(self, gradients: Sequence[tf.Tensor | tf.IndexedSlices]) -> None:
        """Makes one step, from the gradients of the variables in their order."""
        pairs = list(zip(gradients, self._variables, strict=True))
        found = self._workers.total(
            [g if self._is_lazy(g, variable) else tf.convert_to_tensor(g) for g, variable in pairs]
        )
        sums = [_summed(g) if isinstance(g, tf.IndexedSlices) else g for g in found]
        self._adam.apply_gradients(
            zip(sums, self._variables, strict=True), experimental_aggregate_gradients=False
        )

    def _is_lazy(self, gradient: tf.Tensor | tf.IndexedSlices, variable: tf.Variable) -> bool:
        return (
            isinstance(gradient, tf.IndexedSlices)
            and self._lazy_rows is not None
            and variable.shape[0] >= self._lazy_rows
        )


class _Adam(tf_keras.optimizers.legacy.Adam):
    """Adam whose sparse updates are lazy.

    The legacy one: its update of a variable is a single operation, with which a step of a small
    model takes a sixth less.
    """

    def build(self, variables: Sequence[tf.Variable]) -> None:
        """Makes step count and moments."""
        self._create_all_weights(variables)

    def _resource_apply_sparse_duplicate_indices(
        self, grad: tf.Tensor, handle: tf.Variable, indices: tf.Tensor, **kwargs: Any
    ) -> tf.Operation:
        # Without duplicates already: the norm to clip by is that of the sums.
        return self._resource_apply_sparse(grad, handle, indices, **kwargs)

    def _resource_apply_sparse(
        self, grad: tf.Tensor, var: tf.Variable, indices: tf.Tensor, apply_state: Any = None
    ) -> tf.Operation:
        """Updates the rows `indices`, of shape [rows], by `grad`, of shape [rows, dimension]."""
        place = (var.device, var.dtype.base_dtype)
        known = (apply_state or {}).get(place) or self._fallback_apply_state(*place)
        m, v = self.get_slot(var, "m").handle, self.get_slot(var, "v").handle

        def moved(moment: tf.Tensor, decay: str, by: tf.Tensor) -> tf.Tensor:
            # Through the handles: in a worker, a slot is a variable of all workers.
            old = tf.raw_ops.ResourceGather(resource=moment, indices=indices, dtype=grad.dtype)
            new = known[f"{decay}_t"] * old + known[f"one_minus_{decay}_t"] * by
            tf.raw_ops.ResourceScatterUpdate(resource=moment, indices=indices, updates=new)
            return new

        first, second = moved(m, "beta_1", grad), moved(v, "beta_2", grad * grad)
        change = known["lr"] * first / (tf.sqrt(second) + known["epsilon"])
        return tf.raw_ops.ResourceScatterSub(resource=var.handle, indices=indices, updates=change)


def _summed(gradient: tf.IndexedSlices) -> tf.IndexedSlices:
    """The same gradient with each row once."""
    rows, places = tf.unique(gradient.indices)
    sums = tf.math.unsorted_segment_sum(gradient.values, places, tf.size(rows))
    return tf.IndexedSlices(sums, rows, gradient.dense_shape)


def _learning_rate(training: TrainingConfig) -> Any:
    if not training.warmup_steps:
        return training.learning_rate
    # By the number of the step, which a state carries along: no second warm-up in later spans.
    return tf_keras.optimizers.schedules.PolynomialDecay(
        training.learning_rate / training.warmup_steps,
        training.warmup_steps,
        training.learning_rate,
    )
