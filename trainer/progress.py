"""What a person sees while a model trains: a line per epoch, rewritten on a terminal."""

from __future__ import annotations

import sys
import time
from typing import Any

import tf_keras


class Progress(tf_keras.callbacks.Callback):
    """Prints epoch, examples a second, losses and the time left (at the most: it may stop early).

    Args:
      title: Which model trains.
      epochs: How many epochs at the most.
      rows: Examples an epoch.
      batch_size: Examples a batch.
    """

    def __init__(self, title: str, epochs: int, rows: int, batch_size: int) -> None:
        super().__init__()
        self._title, self._epochs, self._rows, self._batch_size = title, epochs, rows, batch_size
        self._terminal = sys.stderr.isatty()
        self._epoch = 0
        self._shown = 0.0

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Starts the clock."""
        self._start = time.monotonic()

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Notes the epoch."""
        self._epoch = epoch

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Rewrites the line, four times a second, where there is a terminal."""
        now = time.monotonic()
        if self._terminal and now - self._shown > 0.25:
            self._shown = now
            self._print(min((batch + 1) * self._batch_size, self._rows), logs or {}, "\r")

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Leaves the line of the epoch behind."""
        self._print(self._rows, logs or {}, "\n")

    def _print(self, done: int, logs: dict[str, Any], end: str) -> None:
        seen = self._epoch * self._rows + done
        passed = max(time.monotonic() - self._start, 1e-6)
        left = (self._epochs * self._rows - seen) * passed / max(seen, 1)
        losses = f"loss {logs.get('loss', float('nan')):.4f}"
        if "val_loss" in logs:
            losses += f", eval loss {logs['val_loss']:.4f}"
        line = (
            f"  {self._title}: epoch {self._epoch + 1}/{self._epochs}, "
            f"{100 * done // max(self._rows, 1):3d}%, {losses}, "
            f"{seen / passed:,.0f} examples/s, {left:.0f} s left"
        )
        clear = "\r\x1b[K" if self._terminal else ""
        print(clear + line, end=end, file=sys.stderr, flush=True)
