"""Label shards and what a table of them holds, for the tests of the label table."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa

from tfx_distill.labels.partition import Partition
from tfx_distill.labels.provenance import Provenance
from tfx_distill.labels.shard import LabelShard, LabelShardWriter
from tfx_distill.schema.columns import Split

KINDS = {"click": "binary", "watch": "regression"}
NOON = datetime(2024, 5, 1, 12, tzinfo=timezone.utc)
PROVENANCE = Provenance("t7", "bytes7", "examples3", "graph1", "config1", watermark=1_714_000_000)


def write(
    table: Path,
    ids: Sequence[int],
    *,
    teacher: str = "video",
    span: int = 3,
    split: Split = "train",
    name: str = "train-00000",
    shift: float = 0.0,
    kinds: dict[str, str] = KINDS,
    batch: int = 2,
    scored_at: datetime = NOON,
) -> LabelShard:
    """A shard in which the label of an id is the id plus `shift`, for every task."""
    with LabelShardWriter(table, Partition(teacher, span, split), name, kinds, scored_at) as writer:
        for start in range(0, len(ids), batch):
            part = np.array(ids[start : start + batch], np.int64)
            label = (part + shift).astype(np.float32)
            writer.write(part, dict.fromkeys(kinds, label), np.zeros(len(part), np.float32))
    return writer.shard


def key(number: int) -> Provenance:
    return replace(PROVENANCE, teacher_fingerprint=f"bytes{number}")


def visible(table: Path) -> list[tuple[str, int, str, int]]:
    """What any Delta reader sees of the table now: teacher, span, split and id of each row."""
    frame = pl.read_delta(str(table))
    return sorted(frame.select("teacher", "span", "split", "example_id").rows())


def labels(tables: Iterable[pa.Table]) -> dict[int, float]:
    rows = pa.concat_tables(tables).to_pydict()
    return dict(zip(rows["example_id"], rows["logit_click"], strict=True))
