"""A small log whose columns have every role: its config, its content, its files."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from tfx_distill.datasets import logs
from tfx_distill.datasets.log_columns import LogConfig, LoggedLabel
from tfx_distill.schema.config import DataConfig

Columns = dict[str, Any]


def data_config(root: Path, kind: str = "parquet", **changes: Any) -> DataConfig:
    return DataConfig(
        **{
            "spans": f"{root}/span-{{SPAN}}/{{split}}-*",
            "format": kind,
            "example_id": "impression_id",
            "query_id": "request_id",
            "event_time": "timestamp",
        }
        | changes
    )


def log_config(root: Path, kind: str = "parquet", **changes: Any) -> LogConfig:
    return LogConfig(
        **{
            "data": data_config(root, kind),
            "numeric": ("age",),
            "categorical": ("device", "video"),
            "multivalent": ("topics",),
            "labels": (
                LoggedLabel(name="clicked", binary=True),
                LoggedLabel(name="watch_s", binary=False, log1p=True, applies_when="clicked"),
            ),
            "slices": ("new_item",),
        }
        | changes
    )


def column_values(first: int, rows: int = 4) -> Columns:
    number = np.arange(first, first + rows)
    return {
        "impression_id": number.tolist(),
        "request_id": [f"r{n // 2}" for n in number],
        "timestamp": (1_700_000_000 + number).tolist(),
        "age": [0.5, None, float("nan"), 3.0][:rows],
        "device": ["phone", None, "", "tv"][:rows],
        "video": [1, 2, None, 4][:rows],
        "topics": [["a", "b"], [], None, ["c", None]][:rows],
        "clicked": [1, 0, 1, 0][:rows],
        "watch_s": [1.5, None, 2.5, 0.0][:rows],
        "new_item": [True, False, True, None][:rows],
        "unused": ["x"] * rows,
    }


def write_parts(root: Path, parts: dict[tuple[int, str], Columns]) -> None:
    for (span, split), content in parts.items():
        path = root / f"span-{span}" / f"{split}-0.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.table(content), path)


def two_spans() -> dict[tuple[int, str], Columns]:
    keys = [(0, "train"), (0, "eval"), (1, "train"), (1, "eval")]
    return {key: column_values(4 * place) for place, key in enumerate(keys)}


def read_logs(root: Path, config: LogConfig) -> pa.Table:
    found = logs.files(config.data)
    types = logs.column_types(config, found)
    return pa.Table.from_batches([b for file in found for b in logs.read(file, config, types)])
