"""Raw features as dense arrays: the one input format of the Transform graph and of serving.

A missing value is a sentinel: NaN in a numeric feature, the empty string or the smallest int64 in
an id. Lists of ids are padded on the right with the same sentinel.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import tensorflow as tf

from tfx_distill.schema.config import CategoricalFeature, FeaturesConfig, NumericFeature

if TYPE_CHECKING:
    from numpy.typing import NDArray

MISSING_INT = np.iinfo(np.int64).min
MISSING_STRING = b""


def arrays(
    batch: pa.RecordBatch, features: FeaturesConfig, *, serving: bool = False
) -> dict[str, NDArray[Any]]:
    """Dense arrays of the raw features of a batch.

    Args:
      batch: Columns of lists (as the ingested examples are) or of plain values.
      features: Which columns to take.
      serving: Leave out the features that have a `serving_value`, which a pushed model fills in
        by itself.

    Returns:
      By feature name: float32 or int64 or bytes objects, of shape [rows], for multivalent features
      [rows, longest list, but at most max_length].
    """
    out: dict[str, NDArray[Any]] = {}
    for numeric in features.numeric:
        if not (serving and numeric.serving_value is not None):
            column = batch.column(batch.schema.get_field_index(numeric.name))
            out[numeric.name] = _first(column, np.float32)
    for categorical in features.categorical:
        if not (serving and categorical.serving_value is not None):
            column = batch.column(batch.schema.get_field_index(categorical.name))
            out[categorical.name] = _first(column, None)
    for multivalent in features.multivalent:
        column = batch.column(batch.schema.get_field_index(multivalent.name))
        out[multivalent.name] = _padded(column, multivalent.max_length)
    return out


def scalars(batch: pa.RecordBatch, name: str) -> NDArray[Any]:
    """One column of single values as a numpy array of shape [rows], sentinels where missing."""
    return _first(batch.column(batch.schema.get_field_index(name)), None)


def _is_list(column: pa.Array) -> bool:
    return pa.types.is_list(column.type) or pa.types.is_large_list(column.type)


def _numpy(values: pa.Array) -> NDArray[Any]:
    if pa.types.is_string(values.type) or pa.types.is_large_string(values.type):
        values = values.cast(pa.large_binary())
    return np.asarray(values.to_numpy(zero_copy_only=False))


def _sentinel(values: pa.Array) -> tuple[Any, Any]:
    """The numpy type of a column and what stands for a missing value in it."""
    if pa.types.is_floating(values.type):
        return np.float32, np.float32(np.nan)
    if pa.types.is_integer(values.type) or pa.types.is_boolean(values.type):
        return np.int64, MISSING_INT
    return object, MISSING_STRING


def _first(column: pa.Array, dtype: Any) -> NDArray[Any]:
    """The only value of each list, or the sentinel."""
    if _is_list(column):
        lengths = pc.fill_null(pc.list_value_length(column), 0).to_numpy(zero_copy_only=False)
        values = column.flatten()
    else:
        lengths = pc.is_valid(column).to_numpy(zero_copy_only=False).astype(np.int64)
        values = column.drop_null()
    found, missing = _sentinel(values)
    if dtype is not None:
        found, missing = dtype, np.nan
    out = np.full(len(column), missing, dtype=found)
    present = lengths > 0
    starts = np.cumsum(lengths) - lengths
    out[present] = _numpy(values)[starts[present]]
    return out


def _padded(column: pa.Array, max_length: int) -> NDArray[Any]:
    lengths = pc.fill_null(pc.list_value_length(column), 0).to_numpy(zero_copy_only=False)
    lengths = lengths.astype(np.int64)
    values = column.flatten()
    found, missing = _sentinel(values)
    rows = np.repeat(np.arange(len(column)), lengths)
    places = np.arange(len(values)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    kept = places < max_length
    width = int(min(max_length, lengths.max(initial=1)))
    out = np.full((len(column), max(width, 1)), missing, dtype=found)
    out[rows[kept], places[kept]] = _numpy(values)[kept]
    return out


def spec(
    features: FeaturesConfig, dtypes: Mapping[str, tf.DType], *, serving: bool = False
) -> dict[str, tf.TensorSpec]:
    """Tensor specs of what `arrays` returns, given the dtype of each raw feature."""
    multivalent = {feature.name for feature in features.multivalent}
    return {
        feature.name: tf.TensorSpec(
            [None, None] if feature.name in multivalent else [None],
            dtypes[feature.name],
            name=feature.name,
        )
        for feature in _each(features)
        if not (serving and feature.serving_value is not None)
    }


def sparse(
    dense: Mapping[str, tf.Tensor], features: FeaturesConfig, dtypes: Mapping[str, tf.DType]
) -> dict[str, tf.SparseTensor]:
    """The input of the Transform graph: what is missing in the dense tensors is not there.

    A feature that is not in `dense` takes its `serving_value`.
    """
    out = {}
    for name, tensor in dense.items():
        values = tensor[:, tf.newaxis] if tensor.shape.rank == 1 else tensor
        where = tf.where(_is_there(values))
        shape = tf.shape(values, out_type=tf.int64)
        out[name] = tf.SparseTensor(where, tf.gather_nd(values, where), shape)
    return fill(out, tf.shape(next(iter(dense.values())))[0], features, dtypes)


def present(parsed: Mapping[str, tf.SparseTensor]) -> dict[str, tf.SparseTensor]:
    """Parsed tf.Examples without the sentinels that a caller may have sent for missing values."""
    return {name: tf.sparse.retain(raw, _is_there(raw.values)) for name, raw in parsed.items()}


def _is_there(values: tf.Tensor) -> tf.Tensor:
    if values.dtype.is_floating:
        return tf.logical_not(tf.math.is_nan(values))
    missing = MISSING_STRING if values.dtype == tf.string else MISSING_INT
    return tf.not_equal(values, tf.constant(missing, values.dtype))


def fill(
    known: Mapping[str, tf.SparseTensor],
    rows: tf.Tensor,
    features: FeaturesConfig,
    dtypes: Mapping[str, tf.DType],
) -> dict[str, tf.SparseTensor]:
    """Adds the features that have a `serving_value` and are not known, for int32 `rows` rows."""
    out = dict(known)
    for feature in _each(features):
        if feature.name not in out:
            # Not tf.sparse.from_dense, which would drop a serving value of 0.
            value = tf.constant(feature.serving_value, dtypes[feature.name])
            index = tf.stack([tf.range(rows), tf.zeros([rows], tf.int32)], axis=1)
            shape = tf.cast(tf.stack([rows, 1]), tf.int64)
            out[feature.name] = tf.SparseTensor(
                tf.cast(index, tf.int64), tf.fill([rows], value), shape
            )
    return out


def _each(features: FeaturesConfig) -> Iterator[NumericFeature | CategoricalFeature]:
    yield from features.numeric
    yield from features.categorical
    yield from features.multivalent
