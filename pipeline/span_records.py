"""What became of each span of a stream: one summary per processed span, in the run folder.

A record is written when a span's run has ended, as a whole. A span without one was never begun, or
its run was cut off: what that run had finished comes from the cache when it is run again.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from tfx_distill.pipeline import summary
from tfx_distill.pipeline.summary import Summary

FOLDER = "spans"
PINNED = "bootstrap.yaml"
"""The config of the bootstrap, in the run folder of a stream."""

State = Literal["done", "partial", "failed"]
"""`partial`: the span was ingested and the stream went on, but a component failed."""


def write(result: Summary, folder: Path) -> None:
    """Keeps the summary of a span, named after its last span, in place of an earlier one."""
    target = folder / FOLDER
    target.mkdir(parents=True, exist_ok=True)
    file = target / f"{result.last_span:06d}.json"
    unfinished = file.with_suffix(".partial")
    unfinished.write_text(result.model_dump_json(indent=1))
    unfinished.replace(file)


def read(folder: Path) -> dict[int, Summary]:
    """The summaries of all processed spans, in order; the first is that of the bootstrap.

    Raises:
      ConfigError: Another version of tfx-distill wrote them.
    """
    files = sorted((folder / FOLDER).glob("*.json"))
    return {int(file.stem): summary.read_file(file) for file in files}


def state(result: Summary) -> State:
    """Whether the stream can go on after this span, and whether all of it worked.

    It goes on without one student or the teacher's training: they catch up. It does not go on
    without labels, since no student would ever come back to the span, unless the labels were
    refused for their quality; a bootstrap without labels has no teacher to go on with.
    """
    if result.failed is None:
        return "done"
    refused = result.carried is not None and result.labels_refused
    return "partial" if result.labels is not None or refused else "failed"
