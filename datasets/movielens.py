"""MovieLens-100K as a stream: one span per calendar month, a query per session of a user.

A session ends where its user rates nothing for 30 minutes: the usual bound of web sessions
(Catledge and Pitkow, 1995). People rated in bursts, so the 100,000 ratings fall into 2,793
sessions, half of them with 11 ratings or more; 510 sessions hold a single one. Within a burst many
ratings share a second, as one page of films was sent at once.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from tfx_distill.datasets import movielens_source
from tfx_distill.datasets.movielens_source import RATINGS_SHA256, Source
from tfx_distill.datasets.spans import SpanWriter
from tfx_distill.schema.columns import Split
from tfx_distill.schema.errors import DataError

SESSION_GAP_S = 1800
EVAL_FRACTION = 0.2
LIKED_FROM = 4

_SCHEMA = pa.schema(
    [
        ("rating_id", pa.int64()),
        ("session_id", pa.int64()),
        ("timestamp", pa.int64()),
        ("user_id", pa.int64()),
        ("item_id", pa.int64()),
        ("genres", pa.list_(pa.string())),
        ("release_year", pa.int64()),
        ("age", pa.int64()),
        ("gender", pa.string()),
        ("occupation", pa.string()),
        ("hour", pa.int64()),
        ("weekday", pa.int64()),
        ("rating", pa.float32()),
        ("liked", pa.int64()),
    ]
)

Ints = NDArray[np.int64]


@dataclass(frozen=True)
class SpanSummary:
    """One written span and the month it holds, as `YYYY-MM`."""

    span: int
    month: str
    train_rows: int
    eval_rows: int


def write(
    folder: Path,
    source: Path | None = None,
    *,
    cache: Path | None = None,
    sha256: str | None = RATINGS_SHA256,
) -> tuple[SpanSummary, ...]:
    """Writes `span-N/{train,eval}-00000.parquet`, N counting the months from September 1997.

    The eval split is the last 20% of a month, near enough: spans and splits are cut where nobody
    is in a session, so that no session is torn and everything in a later part happened later. All
    times are UTC; where a user lived is not known.

    Args:
      folder: Where to.
      source: A folder with the published files; downloaded if not given.
      cache: Where a download is kept; by default `download` in `folder`.
      sha256: What the ratings must hash to (`Source.digest`); None accepts any.

    Raises:
      DataError: The ratings are not the published ones, or a month cannot be split.
      EnvironmentProblem: The data cannot be downloaded, or `folder` cannot be written to.
    """
    where = source or movielens_source.fetch(cache or folder / "download")
    data = movielens_source.read(where)
    if sha256 is not None and data.digest != sha256:
        raise DataError(
            str(where),
            got=f"{data.ratings.num_rows} ratings with digest {data.digest[:12]}...",
            expected=f"the 100000 published ratings with digest {sha256[:12]}...",
            fix="Delete this copy and fetch the data set anew.",
        )
    table = _examples(data, where)
    return tuple(_write_span(folder, table, part) for part in _parts(table, where))


@dataclass(frozen=True)
class _Part:
    """Rows of a span: train is [start, cut), eval is [cut, end)."""

    span: int
    month: str
    start: int
    cut: int
    end: int


def _write_span(folder: Path, table: pa.Table, part: _Part) -> SpanSummary:
    splits: dict[Split, pa.Table] = {
        "train": table.slice(part.start, part.cut - part.start),
        "eval": table.slice(part.cut, part.end - part.cut),
    }
    with SpanWriter(folder / f"span-{part.span}", _SCHEMA, dictionary=_SCHEMA.names[1:]) as writer:
        for split, rows in splits.items():
            writer.write(split, rows)
        writer.commit({"month": part.month, "rows": writer.rows})
    return SpanSummary(part.span, part.month, writer.rows["train"], writer.rows["eval"])


def _examples(data: Source, where: Path) -> pa.Table:
    """Ratings with the features of their users and items, grouped by session.

    Sessions are numbered, and sorted, by their first rating.
    """
    user, item, rating, time = (c.to_numpy() for c in data.ratings.columns)
    order = np.lexsort((item, time, user))
    user, item, rating, time = user[order], item[order], rating[order], time[order]
    opens = np.ones(len(order), dtype=bool)
    opens[1:] = (np.diff(user) != 0) | (np.diff(time) > SESSION_GAP_S)
    rank = np.empty(int(opens.sum()), dtype=np.int64)
    rank[np.lexsort((user[opens], time[opens]))] = np.arange(len(rank))
    session = rank[np.cumsum(opens) - 1]
    order = np.argsort(session, kind="stable")
    user, item, rating, time = user[order], item[order], rating[order], time[order]
    users = data.users.take(_rows(data.users.column("user_id"), user, where))
    items = data.items.take(_rows(data.items.column("item_id"), item, where))
    days = time // 86_400
    columns = {
        # A user rates a film once.
        "rating_id": user << 32 | item,
        "session_id": session[order],
        "timestamp": time,
        "user_id": user,
        "item_id": item,
        "genres": items.column("genres"),
        "release_year": items.column("release_year"),
        "age": users.column("age"),
        "gender": users.column("gender"),
        "occupation": users.column("occupation"),
        "hour": time % 86_400 // 3600,
        "weekday": (days + 3) % 7,  # 1970-01-01 was a Thursday; Monday is 0.
        "rating": rating.astype(np.float32),
        "liked": (rating >= LIKED_FROM).astype(np.int64),
    }
    return pa.table([columns[name] for name in _SCHEMA.names], schema=_SCHEMA)


def _rows(known: pa.ChunkedArray, wanted: Ints, where: Path) -> pa.Array:
    """Row of each wanted id in a table of ids."""
    rows = pc.index_in(pa.array(wanted), value_set=known)
    if rows.null_count:
        missing = wanted[np.argmax(rows.is_null().to_numpy(zero_copy_only=False))]
        raise DataError(
            str(where),
            got=f"a rating with an id {missing} that its table does not have",
            expected="a user and an item for every rating",
            fix="Unpack the data set anew.",
        )
    return rows


def _parts(table: pa.Table, where: Path) -> list[_Part]:
    """The rows of each span, cut where nobody is in a session."""
    session = table.column("session_id").to_numpy()
    time = table.column("timestamp").to_numpy()
    first = np.flatnonzero(np.diff(session, prepend=-1))
    starts, ends = np.minimum.reduceat(time, first), np.maximum.reduceat(time, first)
    idle = np.append(True, starts[1:] > np.maximum.accumulate(ends)[:-1])
    cuts, cut_times = np.append(first[idle], len(time)), starts[idle]

    months = np.unique(time.astype("datetime64[s]").astype("datetime64[M]"))
    begins = months.astype("datetime64[s]").astype(np.int64)
    edges = cuts[np.searchsorted(cut_times, begins)]
    edges[0], edges = 0, np.append(edges, len(time))
    parts = []
    for span, month in enumerate(months):
        start, end = int(edges[span]), int(edges[span + 1])
        inside = cuts[(cuts > start) & (cuts < end)]
        if not len(inside):
            raise DataError(
                f"{where}, {month}",
                got=f"{end - start} ratings in sessions that cannot be told apart in time",
                expected="sessions for a train and a later eval split",
                fix="Use the whole data set.",
            )
        target = end - EVAL_FRACTION * (end - start)
        parts.append(
            _Part(span, str(month), start, int(inside[np.argmin(np.abs(inside - target))]), end)
        )
    return parts
