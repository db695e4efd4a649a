"""The multi-task ranker: teacher, student and twin are this one model at different sizes."""

from __future__ import annotations

from collections.abc import Mapping

import tensorflow as tf
import tf_keras

from tfx_distill.schema import columns
from tfx_distill.schema.config import FeaturesConfig, ModelConfig
from tfx_distill.trainer import losses
from tfx_distill.trainer.features import Blocks
from tfx_distill.trainer.heads import Head, TaskHeads
from tfx_distill.trainer.towers import ARCHITECTURES, Encoder

Batch = Mapping[str, tf.Tensor]
Outputs = dict[str, tf.Tensor]


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
      biases: By task, where the last bias starts: the mean label, or its log-odds.
    """

    def __init__(
        self,
        features: FeaturesConfig,
        model: ModelConfig,
        heads: tuple[Head, ...],
        biases: Mapping[str, float],
    ) -> None:
        super().__init__(name="ranker")
        names = [head.task.name for head in heads]
        self._features = features
        self._model = model
        self._heads = heads
        self._encoder = Encoder(features, model)
        self._shared = ARCHITECTURES[model.architecture](names, model)
        self._tasks = {
            head.task.name: TaskHeads(head, model, biases.get(head.task.name, 0.0))
            for head in heads
        }
        self._means: dict[str, tf_keras.metrics.Mean] = {}
        hard = (head.task.name for head in heads if head.served)
        soft = (f"distill_{head.task.name}" for head in heads if head.rule is not None)
        for name in ("loss", *hard, *soft):
            self._means[name] = tf_keras.metrics.Mean(name=name)

    def call(self, inputs: Batch, training: bool = False) -> tuple[Outputs, Outputs]:
        """The serving and the distillation outputs by task, logits or values, of shape [batch]."""
        shared = self._shared(self._encoder(inputs), training=training)
        serving: Outputs = {}
        distilled: Outputs = {}
        for head in self._heads:
            name = head.task.name
            served, auxiliary = self._tasks[name](shared[name], training=training)
            if served is not None:
                serving[name] = served
            if head.rule is not None:
                distilled[name] = served if auxiliary is None else auxiliary
        return serving, distilled

    def served(self) -> Ranker:
        """A copy without distillation heads and without tasks that are not served."""
        heads = tuple(Head(head.task) for head in self._heads if head.served)
        copy = Ranker(self._features, self._model, heads, {})
        copy.materialize()
        trained = {variable.name: variable for variable in self.trainable_variables}
        for variable in copy.trainable_variables:
            variable.assign(trained[variable.name])
        return copy

    def materialize(self) -> None:
        """Creates all variables, by a pass over two empty examples."""
        blocks = Blocks.of(self._features).spec
        self({name: tf.zeros([2, s.shape[1]], s.dtype) for name, s in blocks.items()})

    @property
    def metrics(self) -> list[tf_keras.metrics.Metric]:
        """Running means of the losses, reset at each epoch."""
        return list(self._means.values())

    # Nothing in here depends on the value of a tensor, so AutoGraph has nothing to convert; without
    # it, tracing takes a third of the time.
    @tf.autograph.experimental.do_not_convert
    def train_step(self, batch: Batch) -> dict[str, tf.Tensor]:
        """One step of the optimizer on a batch; see `input.py` for its columns."""
        with tf.GradientTape() as tape:
            serving, distilled = self(batch, training=True)
            hard = self._hard(batch, serving)
            soft = self._soft(batch, distilled)
            objective = tf.add_n([*hard.values(), *soft.values()])
        self.optimizer.minimize(objective, self.trainable_variables, tape=tape)
        return self._record(hard, soft, tf.shape(batch[columns.EXAMPLE_ID])[0])

    @tf.autograph.experimental.do_not_convert
    def test_step(self, batch: Batch) -> dict[str, tf.Tensor]:
        """Losses against the hard labels: what a student and its twin are both judged by."""
        serving, _ = self(batch, training=False)
        return self._record(self._hard(batch, serving), {}, tf.shape(batch[columns.EXAMPLE_ID])[0])

    def _hard(self, batch: Batch, serving: Outputs) -> Outputs:
        return {
            head.task.name: head.task.weight
            * losses.weighted_mean(
                losses.hard(
                    head.task.kind, batch[columns.label(head.task.name)], serving[head.task.name]
                ),
                batch[columns.weight(head.task.name)],
            )
            for head in self._heads
            if head.served
        }

    def _soft(self, batch: Batch, distilled: Outputs) -> Outputs:
        out: Outputs = {}
        for head in self._heads:
            if head.rule is None:
                continue
            name, present = head.task.name, batch[columns.TEACHER_PRESENT]
            loss = losses.distillation(
                head.rule,
                head.task.kind,
                batch[columns.teacher(name)],
                distilled[name],
                batch[columns.QUERY_INDEX],
                present,
            )
            out[f"distill_{name}"] = head.rule.weight * losses.weighted_mean(loss, present)
        return out

    def _record(self, hard: Outputs, soft: Outputs, size: tf.Tensor) -> dict[str, tf.Tensor]:
        for name, value in (hard | soft).items():
            self._means[name].update_state(value, sample_weight=size)
        # The mean loss that decides about stopping counts hard labels only.
        self._means["loss"].update_state(tf.add_n(list(hard.values())), sample_weight=size)
        return {name: self._means[name].result() for name in ("loss", *hard, *soft)}
