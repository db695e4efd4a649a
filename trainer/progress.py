"""What a person sees while a model trains: a line per epoch, rewritten on a terminal."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping


class Progress:
    """Prints epoch, examples a second, losses and the time left (at the most: it may stop early).

    Args:
      title: Which model trains, on what.
      epochs: How many epochs at the most.
      rows: Examples an epoch.
      quiet: Print nothing.
    """

    def __init__(self, title: str, epochs: int, rows: int, *, quiet: bool = False) -> None:
        self._title, self._epochs, self._rows, self._quiet = title, epochs, rows, quiet
        self._terminal = sys.stderr.isatty()
        self._start = time.monotonic()
        self._shown = 0.0

    def batch(self, epoch: int, done: int) -> None:
        """Rewrites the line, four times a second, where there is a terminal.

        Args:
          epoch: Which one, from 0.
          done: Examples of it that are done.
        """
        now = time.monotonic()
        if self._terminal and now - self._shown > 0.25:
            self._shown = now
            self._print(epoch, done, {}, "\r")

    def epoch(self, epoch: int, losses: Mapping[str, float]) -> None:
        """Leaves the line of an epoch behind, with its losses."""
        self._print(epoch, self._rows, losses, "\n")

    def back(self, best: int, done: int, why: str | None) -> None:
        """Says why a training ended early and, where it was not the last one, which epoch counts.

        Args:
          best: The epoch whose weights are kept, from 1.
          done: How many epochs were trained.
          why: Why it ended early; None if it did not.
        """
        if best < done and not self._quiet:
            reason = why or "the eval loss was lowest earlier"
            print(f"  {self._title}: {reason}; back to epoch {best}", file=sys.stderr, flush=True)

    def _print(self, epoch: int, done: int, losses: Mapping[str, float], end: str) -> None:
        if self._quiet:
            return
        seen = epoch * self._rows + done
        passed = max(time.monotonic() - self._start, 1e-6)
        left = (self._epochs * self._rows - seen) * passed / max(seen, 1)
        shown = {"loss": "loss", "val_loss": "eval loss"}
        parts = [f"  {self._title}: epoch {epoch + 1}/{self._epochs}"]
        parts.append(f"{100 * done // max(self._rows, 1):3d}%")
        parts += [f"{word} {losses[name]:.4f}" for name, word in shown.items() if name in losses]
        parts.append(f"{seen / passed:,.0f} examples/s")
        if done < self._rows or epoch + 1 < self._epochs:
            parts.append(f"{left:.0f} s left")
        clear = "\r\x1b[K" if self._terminal else ""
        print(clear + ", ".join(parts), end=end, file=sys.stderr, flush=True)
