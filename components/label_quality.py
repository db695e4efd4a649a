"""Measures the labels of a span against its examples, before they are committed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from tfx_distill.labels.join import LabelJoiner
from tfx_distill.labels.quality import Quality, QualityMeter
from tfx_distill.labels.shard import shard_of
from tfx_distill.labels.snapshot import Snapshot
from tfx_distill.labels.storage import source
from tfx_distill.schema import columns
from tfx_distill.schema.columns import Split
from tfx_distill.schema.config import TaskConfig
from tfx_distill.trainer import feature_table


def measure(
    tasks: Sequence[TaskConfig],
    watermark: int | None,
    files: Mapping[Split, Sequence[str]],
    features: Path,
    previous: Snapshot | None,
) -> Quality:
    """Quality of the labels of all splits of a chunk; memory is bounded by a shard.

    Args:
      tasks: The labelled tasks.
      watermark: Newest event time that the teacher has trained on, in seconds since the epoch.
      files: By split, the label files, one for each shard of the feature table.
      features: Folder of the feature table.
      previous: Labels of the span before by another teacher. The examples of its eval split are
        labelled again as train examples of this chunk, and the two are compared.
    """
    kinds = {task.name: task.kind for task in tasks}
    meter = QualityMeter(kinds, watermark)
    names = {task: columns.teacher_label(task, kind) for task, kind in kinds.items()}
    before = None if previous is None else LabelJoiner(previous, "eval", _shared(previous, kinds))
    for split in columns.SPLITS:
        by_shard = {shard_of(file): file for file in files[split]}
        for shard in feature_table.shards(features, split):
            wanted = [columns.EXAMPLE_ID, columns.EVENT_TIME]
            wanted += [f(task) for task in kinds for f in (columns.label, columns.weight)]
            examples = feature_table.read(shard, wanted)
            if shard.stem not in by_shard:
                continue
            table = pq.read_table(source(by_shard[shard.stem]), columns=list(names.values()))
            labels = {task: table[column].to_numpy() for task, column in names.items()}
            hard = {
                task: (examples[columns.label(task)], examples[columns.weight(task)])
                for task in kinds
            }
            meter.add(examples[columns.EVENT_TIME], labels, hard)
            if before is not None and split == "train":
                found, there = before.join(shard.stem, examples[columns.EXAMPLE_ID])
                rows = np.flatnonzero(there)
                if len(rows):
                    meter.compare(
                        {task: values[rows] for task, values in found.items()},
                        {task: labels[task][rows] for task in found},
                    )
    return meter.report()


def _shared(snapshot: Snapshot, kinds: Mapping[str, str]) -> dict[str, str]:
    """The tasks that the labels of a snapshot also hold."""
    held = pq.read_schema(source(snapshot.files("eval")[0])).names
    return {task: kind for task, kind in kinds.items() if columns.teacher_label(task, kind) in held}
