"""A valid run config, and ways to change it, for the tests of the run config."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import yaml

from tfx_distill.schema import config as run_config
from tfx_distill.schema.errors import ConfigError

BASIS: dict[str, Any] = {
    "name": "video",
    "data": {
        "spans": "data/span-{SPAN}/{split}-*.parquet",
        "example_id": "impression_id",
        "query_id": "request_id",
        "event_time": "timestamp",
    },
    "features": {
        "numeric": ["age", {"name": "views", "transform": "log1p"}],
        "categorical": [{"name": "device", "vocab": 8}, {"name": "user", "buckets": 64}],
        "multivalent": [{"name": "topics", "vocab": 8, "max_length": 3}],
    },
    "tasks": [
        {"name": "click", "kind": "binary", "label": "clicked"},
        {"name": "watch", "kind": "regression", "label": "watch_s", "applies_when": "clicked"},
    ],
    "students": [{"name": "compact"}],
    "gate": {
        "students": [
            {"task": "click", "metric": "auc", "min": 0.5},
            {"task": "watch", "metric": "mse", "max_regression": 0.1},
        ],
        "teacher": [
            {"task": "click", "metric": "auc", "min": 0.5},
            {"task": "watch", "metric": "mse", "max": 9},
        ],
        "slices": ["device"],
    },
    "push": {"directory": "serving"},
}


def changed(path: str, value: Any) -> dict[str, Any]:
    """The basis with one key set, given as `students.0.name`; None removes it."""
    content = copy.deepcopy(BASIS)
    *folders, last = [int(part) if part.isdigit() else part for part in path.split(".")]
    node: Any = content
    for part in folders:
        node = node.setdefault(part, {}) if isinstance(node, dict) else node[part]
    if value is None:
        del node[last]
    elif isinstance(node, list) and last == len(node):
        node.append(value)
    else:
        node[last] = value
    return content


def refused(tmp_path: Path, content: Any) -> ConfigError:
    """The error that a user gets for a config file of this content."""
    file = tmp_path / "run.yaml"
    file.write_text(content if isinstance(content, str) else yaml.safe_dump(content))
    with pytest.raises(ConfigError) as caught:
        run_config.load(file)
    assert caught.value.where.startswith(str(file))
    return caught.value
