"""A trained teacher that labels feature table shards."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import tensorflow as tf

from tfx_distill.schema import columns
from tfx_distill.schema.config import FeaturesConfig
from tfx_distill.trainer import feature_table
from tfx_distill.trainer.features import CATEGORICAL, MULTIVALENT, NUMERIC, Blocks
from tfx_distill.trainer.folds import fold_of
from tfx_distill.trainer.input import ahead
from tfx_distill.trainer.loaded_model import LoadedModel

if TYPE_CHECKING:
    from numpy.typing import NDArray

BATCH_ROWS = 16_384
"""Rows of a batch of labels."""
_MODEL_ROWS = 4096
"""Rows that the model sees at a time: what it computes for more does not fit into the caches."""

Labelled = tuple["NDArray[np.int64]", "dict[str, NDArray[np.float32]]", "NDArray[np.float32]"]
"""Example ids [n], by task logits or values [n], and the fraction of features missing [n]."""


class Teacher:
    """The `logits` signature of a SavedModel, or of several that share the work by folds.

    Args:
      model: Folder of the SavedModel.
      features: The features section of the run config.
      folds: Folders of the fold models, by number, see `folds`: each row is labelled by the one
        that has not seen its query, and `model` labels nothing. Empty without cross-fitting.
    """

    def __init__(
        self, model: str | Path, features: FeaturesConfig, folds: Sequence[str | Path] = ()
    ) -> None:
        self._models = [LoadedModel(folder) for folder in (folds or [model])]
        self._features = features
        self._blocks = Blocks.of(features).spec

    def label(self, shard: Path) -> Iterator[Labelled]:
        """Labels one shard of a feature table, in batches of at most 16,384 rows.

        Args:
          shard: A file of the feature table that the teacher's own Transform graph made.
        """
        wanted = [columns.EXAMPLE_ID, columns.QUERY_ID, *self._blocks]
        # The next batch is labelled while its predecessor is written.
        yield from ahead(self._label(feature_table.read(shard, wanted)))

    def label_rows(self, batches: Iterable[pa.RecordBatch]) -> Iterator[Labelled]:
        """Labels feature table rows, in batches of at most 16,384 rows.

        Args:
          batches: As `materialize.Materializer.rows` makes them with the teacher's own Transform
            graph.
        """
        for batch in batches:
            yield from self._label(feature_table.arrays(pa.Table.from_batches([batch])))

    def _label(self, rows: feature_table.Columns) -> Iterator[Labelled]:
        ids = rows[columns.EXAMPLE_ID]
        for start in range(0, len(ids), BATCH_ROWS):
            part = slice(start, start + BATCH_ROWS)
            blocks = {name: rows[name][part] for name in self._blocks}
            labels = self._labels(blocks, rows[columns.QUERY_ID][part])
            yield ids[part], labels, self._missing(blocks)

    def _labels(
        self, blocks: dict[str, NDArray[Any]], queries: NDArray[np.int64]
    ) -> dict[str, NDArray[np.float32]]:
        if len(self._models) == 1:
            return _logits(self._models[0], blocks)
        fold = fold_of(queries, len(self._models))
        out: dict[str, NDArray[np.float32]] = {}
        for number, model in enumerate(self._models):
            own = fold == number
            found = _logits(model, {name: block[own] for name, block in blocks.items()})
            for task, values in found.items():
                out.setdefault(task, np.zeros(len(queries), np.float32))[own] = values
        return out

    def _missing(self, blocks: dict[str, NDArray[Any]]) -> NDArray[np.float32]:
        count = np.zeros(len(next(iter(blocks.values()))), np.float32)
        if NUMERIC in blocks:
            count += blocks[NUMERIC][:, len(self._features.numeric) :].sum(axis=1)
        if CATEGORICAL in blocks:
            count += (blocks[CATEGORICAL] == 0).sum(axis=1)
        if MULTIVALENT in blocks:
            start = 0
            for feature in self._features.multivalent:
                ids = blocks[MULTIVALENT][:, start : start + feature.max_length]
                count += (ids == 0).all(axis=1)
                start += feature.max_length
        return count / np.float32(len(self._features.names))


def _logits(
    model: LoadedModel, blocks: Mapping[str, NDArray[Any]]
) -> dict[str, NDArray[np.float32]]:
    rows = len(next(iter(blocks.values())))
    parts = [slice(start, start + _MODEL_ROWS) for start in range(0, max(rows, 1), _MODEL_ROWS)]
    found = [
        model("logits", {name: tf.constant(block[part]) for name, block in blocks.items()})
        for part in parts
    ]
    return {task: np.concatenate([values[task] for values in found]) for task in found[0]}
