"""The multi-task ranker: teacher, student and twin are this one model at different sizes."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping
from typing import TypeVar

import tensorflow as tf
import tf_keras

from tfx_distill.schema import columns
from tfx_distill.schema.config import DistillConfig, FeaturesConfig, ModelConfig
from tfx_distill.trainer import losses
from tfx_distill.trainer.features import Blocks
from tfx_distill.trainer.heads import Head, TaskHeads
from tfx_distill.trainer.towers import ARCHITECTURES, Encoder
from tfx_distill.trainer.workers import ALONE, Workers

Batch = Mapping[str, tf.Tensor]
Outputs = dict[str, tf.Tensor]
Key = TypeVar("Key", bound=Hashable)


class Ranker(tf_keras.Model):
    """Predicts every task of an example.

    The loss is, over tasks k with hard label y, teacher label t, serving output z and distillation
    output z',

        sum_k w_k * l(y_k, z_k) + alpha_k * l'(t_k, z'_k)

    where z' = z for direct distillation. Each mean runs over the examples to which the task applies
    and, for the second term, that have a teacher label. The teacher's opinion is used wherever it
    exists, also where the hard label does not apply.

    Args:
      features: The features section of the run config.
      model: The architecture.
      heads: Which tasks to learn, and from whom.
    """

    def __init__(
        self,
        features: FeaturesConfig,
        model: ModelConfig,
        heads: tuple[Head, ...],
    ) -> None:
        super().__init__(name="ranker")
        self._features = features
        self._model = model
        self._heads = heads
        self._encoder = Encoder(features, model)
        names = [head.task.name for head in heads]
        self._shared = ARCHITECTURES[model.architecture](names, model)
        served = [head for head in heads if head.served]
        self._hard_groups = _grouped((head.task.kind, head) for head in served)
        self._soft_groups = _grouped(
            ((head.task.kind, _recipe(head.rule)), head) for head in heads if head.rule is not None
        )
        self.served_tasks = _names(self._hard_groups)
        self.taught_tasks = _names(self._soft_groups)
        self._tasks = TaskHeads(heads, model)
        self.eval_loss_names = ("loss", *self.served_tasks)
        self.loss_names = (*self.eval_loss_names, *(f"distill_{n}" for n in self.taught_tasks))
        blocks = Blocks.of(features).spec
        # Creates all variables, by a pass over two empty examples.
        self({name: tf.zeros([2, s.shape[1]], s.dtype) for name, s in blocks.items()})

    def call(self, inputs: Batch, noise: tf.Tensor | None = None) -> tuple[Outputs, Outputs]:
        """The serving and the distillation outputs by task, logits or values, of shape [batch]."""
        shared = self._shared(self._encoder(inputs), noise=noise)
        outputs: tuple[Outputs, Outputs] = self._tasks(shared, noise=noise)
        return outputs

    @property
    def served_structure(self) -> str:
        """What decides about the variables and the graph of `served`, in words.

        Of a student and of its undistilled twin it is the same.
        """
        return repr((self._features, self._model, self._served_heads))

    @property
    def _served_heads(self) -> tuple[Head, ...]:
        return tuple(Head(head.task) for head in self._heads if head.served)

    def served(self) -> Ranker:
        """A copy without distillation heads and without tasks that are not served."""
        copy = Ranker(self._features, self._model, self._served_heads)
        trained = {variable.name: variable for variable in self.trainable_variables}
        for variable in copy.trainable_variables:
            variable.assign(trained[variable.name])
        return copy

    @property
    def output_biases(self) -> dict[str, list[tf.Variable]]:
        """By task, the biases of its outputs."""
        biases: dict[str, list[tf.Variable]] = self._tasks.output_biases
        return biases

    def objective(
        self, batch: Batch, noise: tf.Tensor, workers: Workers = ALONE
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """What a step makes smaller, and the losses behind it: this worker's part of the sums.

        Args:
          batch: See `input.Feed.batch`; the rows of its matrices are `served_tasks` and
            `taught_tasks`, in this order.
          noise: Seed of the dropout of this step, int32 [2].
          workers: Who has the rest of the batch.

        Returns:
          A scalar; and float32 of shape [loss_names].
        """
        serving, distilled = self(batch, noise=noise)
        hard, soft = self._hard(batch, serving, workers), self._soft(batch, distilled, workers)
        # The loss that is shown, and decides about stopping, counts hard labels only: by it a
        # student and its twin can be compared.
        shown = tf.reduce_sum(hard)
        return shown + tf.reduce_sum(soft), tf.concat([[shown], hard, soft], 0)

    def eval_losses(self, batch: Batch, workers: Workers = ALONE) -> tf.Tensor:
        """Losses against the hard labels, float32 of shape [eval_loss_names]; see `objective`."""
        serving, _ = self(batch)
        hard = self._hard(batch, serving, workers)
        return tf.concat([[tf.reduce_sum(hard)], hard], 0)

    def _hard(self, batch: Batch, serving: Outputs, workers: Workers = ALONE) -> tf.Tensor:
        """By served task, float32 of shape [served_tasks]."""
        if not self._hard_groups:
            return tf.zeros([0])
        groups = self._hard_groups.values()
        found = [
            losses.hard(kind, label, _stacked(serving, group))
            for kind, label, group in zip(
                self._hard_groups, _split(batch[columns.LABELS], groups), groups, strict=True
            )
        ]
        weights = batch[columns.WEIGHTS]
        means = losses.weighted_mean(tf.concat(found, 0), weights, workers.total)
        return [head.task.weight for group in groups for head in group] * means

    def _soft(self, batch: Batch, distilled: Outputs, workers: Workers = ALONE) -> tf.Tensor:
        """By taught task, float32 of shape [taught_tasks]."""
        if not self._soft_groups:
            return tf.zeros([0])
        groups = self._soft_groups.values()
        present, queries = batch[columns.TEACHER_PRESENT], batch.get(columns.QUERY_INDEX)
        found = [
            losses.distillation(rule, kind, label, _stacked(distilled, group), queries, present)
            for (kind, rule), label, group in zip(
                self._soft_groups, _split(batch[columns.TEACHER], groups), groups, strict=True
            )
        ]
        weights = present[tf.newaxis]
        means = losses.weighted_mean(tf.concat(found, 0), weights, workers.total)
        return [head.rule.weight for group in groups for head in group if head.rule] * means


def _grouped(keyed: Iterable[tuple[Key, Head]]) -> dict[Key, list[Head]]:
    """Heads whose losses are computed as one matrix: models are small, operations count."""
    groups: dict[Key, list[Head]] = {}
    for key, head in keyed:
        groups.setdefault(key, []).append(head)
    return groups


def _recipe(rule: DistillConfig) -> DistillConfig:
    """What decides about the formula of a distillation loss."""
    return rule.model_copy(update={"mode": "auxiliary", "weight": 1.0})


def _names(groups: Mapping[Key, list[Head]]) -> tuple[str, ...]:
    return tuple(head.task.name for group in groups.values() for head in group)


def _split(matrix: tf.Tensor, groups: Iterable[list[Head]]) -> list[tf.Tensor]:
    """The rows of each group."""
    found: list[tf.Tensor] = tf.split(matrix, [len(group) for group in groups])
    return found


def _stacked(outputs: Outputs, group: list[Head]) -> tf.Tensor:
    """Outputs of the tasks of a group, of shape [tasks, batch]."""
    return tf.stack([outputs[head.task.name] for head in group])
