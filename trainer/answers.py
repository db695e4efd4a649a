"""What the trainer itself would answer: the weights that it saved behind its Transform graph.

The exported SavedModel takes no part in it, so that the two can be held against each other.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import tensorflow as tf

from tfx_distill.schema.config import (
    CategoricalFeature,
    FeaturesConfig,
    NumericFeature,
    TaskConfig,
)
from tfx_distill.trainer import feature_table, training_state
from tfx_distill.trainer.job import TrainingJob
from tfx_distill.trainer.materialize import Materializer

if TYPE_CHECKING:
    from numpy.typing import NDArray


def of_trainer(
    model: str | Path, job: TrainingJob, examples: pa.RecordBatch
) -> dict[str, NDArray[np.float64]]:
    """Answers to examples, from the state in which a training ended.

    Args:
      model: Of the Model artifact, with the folder `Training` in it.
      job: How the model was trained.
      examples: Ingested examples: keys and all raw features, as lists. Where a feature has a
        `serving_value`, the logged values are not looked at.

    Returns:
      By served task, float64 of shape [rows]: probabilities, and values in the unit of the label.

    Raises:
      ModelError: There is no readable state, or it does not fit the job.
    """
    state, milestone = training_state.read(Path(model) / training_state.FOLDER)
    # Served answers are computed on the CPU: another device rounds in another way.
    with tf.device("/CPU:0"):
        training = job.begin()
        training.load(state)
        graph = Materializer(milestone.transform_graph, job.features, ())
        rows = pa.Table.from_batches(graph.rows([_as_served(examples, job.features)]))
        outputs = training.logits(feature_table.arrays(rows))
    return {task.name: _in_label_units(task, outputs[task.name]) for task in job.served}


def serving_values(features: FeaturesConfig) -> dict[str, float | int | str]:
    """By name, the values of the features that no request has."""
    every: tuple[NumericFeature | CategoricalFeature, ...] = (
        *features.numeric,
        *features.categorical,
        *features.multivalent,
    )
    return {f.name: f.serving_value for f in every if f.serving_value is not None}


def _as_served(examples: pa.RecordBatch, features: FeaturesConfig) -> pa.RecordBatch:
    """The examples with the serving value of a feature in the place of each logged one."""
    columns = dict(zip(examples.schema.names, examples.columns, strict=True))
    for name, value in serving_values(features).items():
        columns[name] = pa.array([[value]] * examples.num_rows, columns[name].type)
    return pa.RecordBatch.from_arrays(list(columns.values()), names=list(columns))


def _in_label_units(task: TaskConfig, output: NDArray[np.float32]) -> NDArray[np.float64]:
    values = output.astype(np.float64)
    # What overflows is infinite, here as in the exported model.
    with np.errstate(over="ignore"):
        if task.kind == "binary":
            return 1 / (1 + np.exp(-values))
        return np.expm1(values) if task.transform == "log1p" else values
