"""One student along a stream: what it learns from, and how good it is span by span."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from benchmarks.online.learners import learner
from benchmarks.online.metrics import Metrics, evaluate
from benchmarks.online.plan import STATIC_SPANS, Arm, Bias
from benchmarks.online.teaching import Taught
from tfx_distill.schema.config import StudentConfig
from tfx_distill.trainer import feature_table
from tfx_distill.trainer.features import CATEGORICAL
from tfx_distill.trainer.heads import of_student

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from benchmarks.online.stream import Chunk, Stream


@dataclass(frozen=True)
class Followed:
    """How an arm did: metrics by chunk, and the CPU seconds of all chunks but the first."""

    metrics: list[Metrics]
    train_seconds: float


def follow(stream: Stream, arm: Arm, taught: Taught | None) -> Followed:
    """Trains a student chunk by chunk; after each it is evaluated on the chunk's eval split.

    Args:
      stream: Its chunks.
      arm: The student.
      taught: What `arm.teacher` left; None for a twin.
    """
    given = stream.config
    names = tuple(task.name for task in given.tasks)
    modes = dict(arm.modes)
    served = arm.tasks or names
    rules = {task: modes.get(task, "none") for task in served} | modes
    student = StudentConfig.model_validate(
        {"name": "arm", "tasks": arm.tasks, "distill": rules, "model": given.students[0].model}
    )
    heads = of_student(student, given.tasks, twin=False)
    model = learner(stream, student.model, heads, stream.setting.learning_rate)
    metrics: list[Metrics] = []
    seconds = 0.0
    chunks = stream.chunks[:STATIC_SPANS] if arm.static else stream.chunks
    for number, chunk in enumerate(chunks):
        if not (number and arm.static):
            labels = None
            if taught is not None:
                labels = taught.of(number, arm.policy, shift(stream, chunk, arm.bias))
            epochs = 1 if number else stream.setting.bootstrap_epochs
            started = time.process_time()
            model.fit(chunk.table, labels, span=chunk.span, epochs=epochs)
            if number:
                seconds += time.process_time() - started
        metrics.append(evaluate(stream, chunk, model.logits(chunk.scored)))
    return Followed(metrics, seconds)


def shift(stream: Stream, chunk: Chunk, bias: Bias | None) -> dict[str, NDArray[np.float32]] | None:
    """What a bias adds to the labels of a chunk's train examples, by task, of shape [rows]."""
    if bias is None:
        return None
    files = feature_table.shards(chunk.table, "train")
    ids = np.concatenate([feature_table.read(f, [CATEGORICAL])[CATEGORICAL] for f in files])
    where = np.ones(len(ids), bool)
    if bias.slice is not None:
        feature, value = bias.slice
        place = [f.name for f in stream.config.features.categorical].index(feature)
        where = ids[:, place] == stream.category(feature, value)
    return {bias.task: np.where(where, np.float32(bias.added), np.float32(0))}
