"""Students in training as a run trains them: each in a process of its own, with one thread."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

from tfx_distill.pipeline import run_log


def _begin(log_folder: Path) -> None:
    import tensorflow as tf

    run_log.divert(log_folder, rotate=False)
    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)


def call(function: Callable[..., Any], folder: Path, **arguments: Any) -> Any:
    """What a function returns in such a process.

    Args:
      function: Of a module.
      folder: Its first argument, where its log goes, too.
      **arguments: The others.
    """
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, context, initializer=_begin, initargs=(folder,)) as alone:
        return alone.submit(function, folder, **arguments).result()
