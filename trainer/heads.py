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

    Towers that read the same tensor are one matrix product, and so are all outputs: models are so
    small that a step costs what its operations cost to start (ADR 9).

    Args:
      heads: What to learn about the tasks.
      model: The architecture.
      served: The served tasks, in the order of their outputs.
      taught: The distilled tasks, in the order of theirs.
    """

    def __init__(
        self,
        heads: tuple[Head, ...],
        model: ModelConfig,
        served: tuple[str, ...],
        taught: tuple[str, ...],
    ) -> None:
        super().__init__(name="task_heads")
        self._heads = heads
        self._served, self._taught = served, taught
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
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """By task [batch, x] -> [served, batch] and [taught, batch], logits or values."""
        own = [task for task in self._taught if _auxiliary(task) in self._dense]
        names = [_serving(task) for task in self._served], [_auxiliary(task) for task in own]
        # Serving and auxiliary outputs have nothing in common but the product: what flows back to a
        # serving head are the derivatives of its own row.
        kernel = tf.concat([self._kernel(kind) for kind in names], 1)
        bias = tf.concat([self._dense[name][1] for kind in names for name in kind], 0)
        towers = self._towers(inputs, noise)
        outputs = tf.matmul(kernel, towers, transpose_a=True, transpose_b=True) + bias[:, None]
        serving, auxiliary = tf.split(outputs, [len(kind) for kind in names])
        if len(own) == len(self._taught):
            return serving, auxiliary
        # Direct distillation: the teacher label trains the serving output itself.
        return serving, tf.stack(
            [
                auxiliary[own.index(task)] if task in own else serving[self._served.index(task)]
                for task in self._taught
            ]
        )

    def _towers(self, inputs: Mapping[str, tf.Tensor], noise: tf.Tensor | None) -> tf.Tensor:
        """The towers side by side, float32 of shape [batch, tasks * units]."""
        kernels, biases = zip(*(self._dense[_tower(h.task.name)] for h in self._heads), strict=True)
        first, *others = (inputs[head.task.name] for head in self._heads)
        if all(other is first for other in others):
            product = tf.matmul(first, tf.concat(kernels, 1))
        else:
            each = zip((first, *others), kernels, strict=True)
            product = tf.concat([tf.matmul(values, kernel) for values, kernel in each], 1)
        towers = tf.nn.relu(tf.nn.bias_add(product, tf.concat(biases, 0)))
        if not self._rate or noise is None:
            return towers
        parts = tf.split(towers, len(kernels), axis=1)
        names = [kernel.name for kernel in kernels]
        dropped = [
            dropout(part, self._rate, noise, f"{name}/0")
            for part, name in zip(parts, names, strict=True)
        ]
        return tf.concat(dropped, 1)

    def _kernel(self, names: list[str]) -> tf.Tensor:
        """From all towers to one output for each name: zero but from the tower of its task."""
        places = [name.rsplit("/", 1)[0] for name in names]
        towers = [f"task_{head.task.name}" for head in self._heads]
        without = tf.zeros([self._units, 1])
        column = tf.concat(
            [
                self._dense[names[places.index(tower)]][0] if tower in places else without
                for tower in towers
            ],
            0,
        )
        own = np.array([[tower == place for place in places] for tower in towers], np.float32)
        return column * own.reshape(len(towers), len(names)).repeat(self._units, axis=0)

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
