"""The outputs of a ranker: a serving head per served task, and distillation heads beside them.

A distillation head stands on the same tower as the serving head of its task, so the shared layers
and the tower learn from the teacher, while the serving head itself sees hard labels only: a bias of
the teacher stays in the head that is thrown away (auxiliary distillation, *Bridging the Gap*,
RecSys 2024, section 3).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import tensorflow as tf
import tf_keras

from tfx_distill.schema.config import DistillConfig, ModelConfig, StudentConfig, TaskConfig
from tfx_distill.trainer.towers import dropout


@dataclass(frozen=True)
class Head:
    """What a ranker learns about one task, and from whom.

    `rule` is None where nothing is distilled; `served` is False for a non-serving task.
    """

    task: TaskConfig
    served: bool = True
    rule: DistillConfig | None = None

    @property
    def has_auxiliary(self) -> bool:
        """Whether the teacher label has an output of its own."""
        return self.rule is not None and self.rule.mode in ("auxiliary", "non_serving")


def of_teacher(tasks: tuple[TaskConfig, ...]) -> tuple[Head, ...]:
    """All tasks, hard labels only."""
    return tuple(Head(task) for task in tasks)


def of_student(
    student: StudentConfig, tasks: tuple[TaskConfig, ...], *, twin: bool
) -> tuple[Head, ...]:
    """The served tasks and, unless it is the undistilled twin, what is distilled."""
    heads = []
    for task in tasks:
        served = student.tasks is None or task.name in student.tasks
        rule: DistillConfig | None = student.distill.get(task.name)
        if rule is None and served:
            rule = DistillConfig()
        if rule is not None and (twin or rule.mode == "none" or rule.weight == 0):
            rule = None
        if served or rule is not None:
            heads.append(Head(task, served, rule))
    return tuple(heads)


class TaskHeads(tf_keras.layers.Layer):
    """The towers of all tasks with their outputs.

    Tasks that read the same tensor share two matrix products, one for their towers and one for all
    their outputs: models are so small that a step costs what its operations cost to start (ADR 9).
    Serving and auxiliary outputs have nothing in common but the product: what flows back to a
    serving head are the derivatives of its own row. A tower that is no longer finite takes the
    outputs of the others with it.

    Args:
      heads: What to learn about the tasks.
      model: The architecture.
    """

    def __init__(self, heads: tuple[Head, ...], model: ModelConfig) -> None:
        super().__init__(name="task_heads")
        self._heads = heads
        self._units = model.scaled(model.tower)
        self._rate = model.dropout
        self._dense: dict[str, tuple[tf.Variable, tf.Variable]] = {}

    def build(self, input_shape: Mapping[str, tf.TensorShape]) -> None:
        """Makes the variables, under the names of the tasks: those of one depend on no other."""
        for head in self._heads:
            task = head.task.name
            self._add(_tower(task), input_shape[task][-1], self._units)
            if head.served:
                self._add(_serving(task), self._units, 1)
            if head.has_auxiliary:
                self._add(_auxiliary(task), self._units, 1)
        super().build(input_shape)

    @property
    def output_biases(self) -> dict[str, list[tf.Variable]]:
        """By task, what the outputs are where the tower says nothing."""
        return {
            head.task.name: [
                self._dense[name][1]
                for name in (_serving(head.task.name), _auxiliary(head.task.name))
                if name in self._dense
            ]
            for head in self._heads
        }

    def call(
        self, inputs: Mapping[str, tf.Tensor], noise: tf.Tensor | None = None
    ) -> tuple[dict[str, tf.Tensor], dict[str, tf.Tensor]]:
        """Serving and distillation outputs.

        Args:
          inputs: What the tower of each task reads, float32 of shape [batch, x].
          noise: Seed of the dropout of this step, int32 [2].

        Returns:
          Logits or values by task, of shape [batch].
        """
        readers: dict[int, list[Head]] = {}
        for head in self._heads:
            readers.setdefault(id(inputs[head.task.name]), []).append(head)
        outputs: dict[str, tf.Tensor] = {}
        for heads in readers.values():
            outputs |= self._outputs(heads, inputs[heads[0].task.name], noise)
        tasks = [head.task.name for head in self._heads]
        serving = {task: outputs[_serving(task)] for task in tasks if _serving(task) in outputs}
        distilled = {
            # Direct distillation: the teacher label trains the serving output itself.
            head.task.name: outputs[
                (_auxiliary if head.has_auxiliary else _serving)(head.task.name)
            ]
            for head in self._heads
            if head.rule is not None
        }
        return serving, distilled

    def _outputs(
        self, heads: list[Head], inputs: tf.Tensor, noise: tf.Tensor | None
    ) -> dict[str, tf.Tensor]:
        """The outputs of tasks that read the same tensor, by name, of shape [batch]."""
        towers = [_tower(head.task.name) for head in heads]
        kernels, biases = zip(*(self._dense[tower] for tower in towers), strict=True)
        values = tf.nn.bias_add(tf.matmul(inputs, tf.concat(kernels, 1)), tf.concat(biases, 0))
        values = tf.nn.relu(values)
        if self._rate and noise is not None:
            parts = zip(towers, tf.split(values, len(towers), axis=1), strict=True)
            dropped = [dropout(part, self._rate, noise, tower) for tower, part in parts]
            values = tf.concat(dropped, 1)
        of_tasks = {
            name: place
            for place, head in enumerate(heads)
            for name in (_serving(head.task.name), _auxiliary(head.task.name))
            if name in self._dense
        }
        # From all towers to each output: zero but from the tower of its task.
        own = np.eye(len(heads), dtype=np.float32)[list(of_tasks.values()), :, np.newaxis]
        small = tf.transpose(tf.concat([self._dense[name][0] for name in of_tasks], 1))
        # [outputs, towers, 1] times [outputs, 1, units]
        kernel = tf.reshape(own * small[:, tf.newaxis], [len(of_tasks), -1])
        bias = tf.concat([self._dense[name][1] for name in of_tasks], 0)
        rows = tf.matmul(kernel, values, transpose_b=True) + bias[:, tf.newaxis]
        return dict(zip(of_tasks, tf.unstack(rows, num=len(of_tasks)), strict=True))

    def _add(self, name: str, inputs: int, outputs: int) -> None:
        # A name that ends so is absolute.
        with tf.name_scope(f"ranker/{name}/"):
            kernel = self.add_weight(name="kernel", shape=(inputs, outputs), initializer="zeros")
            bias = self.add_weight(name="bias", shape=(outputs,), initializer="zeros")
        self._dense[name] = kernel, bias


def _tower(task: str) -> str:
    return f"task_{task}/tower/dense_0"


def _serving(task: str) -> str:
    return f"task_{task}/serving"


def _auxiliary(task: str) -> str:
    return f"task_{task}/distillation"
