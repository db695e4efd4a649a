"""The losses of a training, epoch by epoch: kept, and drawn by TensorBoard."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import tensorflow as tf

_EVAL = "val_"


class LossLog:
    """Collects losses; those with the prefix `val_` are of the eval split.

    Args:
      folder: Where the event files go, under `train` and `validation` as Keras has them; None
        writes none.
      first_epoch: Number of the first epoch in the curves.
      earlier: Losses of the first epochs, which an interrupted training has drawn already.
    """

    def __init__(
        self,
        folder: str | None,
        first_epoch: int = 0,
        earlier: Mapping[str, list[float]] | None = None,
    ) -> None:
        self.values = {name: list(values) for name, values in (earlier or {}).items()}
        self._folder = folder
        self._epoch = first_epoch + len(next(iter(self.values.values()), []))
        self._writers: dict[str, Any] = {}

    def add(self, losses: Mapping[str, float]) -> None:
        """Adds the losses of one epoch."""
        for name, value in losses.items():
            self.values.setdefault(name, []).append(value)
            split = "validation" if name.startswith(_EVAL) else "train"
            if self._folder is not None:
                with self._writer(split).as_default(self._epoch):
                    tf.summary.scalar(f"epoch_{name.removeprefix(_EVAL)}", value)
        self._epoch += 1

    def close(self) -> None:
        """Ends the event files."""
        for writer in self._writers.values():
            writer.close()

    def _writer(self, split: str) -> Any:
        if split not in self._writers:
            folder = str(Path(str(self._folder)) / split)
            self._writers[split] = tf.summary.create_file_writer(folder)
        return self._writers[split]
