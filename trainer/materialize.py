"""Applies the Transform graph to ingested examples: record batches in, feature table rows out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import tensorflow as tf
import tensorflow_transform as tft

from tfx_distill.schema import columns
from tfx_distill.schema.config import FeaturesConfig, TaskConfig
from tfx_distill.trainer import feature_table, raw_features
from tfx_distill.trainer.features import Blocks
from tfx_distill.trainer.process_cache import ProcessCache, digest

if TYPE_CHECKING:
    from numpy.typing import NDArray


class Materializer:
    """The Transform graph, loaded once per process, with the hard labels beside it.

    Args:
      transform_graph: Path of the Transform output.
      features: The features section of the run config.
      tasks: Whose hard labels to take along.
    """

    def __init__(
        self, transform_graph: str, features: FeaturesConfig, tasks: tuple[TaskConfig, ...]
    ) -> None:
        key = (digest(transform_graph), features.model_dump_json())
        self._graph = _GRAPHS.get(key, lambda: _Graph(transform_graph, features))
        self._features = features
        self._tasks = tasks

    def rows(self, batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """Feature table rows of ingested examples, batch by batch, in the same order."""
        for batch in batches:
            made = self._graph.blocks(raw_features.arrays(batch, self._features))
            keys = {key: raw_features.scalars(batch, key) for key in columns.KEYS}
            labels = feature_table.hard_labels(batch, self._tasks)
            yield feature_table.record(made | keys | labels)


class _Graph:
    """A Transform graph from dense raw features to the feature blocks."""

    def __init__(self, transform_graph: str, features: FeaturesConfig) -> None:
        output = tft.TFTransformOutput(transform_graph)
        dtypes = {name: spec.dtype for name, spec in output.raw_feature_spec().items()}
        blocks = Blocks.of(features).spec
        self._layer = output.transform_features_layer()

        @tf.function(autograph=False)
        def transform(dense: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
            made = self._layer(raw_features.sparse(dense, features, dtypes))
            return {name: tf.cast(made[name], spec.dtype) for name, spec in blocks.items()}

        spec = raw_features.spec(features, dtypes)
        self._transform = transform.get_concrete_function(spec)
        self._dtypes = {name: s.dtype for name, s in spec.items()}

    def blocks(self, dense: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """The blocks of some rows, of shape [rows, width]."""
        tensors = {name: tf.constant(dense[name], self._dtypes[name]) for name in dense}
        return {name: block.numpy() for name, block in self._transform(tensors).items()}


_GRAPHS: ProcessCache[tuple[str, str], _Graph] = ProcessCache(4)
