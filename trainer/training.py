"""Trains one ranker on a feature table: teacher, student or twin, all by the same steps."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import tf_keras

from tfx_distill.schema import columns
from tfx_distill.schema.config import FeaturesConfig, ModelConfig, TrainingConfig
from tfx_distill.schema.errors import ModelError
from tfx_distill.trainer import feature_table
from tfx_distill.trainer.heads import Head
from tfx_distill.trainer.input import Examples
from tfx_distill.trainer.progress import Progress
from tfx_distill.trainer.ranker import Ranker

if TYPE_CHECKING:
    from tfx_distill.labels.join import LabelJoiner


def train(
    title: str,
    *,
    examples: str | Path,
    features: FeaturesConfig,
    model: ModelConfig,
    training: TrainingConfig,
    heads: tuple[Head, ...],
    labels: LabelJoiner | None,
    whole_queries: bool = False,
    min_coverage: float = 0.0,
    seed: int,
    log_dir: str,
) -> tuple[Ranker, Record]:
    """Trains until the eval loss against hard labels stops falling, or `epochs` are over.

    Args:
      title: Name of the model in what is printed.
      examples: Folder of the feature table, with a `train` and an `eval` split.
      features: The features section of the run config.
      model: The architecture.
      training: How to train.
      heads: What to learn.
      labels: Teacher labels of the train split, if any head has a rule.
      whole_queries: Keep the examples of a query in one batch, as listwise losses need it.
      min_coverage: Smallest share of the train examples that must have a teacher label.
      seed: Of the first weights, of dropout and of the order of the examples.
      log_dir: Where the TensorBoard logs go.

    Raises:
      LabelError: Too few examples have a teacher label.
      ModelError: The loss is not a number.
    """
    tf_keras.utils.set_random_seed(seed)
    tasks = tuple(head.task for head in heads if head.served)
    rules = {head.task.name: head.rule for head in heads if head.rule is not None}
    train_examples = Examples(
        feature_table.shards(examples, "train"),
        features,
        tasks,
        training.batch_size,
        seed=seed,
        labels=labels,
        taught=tuple(rules),
        whole_queries=whole_queries,
    )
    eval_examples = Examples(
        feature_table.shards(examples, "eval"), features, tasks, max(training.batch_size, 8192)
    )
    if labels is not None:
        # Before any work is lost: join once, ids only.
        for file in train_examples.files:
            ids = feature_table.read(file, [columns.EXAMPLE_ID])[columns.EXAMPLE_ID]
            labels.join(file.stem, ids)
        labels.require_coverage(min_coverage)
    ranker = Ranker(features, model, heads, _biases(train_examples))
    ranker.materialize()
    optimizer = _optimizer(training)
    # Otherwise its variables appear during the first trace, and Keras traces the step twice.
    optimizer.build(ranker.trainable_variables)
    ranker.compile(optimizer=optimizer)
    callbacks: list[tf_keras.callbacks.Callback] = [
        tf_keras.callbacks.TensorBoard(log_dir, write_graph=False),
        Progress(title, training.epochs, train_examples.rows, training.batch_size),
        StopOnNan(title),
    ]
    if training.early_stopping_patience is not None:
        callbacks.append(
            tf_keras.callbacks.EarlyStopping(
                "val_loss", patience=training.early_stopping_patience, restore_best_weights=True
            )
        )
    history = ranker.fit(
        train_examples.dataset(),
        validation_data=eval_examples.dataset(),
        epochs=training.epochs,
        callbacks=callbacks,
        verbose=0,
    )
    return ranker, Record(
        epochs=len(history.epoch),
        losses={name: [float(v) for v in values] for name, values in history.history.items()},
        parameters=int(sum(np.prod(v.shape) for v in ranker.served().trainable_variables)),
        coverage=None if labels is None else labels.coverage().share,
    )


@dataclass(frozen=True)
class Record:
    """What is worth keeping of a training besides the model.

    Attributes:
      epochs: How many were trained.
      losses: By name, one value per epoch; `val_` marks the eval split.
      parameters: Trained numbers in the model that is served.
      coverage: Share of the train examples with a teacher label; None without distillation.
    """

    epochs: int
    losses: dict[str, list[float]]
    parameters: int
    coverage: float | None


class StopOnNan(tf_keras.callbacks.Callback):
    """Ends a training whose loss is not a number with an error that says what to do."""

    def __init__(self, title: str) -> None:
        super().__init__()
        self._title = title

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Raises ModelError where a loss is NaN or infinite."""
        for name, value in (logs or {}).items():
            if not math.isfinite(value):
                raise ModelError(
                    f"model {self._title}, epoch {epoch + 1}, {name}",
                    got=f"{value}",
                    expected="a finite loss",
                    fix="Lower training.learning_rate, set training.clip_norm, or check the "
                    "features for extreme values.",
                )


def _optimizer(training: TrainingConfig) -> tf_keras.optimizers.Optimizer:
    rate: Any = training.learning_rate
    if training.warmup_steps:
        rate = tf_keras.optimizers.schedules.PolynomialDecay(
            rate / training.warmup_steps, training.warmup_steps, rate
        )
    return tf_keras.optimizers.Adam(rate, global_clipnorm=training.clip_norm)


def _biases(examples: Examples) -> dict[str, float]:
    """Where each task starts: the mean label of the first shard, for binary tasks its log-odds."""
    wanted = [f(task.name) for task in examples.tasks for f in (columns.label, columns.weight)]
    shard = feature_table.read(examples.files[0], wanted)
    out = {}
    for task in examples.tasks:
        label, weight = shard[columns.label(task.name)], shard[columns.weight(task.name)]
        mean = float(np.average(label, weights=weight)) if weight.any() else 0.0
        if task.kind == "binary":
            mean = min(max(mean, 1e-6), 1 - 1e-6)
            mean = math.log(mean / (1 - mean))
        out[task.name] = mean
    return out
