"""Predictions of exported models in columns: raw examples in, one row of predictions each out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2

from tfx_distill.schema import columns
from tfx_distill.schema.config import FeaturesConfig, TaskConfig
from tfx_distill.schema.errors import DataError, ModelError
from tfx_distill.trainer import feature_table, raw_features
from tfx_distill.trainer.loaded_model import LoadedModel

if TYPE_CHECKING:
    from numpy.typing import NDArray

SIGNATURE = "serving_raw"
BATCH_ROWS = 16_384


def prediction(model: str, task: str) -> str:
    """Column of a model's predictions: float32, a probability or a value on the training scale."""
    return f"{model}/{task}"


@dataclass(frozen=True)
class ServingSignature:
    """Names that the raw serving signature of a SavedModel takes and returns."""

    features: frozenset[str]
    tasks: frozenset[str]


def signature(folder: str) -> ServingSignature:
    """Reads the raw serving signature without loading the model.

    Raises:
      ModelError: There is no SavedModel in the folder, or it has no such signature.
    """
    file = Path(folder) / "saved_model.pb"
    proto = saved_model_pb2.SavedModel()
    try:
        proto.ParseFromString(file.read_bytes())
    except OSError as error:
        raise ModelError(
            str(file),
            got=f"no readable file ({error.strerror})",
            expected="a SavedModel",
            fix="Train and export the model again.",
        ) from None
    for graph in proto.meta_graphs:
        if SIGNATURE in graph.signature_def:
            found = graph.signature_def[SIGNATURE]
            return ServingSignature(frozenset(found.inputs), frozenset(found.outputs))
    raise ModelError(
        str(file),
        got=f"signatures {sorted({s for g in proto.meta_graphs for s in g.signature_def})}",
        expected=f"a signature {SIGNATURE!r}",
        fix="Export the model with tfx_distill.trainer.export.",
    )


class Predictor:
    """A loaded SavedModel; its tasks are the outputs of its raw serving signature."""

    def __init__(self, name: str, folder: str) -> None:
        """Loads the model.

        Args:
          name: What the model is called in errors and in columns of predictions.
          folder: Of the SavedModel.
        """
        self.name = name
        self._signature = signature(folder)
        self._model = LoadedModel(folder)
        self._folder = folder

    @property
    def tasks(self) -> frozenset[str]:
        """Names of the tasks that the model serves."""
        return self._signature.tasks

    def __call__(self, features: Mapping[str, tf.Tensor]) -> dict[str, NDArray[np.float32]]:
        """Predictions by task, of shape [rows], in the units of the label.

        Args:
          features: Dense raw features; what the model does not take is ignored.

        Raises:
          ModelError: The model needs a feature that is not there.
        """
        missing = sorted(self._signature.features - set(features))
        if missing:
            raise ModelError(
                f"model {self.name!r} at {self._folder}",
                got=f"features {sorted(features)}",
                expected=f"also {missing}, which the model was trained with",
                fix="Put the features back into the config, or train the model again.",
            )
        inputs = {name: features[name] for name in self._signature.features}
        outputs = self._model(SIGNATURE, inputs)
        return {task: values.reshape(-1) for task, values in outputs.items()}


def on_training_scale(task: TaskConfig, values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Served values of a task on the scale of its training label; NaN stays NaN."""
    if task.transform == "log1p":
        return np.log1p(np.maximum(values, 0)).astype(np.float32)
    return values.astype(np.float32, copy=False)


def rows(file: Path) -> int:
    """Number of examples in a Parquet file; reads its footer only.

    Raises:
      DataError: The file cannot be read.
    """
    with _readable(file):
        return int(pq.ParquetFile(str(file)).metadata.num_rows)


def read(file: Path, wanted: Sequence[str]) -> Iterator[pa.RecordBatch]:
    """Batches of some columns of a Parquet file of ingested examples.

    Raises:
      DataError: The file cannot be read, or lacks a column.
    """
    with _readable(file):
        parquet = pq.ParquetFile(str(file))
        batches = parquet.iter_batches(batch_size=BATCH_ROWS, columns=list(wanted))
    missing = sorted(set(wanted) - set(parquet.schema_arrow.names))
    if missing:
        raise DataError(
            str(file),
            got=f"no column(s) {missing}",
            expected="every feature, label and slice of the config",
            fix="Ingest the span again with the present config.",
        )
    while True:
        with _readable(file):
            batch = next(batches, None)
        if batch is None:
            return
        yield batch


@contextmanager
def _readable(file: Path) -> Iterator[None]:
    """Turns Arrow's and the system's errors about a file into ours."""
    try:
        yield
    except (pa.ArrowException, OSError) as error:
        raise DataError(
            str(file),
            got=" ".join(str(error).split()),
            expected="a Parquet file of examples",
            fix="Ingest the span again.",
        ) from None


def predict(
    batches: Iterable[pa.RecordBatch],
    models: Sequence[Predictor],
    features: FeaturesConfig,
    tasks: Sequence[TaskConfig],
    slices: Sequence[str] = (),
) -> Iterator[pa.RecordBatch]:
    """Predictions of several models beside the labels.

    Args:
      batches: Ingested examples: keys, raw features, labels and slice columns, as lists.
      models: Each predicts, of `tasks`, those that it serves.
      features: What the models may read; a feature with a `serving_value` is left to the model.
      tasks: Labels and predictions of regression tasks are put on their training scale.
      slices: Columns that are carried along.

    Yields:
      For each batch: `example_id` and `query_id` (int64), the slices, `label_<task>` and
      `weight_<task>` (float32), `<model>/<task>` (float32).
    """
    for batch in batches:
        dense = raw_features.arrays(batch, features, serving=True)
        tensors = {name: tf.constant(values) for name, values in dense.items()}
        out: dict[str, Any] = {
            name: raw_features.scalars(batch, name)
            for name in (columns.EXAMPLE_ID, columns.QUERY_ID)
        }
        out |= {name: _unlisted(batch.column(batch.schema.names.index(name))) for name in slices}
        out |= feature_table.hard_labels(batch, tasks)
        for model in models:
            predicted = model(tensors)
            for task in tasks:
                if task.name in predicted:
                    values = on_training_scale(task, predicted[task.name])
                    out[prediction(model.name, task.name)] = values
        arrays = [v if isinstance(v, pa.Array) else pa.array(v) for v in out.values()]
        yield pa.RecordBatch.from_arrays(arrays, names=list(out))


def _unlisted(column: pa.Array) -> pa.Array:
    """The first value of each list, null where there is none; bytes become strings."""
    if pa.types.is_list(column.type) or pa.types.is_large_list(column.type):
        values = column.flatten()
        parents = np.asarray(pc.list_parent_indices(column))
        first = np.full(len(column), -1, dtype=np.int64)
        # Backwards, so that of several values in a list the first one stays.
        first[parents[::-1]] = np.arange(len(values))[::-1]
        column = values.take(pa.array(first, mask=first < 0))
    if pa.types.is_binary(column.type) or pa.types.is_large_binary(column.type):
        return column.cast(pa.large_binary()).cast(pa.large_string())
    return column
