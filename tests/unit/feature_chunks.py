"""Small feature tables with learnable labels, for tests of the training without any Transform."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from tfx_distill.schema.config import FeaturesConfig, ModelConfig, TaskConfig, TrainingConfig
from tfx_distill.trainer import feature_table

FEATURES = FeaturesConfig.model_validate(
    {
        "numeric": ["x"],
        "categorical": [{"name": "user", "vocab": 9, "oov_buckets": 1}],
        "multivalent": [{"name": "topics", "buckets": 5, "max_length": 2}],
    }
)
CLICK = TaskConfig(name="click", kind="binary", label="clicked")
WATCH = TaskConfig(name="watch", kind="regression", label="watched", applies_when="clicked")
TASKS = (CLICK, WATCH)
MODEL = ModelConfig(hidden=6, tower=4, embedding=3, depth=1)
TRAINING = TrainingConfig(epochs=2, batch_size=32, learning_rate=0.01)


def rows(count: int, seed: int) -> dict[str, np.ndarray[Any, Any]]:
    """Columns of a feature table."""
    random = np.random.default_rng(seed)
    x = random.normal(size=count)
    clicked = random.random(count) < 1 / (1 + np.exp(1 - 2 * x))
    return {
        "numeric": np.stack([x, np.zeros(count)], axis=1).astype(np.float32),
        "categorical": random.integers(0, 11, (count, 1)).astype(np.int32),
        "multivalent": random.integers(0, 6, (count, 2)).astype(np.int32),
        "example_id": np.arange(count, dtype=np.int64) + 10_000 * seed,
        "query_id": np.arange(count, dtype=np.int64) // 4 + 10_000 * seed,
        "event_time": np.arange(count, dtype=np.int64),
        "label_click": clicked.astype(np.float32),
        "weight_click": np.ones(count, np.float32),
        "label_watch": np.where(clicked, 3 + x, 0).astype(np.float32),
        "weight_watch": clicked.astype(np.float32),
    }


def write_chunk(folder: Path, seed: int, train: int = 100, held_out: int = 40) -> Path:
    """A feature table of two train shards and one eval shard."""
    shards = {"train": [train - train // 3, train // 3], "eval": [held_out] if held_out else []}
    for split, sizes in shards.items():
        for number, size in enumerate(sizes):
            name = f"Split-{split}/part-{number:05d}.arrow"
            own = seed * 10 + number + (5 if split == "eval" else 0)
            with feature_table.Writer(folder / name) as writer:
                writer.write(feature_table.record(rows(size, own)))
    return folder


class Labels:
    """Teacher labels that are functions of the example id; some examples have none."""

    def join(self, shard: str, example_id: Any) -> Any:
        present = example_id % 7 != 0
        logit = np.sin(example_id).astype(np.float32)
        return {"click": logit * present, "watch": (3 + logit) * present}, present

    def coverage(self) -> Any:
        return type("Coverage", (), {"share": 6 / 7})

    def require_coverage(self, minimum: float) -> None:
        pass
