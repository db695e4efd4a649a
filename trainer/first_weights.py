"""Where a model's weights start: a function of the seed and of each variable's name.

So a student and its twin start equal where they have the same layers, and a head that is added
later changes no other weight.
"""

from __future__ import annotations

import hashlib
import math
from typing import TYPE_CHECKING

import numpy as np

from tfx_distill.schema import columns
from tfx_distill.schema.config import TaskConfig

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from numpy.typing import NDArray

_EMBEDDING_LIMIT = 0.05
"""Rows of ids that are never seen keep their first values, which serving can then meet: small ones
disturb little."""


def first_weight(name: str, shape: Sequence[int], seed: int) -> NDArray[np.float32]:
    """First value of a variable.

    Kernels are Glorot-uniform (Glorot and Bengio, 2010), embeddings uniform within 0.05, biases 0.

    Args:
      name: Of the variable, `.../kernel:0` for example.
      shape: Of the variable.
      seed: Of the training.
    """
    role = name.rsplit("/", 1)[-1]
    if role.startswith("bias"):
        return np.zeros(shape, np.float32)
    if role.startswith("kernel"):
        limit = math.sqrt(6 / (shape[0] + shape[1]))
    elif role.startswith("embedding_"):
        limit = _EMBEDDING_LIMIT
    else:
        raise ValueError(f"no rule for the first value of {name}")
    digest = hashlib.sha256(name.encode()).digest()
    random = np.random.default_rng([seed, int.from_bytes(digest[:8], "big")])
    return random.uniform(-limit, limit, tuple(shape)).astype(np.float32)


def first_output(task: TaskConfig, shard: Mapping[str, NDArray[Any]]) -> float:
    """Where an output starts: the mean hard label of a shard, for a binary task its log-odds."""
    label, weight = shard[columns.label(task.name)], shard[columns.weight(task.name)]
    mean = float(np.average(label, weights=weight)) if weight.any() else 0.0
    if task.kind == "binary":
        mean = min(max(mean, 1e-6), 1 - 1e-6)
        mean = math.log(mean / (1 - mean))
    return mean
