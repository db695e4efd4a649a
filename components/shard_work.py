"""Work that is done shard by shard, whatever engine carries it.

Neither this module nor a work imports TFX or Beam: the Python workers of a Spark cluster need
TensorFlow and this package, nothing else.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import pyarrow as pa

from tfx_distill.schema.columns import Split


@dataclass(frozen=True)
class Shard:
    """A file to read: its path, its split, and its name within the split."""

    source: str
    split: Split
    name: str


@dataclass(frozen=True)
class Note:
    """A file that was written for a shard, as its worker tells the driver.

    Attributes:
      split: Of the shard.
      name: Of the shard.
      path: The file; empty without rows, as there is no file then.
      rows: Number of examples.
      size: Bytes of the file.
      ranges: Smallest and largest value of columns, where they are wanted.
    """

    split: Split
    name: str
    path: str
    rows: int
    size: int
    ranges: dict[str, tuple[float, float]]


SHARDS = pa.schema([("source", pa.string()), ("split", pa.string()), ("name", pa.string())])
NOTES = pa.schema(
    [
        ("split", pa.string()),
        ("name", pa.string()),
        ("path", pa.string()),
        ("rows", pa.int64()),
        ("size", pa.int64()),
        # As JSON: the ranges are of integers and of floats.
        ("ranges", pa.string()),
    ]
)


class ShardWork(ABC):
    """What is done with each shard; small, and picklable.

    A shard is the unit of a retry: doing it twice leaves one file, or two of which only the noted
    one counts. What is costly to load is loaded once per process, see `trainer.process_cache`.
    """

    @abstractmethod
    def do(self, shard: Shard) -> Note:
        """Reads a shard in batches and streams its file out."""

    def __call__(self, shards: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """Rows of `SHARDS` in, rows of `NOTES` out, one for one."""
        for batch in shards:
            for row in batch.to_pylist():
                note = asdict(self.do(Shard(**row)))
                note["ranges"] = json.dumps(note["ranges"])
                yield pa.RecordBatch.from_pylist([note], schema=NOTES)


def shard_table(shards: Sequence[Shard]) -> pa.Table:
    """Shards as rows of `SHARDS`."""
    return pa.Table.from_pylist([asdict(shard) for shard in shards], schema=SHARDS)


def read_note(row: dict[str, Any]) -> Note:
    """A row of `NOTES`."""
    ranges = {name: tuple(ends) for name, ends in json.loads(row["ranges"]).items()}
    return Note(**{**row, "ranges": ranges})
