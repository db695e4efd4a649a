"""A trained teacher that labels feature table shards."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import tensorflow as tf

from tfx_distill.schema import columns
from tfx_distill.schema.config import FeaturesConfig
from tfx_distill.trainer import feature_table
from tfx_distill.trainer.features import CATEGORICAL, MULTIVALENT, NUMERIC, Blocks

if TYPE_CHECKING:
    from numpy.typing import NDArray

BATCH_ROWS = 16_384


class Teacher:
    """The `logits` signature of a SavedModel, loaded once.

    Args:
      model: Folder of the SavedModel.
      features: The features section of the run config.
    """

    def __init__(self, model: str, features: FeaturesConfig) -> None:
        self._model = tf.saved_model.load(model)
        self._logits = self._model.signatures["logits"]
        self._features = features
        self._blocks = Blocks.of(features).spec

    def label(
        self, shard: Path
    ) -> Iterator[tuple[NDArray[np.int64], dict[str, NDArray[np.float32]], NDArray[np.float32]]]:
        """Labels one shard, in batches of at most 16,384 rows.

        Yields:
          Example ids [n], by task logits or values [n], and the fraction of features that is
          missing [n].
        """
        rows = feature_table.read(shard, [columns.EXAMPLE_ID, *self._blocks])
        ids = rows[columns.EXAMPLE_ID]
        for start in range(0, len(ids), BATCH_ROWS):
            part = slice(start, start + BATCH_ROWS)
            blocks = {name: rows[name][part] for name in self._blocks}
            outputs = self._logits(**{name: tf.constant(block) for name, block in blocks.items()})
            labels = {task: value.numpy() for task, value in outputs.items()}
            yield ids[part], labels, self._missing(blocks)

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
