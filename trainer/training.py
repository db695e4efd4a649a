"""Trains one ranker on feature tables, chunk by chunk: teacher, student and twin alike.

The loop is our own instead of `tf_keras.Model.fit`: a span of a stream is often a handful of
steps, and `fit` costs as much again for its iterators and callbacks (ADR 9).
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import tensorflow as tf

from tfx_distill.schema import columns
from tfx_distill.schema.config import FeaturesConfig, ModelConfig, TaskConfig, TrainingConfig
from tfx_distill.schema.errors import ModelError
from tfx_distill.trainer import feature_table, stopping
from tfx_distill.trainer.chunk_record import ChunkRecord, EpochEnd
from tfx_distill.trainer.features import Blocks
from tfx_distill.trainer.first_weights import first_output, first_weight
from tfx_distill.trainer.heads import Head
from tfx_distill.trainer.input import Examples, Feed, Fold, TeacherLabels, ahead
from tfx_distill.trainer.loss_log import LossLog
from tfx_distill.trainer.optimizer import Optimizer
from tfx_distill.trainer.process_cache import ProcessCache
from tfx_distill.trainer.progress import Progress
from tfx_distill.trainer.ranker import Ranker
from tfx_distill.trainer.traced import Traced
from tfx_distill.trainer.training_state import TrainingState
from tfx_distill.trainer.workers import ALONE, Workers

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Columns = Mapping[str, NDArray[Any]]

_EVAL_ROWS = 8192


class Training:
    """One model in training: its weights, its optimizer, and the traced steps.

    It is fed chunk by chunk. Everything random is a function of `seed`, the span and the number of
    the step, so that trainings that see the same chunks end with the same weights, whether in one
    go or with a `state` saved and loaded in between.

    Args:
      title: Name of the model in what is printed and in errors.
      features: The features section of the run config.
      model: The architecture.
      heads: What to learn, and from whom.
      training: How to train.
      seed: Of the first weights, of dropout and of the order of the examples.
      whole_queries: Keep the examples of a query in one batch, as listwise losses need it.
      min_coverage: Smallest share of the train examples of a chunk that must have a teacher label.
      quiet: Print no progress.
      workers: Who trains the same model beside this process.

    Attributes:
      ranker: The model.
      step: Trains on one batch, the tensors of `feed`; returns its losses, float32 of shape
        [ranker.loss_names].
      feed: How train batches become tensors.
    """

    def __init__(
        self,
        title: str,
        *,
        features: FeaturesConfig,
        model: ModelConfig,
        heads: tuple[Head, ...],
        training: TrainingConfig,
        seed: int,
        whole_queries: bool = False,
        min_coverage: float = 0.0,
        quiet: bool = False,
        workers: Workers = ALONE,
    ) -> None:
        self.title = title
        self._workers = workers
        with workers.scope():
            self.ranker = Ranker(features, model, heads)
            self._weights = {v.name: v for v in self.ranker.trainable_variables}
            self._optimizer = Optimizer(training, self._weights, workers)
        self.tasks: tuple[TaskConfig, ...] = tuple(head.task for head in heads if head.served)
        self._every_task = {head.task.name: head.task for head in heads}
        self._training = training
        self._whole_queries = whole_queries
        self._min_coverage = min_coverage
        self._quiet = quiet
        self._moments = self._optimizer.state
        self._noise = tf.Variable(0, trainable=False, dtype=tf.int32)
        served, taught = self.ranker.served_tasks, self.ranker.taught_tasks
        self.feed = Feed(features, served, taught, whole_queries)
        self._eval_feed = Feed(features, served)
        self._blocks = Blocks.of(features).spec
        self._trace()
        self.reset(seed)

    def _trace(self) -> None:
        workers = self._workers

        def trained(tensors: Mapping[str, tf.Tensor]) -> tf.Tensor:
            batch = self.feed.batch(tensors)
            turn = workers.turn(tf.cast(self._optimizer.steps, tf.int32))
            with tf.GradientTape() as tape:
                noise = tf.stack([self._noise, turn])
                objective, losses = self.ranker.objective(batch, noise, workers)
            self._optimizer.apply(tape.gradient(objective, self.ranker.trainable_variables))
            return workers.total(losses)

        def judged(tensors: Mapping[str, tf.Tensor]) -> tf.Tensor:
            batch = self._eval_feed.batch(tensors)
            return workers.total(self.ranker.eval_losses(batch, workers))

        self.step = Traced(lambda tensors: workers.run(trained, tensors), self.feed.spec)
        self._judge = Traced(lambda tensors: workers.run(judged, tensors), self._eval_feed.spec)
        self._outputs = Traced(lambda blocks: self.ranker(blocks), self._blocks)

    def reset(self, seed: int | None = None) -> None:
        """Back to the state of a new training, with another seed if one is given."""
        if seed is not None:
            self._seed = seed
        self._noise.assign(self._seed % 2**31)
        for name, variable in self._weights.items():
            variable.assign(first_weight(name, variable.shape, self._seed))
        for variable in self._moments.values():
            variable.assign(tf.zeros_like(variable))
        biases = self.ranker.output_biases
        self._unstarted = {bias.name for every in biases.values() for bias in every}
        self._epochs_seen = 0

    def state(self) -> TrainingState:
        """A copy of the weights and of the state of the optimizer."""
        return TrainingState(
            weights={name: variable.numpy() for name, variable in self._weights.items()},
            optimizer={name: variable.numpy() for name, variable in self._moments.items()},
        )

    def load(self, state: TrainingState, epochs: int = 0) -> None:
        """Goes on from a state; what it does not know, the variables of a new head, starts anew.

        Args:
          state: Of an earlier training of this model.
          epochs: How many the curves of the losses have already.

        Raises:
          ModelError: A variable has another shape in the state.
        """
        self.reset()
        for mine, theirs in ((self._weights, state.weights), (self._moments, state.optimizer)):
            for name in mine.keys() & theirs.keys():
                if tuple(mine[name].shape) != theirs[name].shape:
                    raise ModelError(
                        f"model {self.title}, variable {name}",
                        got=f"shape {list(theirs[name].shape)} in the model that it starts from",
                        expected=f"shape {list(mine[name].shape)}, as the config asks for",
                        fix="Rename the student, so that it starts anew; or undo the change of "
                        "its size.",
                    )
                mine[name].assign(theirs[name])
        self._unstarted -= state.weights.keys()
        self._epochs_seen = epochs

    def fit(
        self,
        examples: str | Path,
        labels: TeacherLabels | None = None,
        *,
        span: int,
        epochs: int,
        early_stopping: bool = False,
        log_dir: str | None = None,
        without: Fold | None = None,
        resume: EpochEnd | None = None,
        after_epoch: Callable[[EpochEnd], None] | None = None,
    ) -> ChunkRecord:
        """Trains on one chunk.

        Args:
          examples: Folder of its feature table, with a `train` and, for the eval losses, an `eval`
            split.
          labels: Teacher labels of the train split, if any head has a rule.
          span: Last span of the chunk.
          epochs: Passes over the train split, at the most.
          early_stopping: Stop when the eval losses against hard labels no longer fall, and go back
            to the best epoch.
          log_dir: Where TensorBoard logs go; None writes none.
          without: A fold of queries to leave out, for cross-fitting.
          resume: Where an interrupted training on this chunk stood; its state must be loaded.
          after_epoch: Is told where the training stands.

        Raises:
          LabelError: Too few examples have a teacher label.
          ModelError: A loss is not a number.
        """
        started = time.monotonic()
        earlier = {} if resume is None else resume.losses
        done = len(next(iter(earlier.values()), []))
        train = Examples(
            feature_table.shards(examples, "train"),
            self._training.batch_size,
            seed=(self._seed, span),
            labels=labels,
            taught=self.ranker.taught_tasks,
            whole_queries=self._whole_queries,
            without=without,
            first_epoch=done,
            epochs=epochs,
        )
        held_out = Examples(
            feature_table.shards(examples, "eval"), max(self._training.batch_size, _EVAL_ROWS)
        )
        if labels is not None:
            _require_labels(train.files, labels, self._min_coverage)
        self._start_outputs(train.files)
        doing = f"{self.title}, span {span}" if without is None else f"{self.title}, {without}"
        progress = Progress(doing, epochs, train.rows, quiet=self._quiet)
        losses = LossLog(log_dir, self._epochs_seen, earlier)
        best = stopping.Best(
            self._training.early_stopping_patience if early_stopping else None,
            stopping.scales(held_out.files, self.tasks) if early_stopping else {},
        )
        if resume is not None:
            best.replay(earlier, resume.best)
        while done < epochs and not best.is_over:
            means = self._pass(train, done, progress)
            means |= {f"val_{name}": value for name, value in self._judged(held_out).items()}
            self._require_finite(done, means)
            losses.add(means)
            progress.epoch(done, means)
            done += 1
            best.see(means, self.state)
            if after_epoch is not None:
                after_epoch(EpochEnd(losses.values, self.state(), best.state))
        if best.state is not None:
            self._restore(best.state)
            progress.back(best.epoch, done, best.why)
        losses.close()
        self._epochs_seen += done
        return ChunkRecord(
            span=span,
            examples=train.rows,
            epochs=done,
            seconds=time.monotonic() - started,
            losses=losses.values,
            coverage=None if labels is None else labels.coverage().share,
        )

    def logits(self, shard: Columns) -> dict[str, NDArray[np.float32]]:
        """What the model says of examples, by served task, of shape [rows].

        Logits of binary tasks, values on the training scale of the others: as in a label table.

        Args:
          shard: Columns of a feature table, of which the blocks are read.
        """
        return self._run(shard)[0]

    def distilled(self, shard: Columns) -> dict[str, NDArray[np.float32]]:
        """The same for the outputs that learn from the teacher, by distilled task."""
        return self._run(shard)[1]

    def _run(self, shard: Columns) -> Any:
        outputs = self._outputs({name: tf.constant(shard[name]) for name in self._blocks})
        return tf.nest.map_structure(lambda tensor: tensor.numpy(), outputs)

    def _pass(self, train: Examples, epoch: int, progress: Progress) -> dict[str, float]:
        mean = _Mean(self.ranker.loss_names)
        for tensors, rows in ahead(self.feed.tensors(train.batches(), self._workers)):
            mean.add(self.step(tensors), rows)
            progress.batch(epoch, mean.rows)
        return mean.values()

    def _judged(self, held_out: Examples) -> dict[str, float]:
        mean = _Mean(self.ranker.eval_loss_names)
        for tensors, rows in ahead(self._eval_feed.tensors(held_out.batches(), self._workers)):
            mean.add(self._judge(tensors), rows)
        return mean.values()

    def _start_outputs(self, files: list[Path]) -> None:
        """Outputs that were never trained start at the mean label of the first shard."""
        if not self._unstarted:
            return
        shard = feature_table.read(files[0])
        for name, biases in self.ranker.output_biases.items():
            for bias in biases:
                if bias.name in self._unstarted:
                    start = first_output(self._every_task[name], shard)
                    bias.assign(tf.fill(bias.shape, start))
        self._unstarted = set()

    def _restore(self, state: TrainingState) -> None:
        for name, value in state.weights.items():
            self._weights[name].assign(value)
        for name, value in state.optimizer.items():
            self._moments[name].assign(value)

    def _require_finite(self, epoch: int, losses: Mapping[str, float]) -> None:
        for name, value in losses.items():
            if not math.isfinite(value):
                raise ModelError(
                    f"model {self.title}, epoch {epoch + 1}, {name}",
                    got=f"{value}",
                    expected="a finite loss",
                    fix="Lower training.learning_rate, set training.clip_norm, or check the "
                    "features for extreme values.",
                )


_KEPT: ProcessCache[tuple[object, ...], Training] = ProcessCache(64)


def kept(title: str, seed: int, **arguments: Any) -> Training:
    """A training in its first state, whose steps may have been traced for an earlier span.

    For callers that finish with one training before they begin the next: a further call with the
    same arguments returns the same object.

    Args:
      title: As of `Training`.
      seed: As of `Training`.
      **arguments: The other arguments of `Training`.
    """
    key = (title, seed, *(f"{name}={value!r}" for name, value in sorted(arguments.items())))
    training = _KEPT.get(key, lambda: Training(title, seed=seed, **arguments))
    training.reset()
    return training


class _Mean:
    """Means of losses over batches, each counting as often as it has examples."""

    def __init__(self, names: tuple[str, ...]) -> None:
        self._names = names
        self._sums = np.zeros(len(names), np.float64)
        self.rows = 0

    def add(self, losses: tf.Tensor, rows: int) -> None:
        self._sums += losses.numpy().astype(np.float64) * rows
        self.rows += rows

    def values(self) -> dict[str, float]:
        if not self.rows:
            return {}
        return dict(zip(self._names, (self._sums / self.rows).tolist(), strict=True))


def _require_labels(files: list[Path], labels: TeacherLabels, minimum: float) -> None:
    """Joins once, ids only, before any work is lost."""
    for file in files:
        ids = feature_table.read(file, [columns.EXAMPLE_ID])[columns.EXAMPLE_ID]
        labels.join(file.stem, ids)
    labels.require_coverage(minimum)
