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
    """

    def __init__(
        self,
        features: FeaturesConfig,
        model: ModelConfig,
        heads: tuple[Head, ...],
    ) -> None:
        super().__init__(name="ranker")
        names = [head.task.name for head in heads]
        self._features = features
        self._model = model
        self._heads = heads
        self._encoder = Encoder(features, model)
        self._shared = ARCHITECTURES[model.architecture](names, model)
        self._tasks = {head.task.name: TaskHeads(head, model) for head in heads}
        hard = [head.task.name for head in heads if head.served]
        soft = [f"distill_{head.task.name}" for head in heads if head.rule is not None]
        self.loss_names = ("loss", *hard, *soft)
        self.eval_loss_names = ("loss", *hard)
        blocks = Blocks.of(features).spec
        # Creates all variables, by a pass over two empty examples.
        self({name: tf.zeros([2, s.shape[1]], s.dtype) for name, s in blocks.items()})

    def call(self, inputs: Batch, noise: tf.Tensor | None = None) -> tuple[Outputs, Outputs]:
        """The serving and the distillation outputs by task, logits or values, of shape [batch]."""
        shared = self._shared(self._encoder(inputs), noise=noise)
        serving: Outputs = {}
        distilled: Outputs = {}
        for head in self._heads:
            name = head.task.name
            served, auxiliary = self._tasks[name](shared[name], noise=noise)
            if served is not None:
                serving[name] = served
            if head.rule is not None:
                distilled[name] = served if auxiliary is None else auxiliary
        return serving, distilled

    @property
    def structure(self) -> str:
        """What decides about the variables and the graph of the model, in words."""
        return repr((self._features, self._model, self._heads))

    def served(self) -> Ranker:
        """A copy without distillation heads and without tasks that are not served."""
        heads = tuple(Head(head.task) for head in self._heads if head.served)
        copy = Ranker(self._features, self._model, heads)
        trained = {variable.name: variable for variable in self.trainable_variables}
        for variable in copy.trainable_variables:
            variable.assign(trained[variable.name])
        return copy

    @property
    def output_biases(self) -> dict[str, list[tf.Variable]]:
        """By task, the biases of its outputs."""
        return {name: layer.output_biases for name, layer in self._tasks.items()}

    def objective(self, batch: Batch, noise: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """What a step makes smaller, and the losses behind it.

        Args:
          batch: See `input.py` for its columns.
          noise: Seed of the dropout of this step, int32 [2].

        Returns:
          A scalar; and float32 of shape [loss_names].
        """
        serving, distilled = self(batch, noise=noise)
        hard, soft = self._hard(batch, serving), self._soft(batch, distilled)
        # The loss that is shown, and decides about stopping, counts hard labels only: by it a
        # student and its twin can be compared.
        shown = [tf.add_n(list(hard.values())), *hard.values(), *soft.values()]
        return tf.add_n([*hard.values(), *soft.values()]), tf.stack(shown)

    def eval_losses(self, batch: Batch) -> tf.Tensor:
        """Losses against the hard labels, float32 of shape [eval_loss_names]."""
        serving, _ = self(batch)
        hard = list(self._hard(batch, serving).values())
        return tf.stack([tf.add_n(hard), *hard])

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
