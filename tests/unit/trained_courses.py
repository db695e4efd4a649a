"""Courses on small feature tables with a real label table, for tests of where they are trained."""

from __future__ import annotations

from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np
from feature_chunks import FEATURES, MODEL, TASKS, TRAINING, Labels, write_chunk

from tfx_distill.labels.commit import commit
from tfx_distill.labels.partition import Partition
from tfx_distill.labels.provenance import Provenance
from tfx_distill.labels.shard import LabelShardWriter
from tfx_distill.schema.config import DistillConfig, StudentConfig
from tfx_distill.trainer import feature_table
from tfx_distill.trainer.chunks import Chunk
from tfx_distill.trainer.course import Trained
from tfx_distill.trainer.job import TrainingJob

KINDS = {"click": "binary", "watch": "regression"}


def chunk(folder: Path, span: int) -> Chunk:
    """A feature table with an odd number of examples, and teacher labels for most of them."""
    examples = write_chunk(folder / f"features-{span}", seed=span, train=203, held_out=61)
    shards = []
    for file in feature_table.shards(examples, "train"):
        ids = feature_table.read(file, ["example_id"])["example_id"]
        found, present = Labels().join(file.stem, ids)
        with LabelShardWriter(
            folder / "labels",
            Partition("v1", span, "train"),
            file.stem,
            KINDS,
            datetime.now(timezone.utc),
        ) as writer:
            labels = {task: values[present] for task, values in found.items()}
            writer.write(ids[present], labels, np.zeros(present.sum(), np.float32))
        shards.append(writer.shard)
    snapshot = commit(folder / "labels", shards, Provenance("1", "a", "b", "c", "d", None))
    return Chunk(span, str(examples), "graph", 0, (snapshot.to_json(),))


def job(workers: int = 1, epochs: int = 2, **training: Any) -> TrainingJob:
    """A student with a listwise and a pointwise loss, one lazy table and gradients that are cut."""
    student = StudentConfig(
        name="s",
        distill={"click": DistillConfig(loss="listnet"), "watch": DistillConfig(mode="direct")},
    )
    settings = {"epochs": epochs, "lazy_rows": 11, "clip_norm": 0.5, "learning_rate": 0.02}
    return TrainingJob(
        title="s",
        seed=1,
        features=FEATURES,
        tasks=TASKS,
        model=MODEL,
        training=TRAINING.model_copy(update=settings | training),
        student=student,
        whole_queries=True,
        min_coverage=0.5,
        workers=workers,
    )


def losses(trained: Trained) -> list[dict[str, list[float]]]:
    return [record.losses for record in trained.records]
