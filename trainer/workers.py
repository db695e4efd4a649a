"""The processes that train one model together.

Every worker makes the same batches, takes its part of each, and holds all weights. Means of losses
have the denominators of the whole batch, so the sum of what the workers find is what one worker
alone would have found, up to the order of the summation.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import tensorflow as tf

from tfx_distill.schema.config import Device


class Workers:
    """A worker and those beside it; here there are none.

    Attributes:
      count: How many there are.
      number: Which one this is, from 0. The first one writes what is to be kept.
    """

    count = 1
    number = 0

    def scope(self) -> AbstractContextManager[Any]:
        """In which the variables are made."""
        return nullcontext()

    def run(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Calls the body of a traced function."""
        return function(*arguments)

    def total(self, values: Any) -> Any:
        """The sums over the workers of a tensor, or of each of a list of tensors and slices."""
        return values

    def turn(self, steps: tf.Tensor) -> tf.Tensor:
        """A number that no other step, of this worker or of another one, has."""
        return steps

    def __repr__(self) -> str:
        return f"worker {self.number} of {self.count}"


class Team(Workers):
    """Workers that find each other by the environment variable TF_CONFIG, as TensorFlow has it.

    Must be made before the process does anything else with TensorFlow.

    Args:
      device: As of `TrainerConfig`. Of several GPUs of a machine each worker takes one.
    """

    def __init__(self, device: Device = "auto") -> None:
        cluster = tf.distribute.cluster_resolver.TFConfigClusterResolver()
        self.number = cluster.task_id
        gpus = [] if device == "cpu" else tf.config.list_physical_devices("GPU")
        mine = [gpus[self.number % len(gpus)]] if gpus else []
        tf.config.set_visible_devices(mine, "GPU")
        self._strategy = tf.distribute.MultiWorkerMirroredStrategy(cluster)
        self.count = self._strategy.num_replicas_in_sync

    def scope(self) -> AbstractContextManager[Any]:
        """In which variables are the same in all workers."""
        return self._strategy.scope()

    def run(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Calls the body of a traced function, in which `total` can be used."""
        return self._strategy.run(function, args=arguments)

    def total(self, values: Any) -> Any:
        """Waits for all workers."""
        context = tf.distribute.get_replica_context()
        return context.all_reduce(tf.distribute.ReduceOp.SUM, values)

    def turn(self, steps: tf.Tensor) -> tf.Tensor:
        """Steps of the workers, counted one after the other."""
        return steps * self.count + self.number


ALONE = Workers()
