"""From stored predictions to TFMA's extracts: one extract per slice of a partition, in columns.

TFMA's own extractors make one extract per example. Here a partition of the eval split, which holds
whole queries, becomes one extract for all its rows and one for each value of each slice column.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from tensorflow_model_analysis import constants

from tfx_distill.schema import columns
from tfx_distill.schema.errors import ConfigError
from tfx_distill.trainer.predict import prediction

if TYPE_CHECKING:
    from numpy.typing import NDArray

MAX_SLICE_VALUES = 1_000


def extracts(
    table: pa.Table, models: Mapping[str, Sequence[str]], slices: Sequence[str]
) -> Iterator[dict[str, Any]]:
    """Extracts of all rows and of each slice.

    A row belongs to no slice of a column that is null in it.

    Args:
      table: Stored predictions of whole queries, see `predict.predict`.
      models: Tasks of each model.
      slices: Columns to slice by.

    Raises:
      ConfigError: A slice column has too many values.
    """
    query = table.column(columns.QUERY_ID).to_numpy()
    order = np.argsort(query, kind="stable")
    tasks = list(dict.fromkeys(task for served in models.values() for task in served))

    def column(name: str, dtype: type) -> NDArray[Any]:
        return table.column(name).to_numpy()[order].astype(dtype, copy=False)

    rows: dict[str, Any] = {
        constants.FEATURES_KEY: {columns.QUERY_ID: query[order]},
        constants.LABELS_KEY: {t: column(columns.label(t), np.float64) for t in tasks},
        constants.EXAMPLE_WEIGHTS_KEY: {t: column(columns.weight(t), np.float64) for t in tasks},
        constants.PREDICTIONS_KEY: {
            model: {task: column(prediction(model, task), np.float32) for task in served}
            for model, served in models.items()
        },
    }
    yield {**rows, constants.SLICE_KEY_TYPES_KEY: [()]}
    for name in slices:
        encoded = pc.dictionary_encode(table.column(name).combine_chunks())
        if isinstance(encoded, pa.ChunkedArray):
            encoded = encoded.combine_chunks()
        values = encoded.dictionary.to_pylist()
        refuse_many(name, len(values))
        codes = pc.fill_null(encoded.indices, -1).to_numpy(zero_copy_only=False)[order]
        for code, value in enumerate(values):
            chosen = np.flatnonzero(codes == code)
            yield {**_taken(rows, chosen), constants.SLICE_KEY_TYPES_KEY: [((name, value),)]}


def refuse_many(column: str, values: int) -> None:
    """Refuses a slice column of too many values.

    Raises:
      ConfigError: It has more than `MAX_SLICE_VALUES`.
    """
    if values > MAX_SLICE_VALUES:
        raise ConfigError(
            f"gate.slices: {column}",
            got=f"more than {MAX_SLICE_VALUES} values",
            expected="a column of few values",
            fix="Slice by a coarser column.",
        )


def _taken(tree: Mapping[str, Any], rows: NDArray[np.intp]) -> dict[str, Any]:
    """The same rows of every array in nested dicts."""
    return {
        key: _taken(value, rows) if isinstance(value, Mapping) else value[rows]
        for key, value in tree.items()
    }
