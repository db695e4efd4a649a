"""A clean stop: the first signal lets the running component finish, the second one ends at once."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

import click

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Stop:
    """Says whether the process was asked to stop."""

    def __init__(self) -> None:
        self.asked = False

    def __call__(self) -> bool:
        """True once a signal came."""
        return self.asked

    def _hear(self, number: int, frame: FrameType | None) -> None:
        if self.asked:
            sys.exit(128 + number)
        self.asked = True
        click.echo(
            "Stopping; a running component is finished first. A second signal ends at once; either "
            "way nothing that was finished is lost.",
            err=True,
        )


@contextmanager
def on_signals() -> Iterator[Stop]:
    """A Stop that hears SIGINT and SIGTERM for as long as the `with` block lasts."""
    stop = Stop()
    before = {number: signal.signal(number, stop._hear) for number in _SIGNALS}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
