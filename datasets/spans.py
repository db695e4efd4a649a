"""Spans on disk: Parquet files that appear whole, with a marker once all of them are there."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from tfx_distill.schema.columns import SPLITS, Split
from tfx_distill.schema.errors import EnvironmentProblem

MARKER = "_SUCCESS"
ROW_GROUP_ROWS = 65_536


def marker(folder: Path) -> dict[str, Any] | None:
    """What `SpanWriter.commit` recorded in a span's folder; None where the span is incomplete."""
    try:
        found = json.loads((folder / MARKER).read_text())
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None


class SpanWriter:
    """Writes the shards `{train,eval}-NNNNN.parquet` of one span, in columns.

    Files are written under hidden temporary names, renamed by `commit`, and followed by the marker
    `_SUCCESS`: a crash leaves no half-written file where a reader looks. Leaving the `with` block
    without a commit removes what was written.

    Args:
      folder: The span's folder; made if missing. An earlier, incomplete attempt is replaced.
      schema: Columns of both splits.
      shard_rows: Rows of every shard but a split's last.
      dictionary: Columns to encode by dictionary: ids and words, not measurements.

    Raises:
      EnvironmentProblem: The folder cannot be written to (also from `write` and `commit`).
    """

    def __init__(
        self,
        folder: Path,
        schema: pa.Schema,
        *,
        shard_rows: int = 1_000_000,
        dictionary: Collection[str] = (),
    ) -> None:
        self.rows: dict[Split, int] = dict.fromkeys(SPLITS, 0)
        self._folder = folder
        self._schema = schema
        self._shard_rows = shard_rows
        # The values of a list have a path of their own, spelt either way by pyarrow's releases.
        self._dictionary = [
            path for c in dictionary for path in (c, f"{c}.list.item", f"{c}.list.element")
        ]
        self._waiting: dict[Split, list[pa.Table]] = {split: [] for split in SPLITS}
        self._open: dict[Split, pq.ParquetWriter] = {}
        self._written: list[tuple[Path, Path]] = []

    def __enter__(self) -> SpanWriter:
        with _blamed_on(self._folder):
            self._folder.mkdir(parents=True, exist_ok=True)
            self._remove_leftovers()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for writer in self._open.values():
            try:
                writer.close()
            except OSError:
                # The file is removed next; the error worth showing is the one under way.
                continue
        for hidden, _ in self._written:
            hidden.unlink(missing_ok=True)

    def write(self, split: Split, table: pa.Table) -> None:
        """Appends rows to a split; holds back less than one row group."""
        offset = 0
        while offset < table.num_rows:
            room = self._shard_rows - self.rows[split] % self._shard_rows
            part = table.slice(offset, room)
            offset += part.num_rows
            self.rows[split] += part.num_rows
            self._waiting[split].append(part)
            full = self.rows[split] % self._shard_rows == 0
            if full or sum(t.num_rows for t in self._waiting[split]) >= ROW_GROUP_ROWS:
                self._flush(split)
            if full:
                self._close(split)

    def commit(self, note: dict[str, Any]) -> None:
        """Makes the span visible; `note` (JSON) goes into the marker."""
        for split in SPLITS:
            self._flush(split)
            self._close(split)
        with _blamed_on(self._folder):
            for hidden, final in self._written:
                hidden.rename(final)
            self._written.clear()
            hidden = self._folder / f".{MARKER}.tmp"
            hidden.write_text(json.dumps(note, sort_keys=True) + "\n")
            hidden.rename(self._folder / MARKER)

    def _flush(self, split: Split) -> None:
        waiting = self._waiting[split]
        if not waiting:
            return
        with _blamed_on(self._folder):
            if split not in self._open:
                self._open[split] = self._next_shard(split)
            self._open[split].write_table(pa.concat_tables(waiting), row_group_size=ROW_GROUP_ROWS)
        waiting.clear()

    def _next_shard(self, split: Split) -> pq.ParquetWriter:
        number = sum(final.name.startswith(split) for _, final in self._written)
        name = f"{split}-{number:05d}.parquet"
        hidden = self._folder / f".{name}.tmp"
        self._written.append((hidden, self._folder / name))
        return pq.ParquetWriter(hidden, self._schema, use_dictionary=self._dictionary)

    def _close(self, split: Split) -> None:
        writer = self._open.pop(split, None)
        if writer is not None:
            with _blamed_on(self._folder):
                writer.close()

    def _remove_leftovers(self) -> None:
        # The marker goes first: without it nobody takes the folder for a whole span.
        (self._folder / MARKER).unlink(missing_ok=True)
        for split in SPLITS:
            for old in (
                *self._folder.glob(f"{split}-*.parquet"),
                *self._folder.glob(f".{split}-*.parquet.tmp"),
            ):
                old.unlink()


@contextmanager
def _blamed_on(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise EnvironmentProblem(
            str(folder),
            got=error.strerror or str(error),
            expected="a folder with room for the span's files",
            fix="Free space or choose another folder, then run again: finished spans are kept.",
        ) from error
