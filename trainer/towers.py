"""From feature blocks to one representation per task: embeddings, shared layers, task towers.

Layers take `noise`, the seed of this step's dropout, int32 [2]; without it nothing is dropped.
What is dropped is thereby a function of seed and step: a training that was interrupted goes on as
if it had not been. First weights are not drawn here, see `first_weights`.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping

import tensorflow as tf
import tf_keras

from tfx_distill.schema.config import CategoricalFeature, FeaturesConfig, ModelConfig
from tfx_distill.trainer import features as blocks


def embedding(feature: str) -> str:
    """Name of the embedding table of a feature."""
    return f"embedding_{feature}"


class Encoder(tf_keras.layers.Layer):
    """Embeds the ids and puts everything side by side: blocks -> [batch, features].

    A multivalent feature is the mean of the embeddings of the ids that are there.
    """

    def __init__(self, features: FeaturesConfig, model: ModelConfig) -> None:
        super().__init__(name="encoder")
        self._features = features
        self._dimension = model.scaled(model.embedding)
        self._tables = {
            feature.name: self.add_weight(
                name=embedding(feature.name),
                shape=(feature.cardinality, min(self._dimension, feature.cardinality)),
                initializer="zeros",
            )
            for feature in (*features.categorical, *features.multivalent)
        }

    def call(self, inputs: Mapping[str, tf.Tensor]) -> tf.Tensor:
        """Float32 of shape [batch, features]."""
        parts = []
        if blocks.NUMERIC in inputs:
            parts.append(inputs[blocks.NUMERIC])
        for column, feature in enumerate(self._features.categorical):
            ids = inputs[blocks.CATEGORICAL][:, column]
            parts.append(tf.gather(self._tables[feature.name], ids))
        start = 0
        for feature in self._features.multivalent:
            ids = inputs[blocks.MULTIVALENT][:, start : start + feature.max_length]
            parts.append(self._mean(feature, ids))
            start += feature.max_length
        return tf.concat(parts, axis=1)

    def _mean(self, feature: CategoricalFeature, ids: tf.Tensor) -> tf.Tensor:
        there = tf.cast(ids > 0, tf.float32)[:, :, tf.newaxis]
        embedded = tf.gather(self._tables[feature.name], ids) * there
        return tf.math.divide_no_nan(tf.reduce_sum(embedded, 1), tf.reduce_sum(there, 1))


class Dense(tf_keras.layers.Layer):
    """Fully connected layers with ReLU and optional dropout: [batch, x] -> [batch, units[-1]]."""

    def __init__(self, units: list[int], dropout: float, name: str) -> None:
        super().__init__(name=name)
        self._dense = [
            tf_keras.layers.Dense(width, "relu", name=f"dense_{i}") for i, width in enumerate(units)
        ]
        self._rate = dropout

    def call(self, inputs: tf.Tensor, noise: tf.Tensor | None = None) -> tf.Tensor:
        """Float32 of shape [batch, units[-1]]."""
        for place, layer in enumerate(self._dense):
            inputs = layer(inputs)
            if self._rate and noise is not None:
                inputs = dropout(inputs, self._rate, noise, f"{layer.kernel.name}/{place}")
        return inputs


def dropout(values: tf.Tensor, rate: float, noise: tf.Tensor, place: str) -> tf.Tensor:
    """Drops units; each place of a model drops others.

    Args:
      values: Float32 of shape [batch, units].
      rate: Share that is dropped.
      noise: Seed of the step, int32 [2].
      place: A name that is unique in the model, as those of variables are.
    """
    own = zlib.crc32(place.encode()) & 0x7FFFFFFF
    seed = tf.random.experimental.stateless_fold_in(noise, own)
    return tf.nn.experimental.stateless_dropout(values, rate, seed)


class SharedBottom(tf_keras.layers.Layer):
    """One stack of layers for all tasks (Caruana, 1997)."""

    def __init__(self, tasks: list[str], model: ModelConfig) -> None:
        super().__init__(name="shared_bottom")
        self._tasks = tasks
        units = [model.scaled(model.hidden)] * model.depth
        self._stack = Dense(units, model.dropout, name="shared")

    def call(self, inputs: tf.Tensor, noise: tf.Tensor | None = None) -> dict[str, tf.Tensor]:
        """By task, float32 of shape [batch, hidden]."""
        shared = self._stack(inputs, noise=noise)
        return dict.fromkeys(self._tasks, shared)


class MultiGateMixture(tf_keras.layers.Layer):
    """Experts shared by all tasks, mixed by a softmax gate per task (MMoE, Ma et al., KDD 2018)."""

    def __init__(self, tasks: list[str], model: ModelConfig) -> None:
        super().__init__(name="mmoe")
        self._tasks = tasks
        units = [model.scaled(model.hidden)] * model.depth
        self._experts = [
            Dense(units, model.dropout, name=f"expert_{i}") for i in range(model.experts)
        ]
        self._gates = {
            task: tf_keras.layers.Dense(model.experts, "softmax", name=f"gate_{task}")
            for task in tasks
        }

    def call(self, inputs: tf.Tensor, noise: tf.Tensor | None = None) -> dict[str, tf.Tensor]:
        """By task, float32 of shape [batch, hidden]."""
        opinions = tf.stack([expert(inputs, noise=noise) for expert in self._experts], axis=1)
        return {
            task: tf.einsum("be,beh->bh", self._gates[task](inputs), opinions)
            for task in self._tasks
        }


class DeepAndCross(tf_keras.layers.Layer):
    """Cross layers x' = x0 * (W x + b) + x beside a deep stack (DCN-V2, Wang et al., WWW 2021)."""

    def __init__(self, tasks: list[str], model: ModelConfig) -> None:
        super().__init__(name="dcn_v2")
        self._tasks = tasks
        self._depth = model.cross_layers
        units = [model.scaled(model.hidden)] * model.depth
        self._deep = Dense(units, model.dropout, name="deep")

    def build(self, input_shape: tf.TensorShape) -> None:
        """Makes the cross layers, as wide as the input."""
        self._cross = [
            tf_keras.layers.Dense(input_shape[-1], name=f"cross_{i}") for i in range(self._depth)
        ]
        super().build(input_shape)

    def call(self, inputs: tf.Tensor, noise: tf.Tensor | None = None) -> dict[str, tf.Tensor]:
        """By task, float32 of shape [batch, features + hidden]."""
        crossed = inputs
        for layer in self._cross:
            crossed = inputs * layer(crossed) + crossed
        both = tf.concat([crossed, self._deep(inputs, noise=noise)], axis=1)
        return dict.fromkeys(self._tasks, both)


ARCHITECTURES: dict[str, Callable[[list[str], ModelConfig], tf_keras.layers.Layer]] = {
    "shared_bottom": SharedBottom,
    "mmoe": MultiGateMixture,
    "dcn_v2": DeepAndCross,
}
