"""A teacher whose logits NumPy computes as well, saved like an exported ranker."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import tensorflow as tf


class Teacher(tf.Module):
    """A teacher with the signature of an exported ranker.

    It predicts NaN for the click of examples whose standardised age is below `limit`.
    """

    def __init__(self, slope: float, limit: float) -> None:
        super().__init__()
        self.slope = tf.Variable(slope)
        self.limit = tf.Variable(limit)

    @tf.function(
        input_signature=[
            tf.TensorSpec([None, 8], tf.float32, name="numeric"),
            tf.TensorSpec([None, 4], tf.int32, name="categorical"),
            tf.TensorSpec([None, 5], tf.int32, name="multivalent"),
        ]
    )
    def logits(self, numeric: Any, categorical: Any, multivalent: Any) -> dict[str, Any]:
        click = self.slope * numeric[:, 0] - 0.25 * tf.cast(categorical[:, 0], tf.float32)
        return {
            "click": tf.where(numeric[:, 0] < self.limit, math.nan, click),
            "watch": 1.0 + numeric[:, 1],
            "mood": 0.5 * tf.cast(multivalent[:, 0], tf.float32),
        }


def save(folder: Path, slope: float = 0.5, limit: float = -math.inf) -> str:
    teacher = Teacher(slope, limit)
    tf.saved_model.save(
        teacher,
        str(folder / "Format-Serving"),
        signatures={"logits": teacher.logits.get_concrete_function()},
    )
    return str(folder)
