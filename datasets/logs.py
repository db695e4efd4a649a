"""Reading and checking the logged examples of a run, in columns and with bounded memory.

`read` yields canonical batches of one file; a `Census` watches the batches of a whole run for what
no single batch shows (repeated ids, splits out of order); `check` does both and keeps nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from tfx_distill.datasets import log_columns, log_formats
from tfx_distill.datasets.log_columns import LogConfig, require_serving_values
from tfx_distill.datasets.log_files import (
    LogFile,
    available_spans,
    complete_spans,
    files,
    fingerprint,
    parse_spans,
    select_spans,
    split_files,
)
from tfx_distill.datasets.log_values import Place, canonical
from tfx_distill.schema import columns
from tfx_distill.schema.columns import Split
from tfx_distill.schema.config import RunConfig
from tfx_distill.schema.errors import DataError

__all__ = [
    "Census",
    "LogConfig",
    "LogFile",
    "Part",
    "Report",
    "available_spans",
    "check",
    "column_types",
    "complete_spans",
    "files",
    "fingerprint",
    "parse_spans",
    "read",
    "require_serving_values",
    "select_spans",
    "split_files",
]

Ids = np.ndarray[Any, np.dtype[np.int64]]


@dataclass(frozen=True)
class Part:
    """One split of one span.

    `first` and `last` are the smallest and largest event times, in seconds since the epoch.
    """

    span: int
    split: Split
    files: int
    rows: int
    first: int
    last: int


@dataclass(frozen=True)
class Report:
    """What a check found: counts, times, canonical types by output column, and warnings.

    Where the eval split of the span before is trained on, it is one of the parts.
    """

    parts: tuple[Part, ...]
    types: dict[str, pa.DataType]
    warnings: tuple[str, ...] = ()

    @property
    def spans(self) -> tuple[int, ...]:
        """Numbers of the spans, ascending."""
        return tuple(sorted({part.span for part in self.parts}))

    def rows(self, split: Split) -> int:
        """Rows of the train or eval split of a run over these spans; see `split_files`."""
        evaluated = sum(p.rows for p in self.parts if (p.span, p.split) == (self.spans[-1], "eval"))
        total = sum(part.rows for part in self.parts)
        return evaluated if split == "eval" else total - evaluated

    @property
    def watermark(self) -> int:
        """Newest event time of the train split of the run, in seconds since the epoch."""
        last = (self.spans[-1], "eval")
        return max(part.last for part in self.parts if (part.span, part.split) != last)


def column_types(config: LogConfig, logged: Sequence[LogFile]) -> dict[str, pa.DataType]:
    """Canonical type of each output column, from the files' own schemas; reads no examples.

    Raises:
      DataError: A file cannot be opened; a column is missing or has a wrong type.
    """
    reader = log_formats.reader(config.data.format)
    return log_columns.types(config, {file.path: reader.schema(file.path) for file in logged})


def read(
    file: LogFile, config: LogConfig, types: Mapping[str, pa.DataType]
) -> Iterator[pa.RecordBatch]:
    """Canonical batches of one file, in the order of the log.

    Args:
      file: The file.
      config: The columns to read, and their roles.
      types: What `column_types` returned for all files of the run.

    Yields:
      Batches of at most `log_formats.BATCH_ROWS` rows with the columns of `types`.

    Raises:
      DataError: The file is damaged or holds a value that cannot be used.
    """
    wanted = {name: types.get(name, log_columns.KEY) for name in config.logged}
    wanted[config.data.event_time] = pa.null()
    row = 0
    for batch in log_formats.reader(config.data.format).batches(file.path, wanted):
        yield canonical(batch, config, types, Place(file.path, row))
        row += batch.num_rows


def check(config: RunConfig | LogConfig, spans: tuple[int, int] | None = None) -> Report:
    """Reads all examples of a run once and checks them.

    Args:
      config: Says where they are and what they must hold.
      spans: First and last span; all there are if not given.

    Raises:
      DataError: The data cannot be used; the message names the file, column and row.
    """
    run = config if isinstance(config, RunConfig) else None
    config = LogConfig.of(config) if isinstance(config, RunConfig) else config
    chosen = split_files(config.data, select_spans(config.data, spans))
    logged = [*chosen["train"], *chosen["eval"]]
    types = column_types(config, logged)
    if run is not None:
        require_serving_values(run, types)
    census = Census(types)
    for file in logged:
        census.open(file)
        for batch in read(file, config, census.types):
            census.add(batch)
    return census.report()


class _Moment(NamedTuple):
    """An event time and where it was logged; compares by time."""

    time: int
    place: Place
    offset: int

    def __str__(self) -> str:
        when = datetime.fromtimestamp(self.time, timezone.utc).isoformat(" ")
        return f"{when} ({self.place.row(self.offset)})"


@dataclass
class _Tally:
    """What the census keeps of a split of a span."""

    files: int = 0
    rows: int = 0
    first: _Moment | None = None
    last: _Moment | None = None


class Census:
    """Watches the batches of a run for what only shows in the whole.

    Call `open` before the batches of each file. Memory: 8 bytes per example and per query,
    three times that while the ids are compared.
    """

    def __init__(self, types: Mapping[str, pa.DataType]) -> None:
        self.types = dict(types)
        self._tallies: dict[tuple[int, Split], _Tally] = {}
        self._queries: dict[tuple[int, Split], Ids] = {}
        self._pending: list[Ids] = []
        self._ids: list[Ids] = []
        self._places: list[Place] = []
        self._current: tuple[int, Split] | None = None
        self._file: LogFile | None = None
        self._row = 0

    def open(self, file: LogFile) -> None:
        """Says which file the next batches are from."""
        self._settle()
        self._file, self._row = file, 0
        self._current = (file.span, file.split)
        self._tallies.setdefault(self._current, _Tally()).files += 1

    def add(self, batch: pa.RecordBatch) -> None:
        """Counts a canonical batch."""
        if self._file is None or self._current is None:
            raise RuntimeError("Census.open comes before Census.add")
        if not batch.num_rows:
            return
        place = Place(self._file.path, self._row)
        tally = self._tallies[self._current]
        times = batch.column(batch.schema.get_field_index(columns.EVENT_TIME)).to_numpy()
        low, high = int(times.argmin()), int(times.argmax())
        if tally.first is None or times[low] < tally.first.time:
            tally.first = _Moment(int(times[low]), place, low)
        if tally.last is None or times[high] > tally.last.time:
            tally.last = _Moment(int(times[high]), place, high)
        ids = batch.column(batch.schema.get_field_index(columns.EXAMPLE_ID)).to_numpy()
        # Copied: a view would keep the whole batch in memory.
        self._ids.append(ids.copy())
        self._places.append(place)
        queries = batch.column(batch.schema.get_field_index(columns.QUERY_ID)).to_numpy()
        self._pending.append(np.unique(queries))
        tally.rows += batch.num_rows
        self._row += batch.num_rows

    def report(self) -> Report:
        """What was counted.

        Raises:
          DataError: A split is empty, an id repeats, or the eval split is not later than what is
            trained on before it.
        """
        self._settle()
        parts = tuple(self._part(*key) for key in sorted(self._tallies, key=_in_time))
        self._refuse_disorder()
        self._refuse_repeats()
        return Report(parts, self.types, tuple(self._split_queries()))

    def _settle(self) -> None:
        """Folds the queries of the file just read into those of its split."""
        if self._current is not None and self._pending:
            known = self._queries.get(self._current, np.empty(0, np.int64))
            self._queries[self._current] = np.unique(np.concatenate([known, *self._pending]))
        self._pending = []

    def _part(self, span: int, split: Split) -> Part:
        tally = self._tallies[span, split]
        if tally.first is None or tally.last is None:
            raise DataError(
                f"span {span}, split {split}",
                got=f"no rows in {tally.files} file(s)",
                expected="at least one example",
                fix="Bring the examples, or leave the span out.",
            )
        return Part(span, split, tally.files, tally.rows, tally.first.time, tally.last.time)

    def _refuse_disorder(self) -> None:
        newest: _Moment | None = None
        for key in sorted(self._tallies, key=_in_time):
            first, last = self._tallies[key].first, self._tallies[key].last
            if newest and first and key[1] == "eval" and first.time < newest.time:
                raise DataError(
                    f"span {key[0]}: {first.place.row(first.offset)}",
                    got=f"an eval example of {first}",
                    expected=f"none earlier than the newest one trained on, {newest}",
                    fix="Cut train and eval by event time: eval holds the later examples.",
                )
            newest = max(filter(None, (newest, last)), key=lambda moment: moment.time)

    def _refuse_repeats(self) -> None:
        ids = np.concatenate(self._ids)
        ordered = np.sort(ids)
        repeated = ordered[1:][ordered[1:] == ordered[:-1]]
        if not len(repeated):
            return
        rows = np.flatnonzero(ids == repeated[0])[:2]
        starts = np.cumsum([0, *(len(part) for part in self._ids[:-1])])
        batches = np.searchsorted(starts, rows, side="right") - 1
        first, second = (
            self._places[batch].row(int(row - starts[batch]))
            for row, batch in zip(rows, batches, strict=True)
        )
        raise DataError(
            second,
            got=f"example id {repeated[0]} again, first seen in {first}",
            expected="an id of its own for every example of the run",
            fix=f"Log unique ids; {len(repeated)} row(s) repeat one. (Ids that are strings are "
            "compared by their 64-bit fingerprints.)",
        )

    def _split_queries(self) -> Iterator[str]:
        for (span, split), evaluated in self._queries.items():
            trained = self._queries.get((span, "train"))
            if split == "eval" and trained is not None:
                shared = len(np.intersect1d(evaluated, trained, assume_unique=True))
                if shared:
                    yield (
                        f"span {span}: {shared} of {len(evaluated)} eval queries also have "
                        "examples in train; per-query metrics see a part of their lists"
                    )


def _in_time(key: tuple[int, Split]) -> tuple[int, int]:
    """Order of the splits in time: by span, train before eval."""
    return key[0], columns.SPLITS.index(key[1])
