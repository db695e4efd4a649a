"""A process in which TensorFlow has one thread, as a run that trains several students gives it."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

from tfx_distill.pipeline import run_log


def _begin(log_folder: Path) -> None:
    run_log.divert(log_folder, rotate=False)
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)


def call(function: Callable[..., Any], folder: Path, **arguments: Any) -> Any:
    """What a function returns that is called in such a process.

    Args:
      function: Which; the process finds it by its module and name.
      folder: Its first argument, and where its log goes.
      **arguments: Its other arguments.
    """
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, context, initializer=_begin, initargs=(folder,)) as alone:
        return alone.submit(function, folder, **arguments).result()
