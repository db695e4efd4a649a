"""The Transform graph: from raw features to the three dense blocks that every model reads.

The blocks are `numeric` (standardised values, then missing flags), `categorical` (one id a column)
and `multivalent` (the lists, one beside the other). Id 0 stands for a missing value everywhere.
Three blocks instead of a tensor per feature keep the cost of reading examples independent of the
number of features.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import tensorflow as tf
import tensorflow_transform as tft

from tfx_distill.schema.config import CategoricalFeature, FeaturesConfig, NumericFeature

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

NUMERIC = "numeric"
CATEGORICAL = "categorical"
MULTIVALENT = "multivalent"


@dataclass(frozen=True)
class Blocks:
    """Widths (columns) and dtypes of the blocks that a config leads to; empty ones are left out."""

    numeric: int
    categorical: int
    multivalent: int

    @classmethod
    def of(cls, features: FeaturesConfig) -> Blocks:
        """The blocks of these features."""
        return cls(
            numeric=2 * len(features.numeric),
            categorical=len(features.categorical),
            multivalent=sum(f.max_length for f in features.multivalent),
        )

    @property
    def spec(self) -> dict[str, tf.TensorSpec]:
        """Tensor specs by block name, of shape [batch, width]."""
        widths = {
            NUMERIC: (self.numeric, tf.float32),
            CATEGORICAL: (self.categorical, tf.int32),
            MULTIVALENT: (self.multivalent, tf.int32),
        }
        return {
            name: tf.TensorSpec([None, width], dtype, name=name)
            for name, (width, dtype) in widths.items()
            if width
        }


@dataclass(frozen=True)
class Learned:
    """What the examples of the train split say about the features.

    Attributes:
      moments: Of each numeric feature, after its transform: how many examples have a value, the sum
        of these values and that of their squares; of shape [3, numeric features].
      vocabularies: By feature, the file of its vocabulary: a value a line, the most frequent first.
    """

    moments: NDArray[np.float64]
    vocabularies: Mapping[str, str]


def preprocessing_fn(
    inputs: Mapping[str, tf.SparseTensor],
    custom_config: Mapping[str, Any],
    learned: Learned | None = None,
) -> dict[str, tf.Tensor]:
    """The graph, with what was learned before, or as the entry point of TFX's Transform.

    Args:
      inputs: Raw features, sparse, of shape [batch, values].
      custom_config: Holds the features section of the run config as JSON, under `features`, and
        may hold a fingerprint of the data under `data`.
      learned: From the train split; without it the same is left to analysers of TFT.

    Returns:
      The blocks, float32 and int64 of shape [batch, width].
    """
    features = FeaturesConfig.model_validate_json(custom_config["features"])
    content = custom_config["features"] + custom_config.get("data", "")
    scope = hashlib.sha256(content.encode()).hexdigest()[:8]
    blocks: dict[str, list[tf.Tensor]] = {CATEGORICAL: [], MULTIVALENT: []}
    if features.numeric:
        blocks[NUMERIC] = [_standardised(inputs, features.numeric, learned)]
    if features.categorical:
        ids = [_encoded(inputs[f.name], f, scope, learned) for f in features.categorical]
        blocks[CATEGORICAL] = [_dense(_beside(ids), len(ids))]
    for multivalent in features.multivalent:
        ids = _encoded(inputs[multivalent.name], multivalent, scope, learned)
        blocks[MULTIVALENT].append(_padded(ids, multivalent.max_length))
    return {name: tf.concat(parts, axis=1) for name, parts in blocks.items() if parts}


def _standardised(
    inputs: Mapping[str, tf.SparseTensor],
    features: tuple[NumericFeature, ...],
    learned: Learned | None,
) -> tf.Tensor:
    """All numeric features at mean 0 and variance 1, 0 where missing; then the missing flags.

    All features at once, instead of `tft.scale_to_z_score` for each, of which every trace and every
    signature would hold a copy. In float64, so that the difference of squares keeps its digits.
    """
    columns = []
    for feature in features:
        raw = inputs[feature.name]
        values = tf.cast(raw.values, tf.float64)
        if feature.transform == "log1p":
            # A counter below zero is a fault of the log; the statistics show it.
            values = tf.math.log1p(tf.maximum(values, 0.0))
        columns.append(tf.SparseTensor(raw.indices, values, raw.dense_shape))
    together = _beside(columns)
    values = _dense(together, len(features))
    present = _dense(together.with_values(tf.ones_like(together.values)), len(features))
    if learned is None:
        count = tft.sum(present, reduce_instance_dims=False, name="numeric_count")
        total = tft.sum(values, reduce_instance_dims=False, name="numeric_sum")
        squares = tft.sum(values * values, reduce_instance_dims=False, name="numeric_squares")
    else:
        count, total, squares = (tf.constant(moment, tf.float64) for moment in learned.moments)
    mean = tf.math.divide_no_nan(total, count)
    mean_square = tf.math.divide_no_nan(squares, count)
    variance = mean_square - mean * mean
    # A constant feature carries nothing, and what is left of its variance is rounding.
    spread = tf.where(variance > 1e-12 * mean_square, tf.sqrt(tf.maximum(variance, 0.0)), 0.0)
    scaled = tf.math.divide_no_nan(values - mean, spread) * present
    return tf.cast(tf.concat([scaled, 1.0 - present], axis=1), tf.float32)


def _encoded(
    raw: tf.SparseTensor, feature: CategoricalFeature, scope: str, learned: Learned | None
) -> tf.SparseTensor:
    """Ids from 1, in the places of the raw values.

    TensorFlow shares lookup tables of one name within a process, and TFT names them after the
    operation: `scope` keeps the vocabularies of two runs in one process apart.
    """
    if feature.buckets is not None:
        values = raw.values if raw.dtype == tf.string else tf.strings.as_string(raw.values)
        ids = tf.strings.to_hash_bucket_fast(values, feature.buckets)
        encoded = tf.SparseTensor(raw.indices, ids, raw.dense_shape)
    elif learned is not None:
        file = learned.vocabularies[feature.name]
        # By this TFTransformOutput finds it.
        tft.annotate_asset(feature.name, file.rpartition("/")[2])
        encoded = tft.apply_vocabulary(
            raw, file, num_oov_buckets=feature.oov_buckets, name=f"{feature.name}_{scope}"
        )
    else:
        encoded = tft.compute_and_apply_vocabulary(
            raw,
            top_k=feature.vocab,
            num_oov_buckets=feature.oov_buckets,
            vocab_filename=feature.name,
            name=f"{feature.name}_{scope}",
        )
    return tf.SparseTensor(encoded.indices, encoded.values + 1, encoded.dense_shape)


def _beside(columns: list[tf.SparseTensor]) -> tf.SparseTensor:
    """The first value of each row of each column, beside each other: [batch, columns].

    One sparse tensor instead of a dense one for each: this graph is traced several times, and every
    serving signature holds it. Its values lie column by column, for `_dense`:
    `tf.sparse.concat` would sort them into rows, and took nine tenths of the time of the graph.
    """
    shape = tf.stack([columns[0].dense_shape[0], 1])
    # A request can hold a second value: uncut it would land in the next column.
    cut = [tf.sparse.slice(column, [0, 0], shape) for column in columns]
    places = [column.indices + tf.constant([0, i], tf.int64) for i, column in enumerate(cut)]
    return tf.SparseTensor(
        tf.concat(places, axis=0),
        tf.concat([column.values for column in cut], axis=0),
        tf.stack([shape[0], len(columns)]),
    )


def _dense(beside: tf.SparseTensor, width: int) -> tf.Tensor:
    """The dense tensor of what `_beside` made, 0 where there is no value."""
    dense = tf.sparse.to_dense(beside, validate_indices=False)
    return tf.ensure_shape(dense, [None, width])


def _padded(ids: tf.SparseTensor, width: int) -> tf.Tensor:
    """The first `width` ids of each row, filled up with 0; shape [batch, width]."""
    shape = tf.stack([ids.dense_shape[0], width])
    cut = tf.sparse.slice(ids, [0, 0], shape)
    dense = tf.sparse.to_dense(tf.SparseTensor(cut.indices, cut.values, shape))
    return tf.ensure_shape(dense, [None, width])
