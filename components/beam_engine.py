"""Shard work on Beam: an element is a shard."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path

import apache_beam as beam
import pyarrow as pa
from apache_beam.runners.portability.fn_api_runner import FnApiRunner

from tfx_distill.components.shard_work import Note, Shard, ShardWork, read_note, shard_table


def run(
    work: ShardWork, shards: Sequence[Shard], pipeline: beam.Pipeline, notes: Path
) -> list[Note]:
    """Does the work of all shards, by whatever runner the pipeline has.

    Args:
      work: What to do.
      shards: With what.
      pipeline: An empty one; it is run.
      notes: A folder that all workers see, for as long as this lasts: a Beam runner hands results
        back to the driver only through storage.
    """
    try:
        with pipeline:
            _ = (
                pipeline
                # In one process a reshuffle only costs; elsewhere it is what spreads the shards.
                | "Shards"
                >> beam.Create(shards, reshuffle=not isinstance(pipeline.runner, FnApiRunner))
                | type(work).__name__ >> beam.ParDo(_OneShard(work, str(notes)))
            )
        return [read_note(json.loads(file.read_text())) for file in sorted(notes.glob("*.json"))]
    finally:
        shutil.rmtree(notes, ignore_errors=True)


class _OneShard(beam.DoFn):
    """Does one shard and leaves a note of it."""

    def __init__(self, work: ShardWork, notes: str) -> None:
        self._work, self._notes = work, notes

    def process(self, shard: Shard) -> None:
        """Does one shard."""
        (note,) = pa.Table.from_batches(self._work(shard_table([shard]).to_batches())).to_pylist()
        file = Path(self._notes) / f"{shard.split}-{shard.name}.json"
        file.parent.mkdir(parents=True, exist_ok=True)
        unfinished = file.with_suffix(".partial")
        unfinished.write_text(json.dumps(note))
        unfinished.replace(file)
