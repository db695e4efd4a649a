"""When a training stops early, and which epoch it goes back to."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import numpy as np

from tfx_distill.schema import columns
from tfx_distill.schema.config import TaskConfig
from tfx_distill.trainer import feature_table
from tfx_distill.trainer.training_state import TrainingState


def scales(files: Iterable[Path], tasks: Iterable[TaskConfig]) -> dict[str, float]:
    """By task, the loss of predicting the mean label of these examples for all of them.

    That is the entropy of a binary label and the variance of another one. A task without examples,
    or whose labels are all equal, is left out: there is nothing to measure its loss by.
    """
    tasks = tuple(tasks)
    names = [f(task.name) for task in tasks for f in (columns.label, columns.weight)]
    sums = {task.name: np.zeros(3) for task in tasks}
    for file in files:
        shard = feature_table.read(file, names)
        for task in tasks:
            label = shard[columns.label(task.name)].astype(np.float64)
            weight = shard[columns.weight(task.name)].astype(np.float64)
            moments = [weight.sum(), (weight * label).sum(), (weight * label**2).sum()]
            sums[task.name] += moments
    out = {}
    for task in tasks:
        weight, first, second = sums[task.name]
        if not weight:
            continue
        mean = first / weight
        if task.kind == "regression":
            loss = second / weight - mean**2
        elif 0 < mean < 1:
            loss = -(mean * math.log(mean) + (1 - mean) * math.log(1 - mean))
        else:
            loss = 0.0
        if loss > 1e-12:
            out[task.name] = float(loss)
    return out


class Best:
    """Watches the eval losses against hard labels, each in units of its task's constant prediction.

    Without these units a task whose label has a large variance would decide alone. The weights of
    the tasks are in the losses.

    Args:
      patience: Epochs without an improvement after which to stop; None never stops.
      scales: See `scales`.
    """

    def __init__(self, patience: int | None, scales: Mapping[str, float]) -> None:
        self._patience, self._scales = patience, scales
        self._least = math.inf
        self._epochs = 0
        self.epoch = 0
        """The best one so far, from 1."""
        self.state: TrainingState | None = None

    def see(self, losses: Mapping[str, float], state: Callable[[], TrainingState | None]) -> None:
        """Takes note of an epoch.

        Args:
          losses: Of the epoch; `val_<task>` are those of the eval split.
          state: Gives the present state of the training, which is kept if it is the best.
        """
        if self._patience is None or not self._scales:
            return
        self._epochs += 1
        value = sum(losses[f"val_{name}"] / scale for name, scale in self._scales.items())
        if value < self._least:
            self._least, self.epoch, self.state = value, self._epochs, state()

    def replay(self, losses: Mapping[str, list[float]], best: TrainingState | None) -> None:
        """Takes note of earlier epochs, from their losses and the state after the best of them."""
        for values in zip(*losses.values(), strict=True):
            self.see(dict(zip(losses, values, strict=True)), lambda: best)

    @property
    def is_over(self) -> bool:
        """Whether to stop."""
        return self._patience is not None and self._epochs - self.epoch >= self._patience

    @property
    def why(self) -> str | None:
        """Why the training is over, in words; None if it is not."""
        if not self.is_over:
            return None
        waited = "1 epoch" if self._patience == 1 else f"{self._patience} epochs"
        return (
            f"stopped early: no lower eval loss for {waited}, each task's loss being divided by "
            "that of its constant prediction"
        )
