"""Which device a model is trained on."""

from __future__ import annotations

import os
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import tensorflow as tf

from tfx_distill.schema.config import Device
from tfx_distill.schema.errors import EnvironmentProblem


def require(device: Device) -> None:
    """Refuses a device that is not there.

    Raises:
      EnvironmentProblem: A GPU is asked for and TensorFlow sees none.
    """
    if device == "gpu" and not tf.config.list_physical_devices("GPU"):
        raise EnvironmentProblem(
            "trainer.device",
            got="no GPU that TensorFlow can use",
            expected="a GPU, as the config asks for",
            fix="Set it to auto or cpu; or see why `tf.config.list_physical_devices('GPU')` is "
            "empty: the driver, or a TensorFlow without CUDA (pip install 'tensorflow[and-cuda]').",
        )


def chosen(device: Device) -> AbstractContextManager[Any]:
    """In which a training is made and run.

    Left alone, TensorFlow takes a GPU if it sees one.

    Raises:
      EnvironmentProblem: As of `require`.
    """
    require(device)
    if not tf.config.list_physical_devices("GPU"):
        return nullcontext()
    # Else TensorFlow takes all of the memory at once, also that of other processes to come.
    os.environ.setdefault("TF_FORCE_GPU_ALLOW_GROWTH", "true")
    return tf.device("/CPU:0") if device == "cpu" else nullcontext()
