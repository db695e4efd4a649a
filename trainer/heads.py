"""The outputs of a ranker: a serving head per served task, and distillation heads beside them.

A distillation head stands on the same tower as the serving head of its task, so the shared layers
and the tower learn from the teacher, while the serving head itself sees hard labels only: a bias of
the teacher stays in the head that is thrown away (auxiliary distillation, *Bridging the Gap*,
RecSys 2024, section 3).
"""

from __future__ import annotations

from dataclasses import dataclass

import tensorflow as tf
import tf_keras

from tfx_distill.schema.config import DistillConfig, ModelConfig, StudentConfig, TaskConfig
from tfx_distill.trainer.towers import Dense


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
    """The tower of one task with its logits: [batch, x] -> one or two tensors of shape [batch]."""

    def __init__(self, head: Head, model: ModelConfig) -> None:
        super().__init__(name=f"task_{head.task.name}")
        self._tower = Dense([model.scaled(model.tower)], model.dropout, name="tower")
        self._serving = tf_keras.layers.Dense(1, name="serving") if head.served else None
        self._auxiliary = (
            tf_keras.layers.Dense(1, name="distillation") if head.has_auxiliary else None
        )

    @property
    def output_biases(self) -> list[tf.Variable]:
        """What the outputs are where the tower says nothing; they start at the mean label."""
        return [dense.bias for dense in (self._serving, self._auxiliary) if dense is not None]

    def call(
        self, inputs: tf.Tensor, noise: tf.Tensor | None = None
    ) -> tuple[tf.Tensor | None, tf.Tensor | None]:
        """The serving output and the distillation output; None for one that does not exist."""
        tower = self._tower(inputs, noise=noise)
        serving = None if self._serving is None else self._serving(tower)[:, 0]
        auxiliary = None if self._auxiliary is None else self._auxiliary(tower)[:, 0]
        return serving, auxiliary
