"""Teachers along a stream, and the labels that each policy of refreshing them would give."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from benchmarks.online.learners import learner
from benchmarks.online.metrics import Metrics, evaluate
from benchmarks.online.plan import (
    AFTER,
    CROSS_FIT,
    EVERY,
    FOLDS,
    FROZEN,
    IN_SAMPLE,
    NEWEST,
    STATIC_EPOCHS,
    Teacher,
)
from benchmarks.online.stream import Chunk, Columns, Stream
from tfx_distill.labels.join import Coverage
from tfx_distill.schema import columns
from tfx_distill.schema.errors import LabelError
from tfx_distill.trainer import feature_table
from tfx_distill.trainer.folds import fold_of
from tfx_distill.trainer.heads import of_teacher
from tfx_distill.trainer.input import Fold
from tfx_distill.trainer.training import Training

if TYPE_CHECKING:
    from numpy.typing import NDArray


Labels = dict[str, "NDArray[np.float32]"]
"""By task, of shape [rows]: logits of binary tasks, values of the others."""


class KnownLabels:
    """Teacher labels of one chunk in memory, with the interface of the product's `LabelJoiner`."""

    def __init__(
        self, example_id: NDArray[np.int64], labels: Mapping[str, NDArray[np.float32]]
    ) -> None:
        order = np.argsort(example_id)
        self._ids = example_id[order]
        self._labels = {task: values[order] for task, values in labels.items()}
        self._examples = self._labelled = 0

    def join(
        self, shard: str, example_id: NDArray[np.int64], /
    ) -> tuple[dict[str, NDArray[np.float32]], NDArray[np.bool_]]:
        """See `LabelJoiner.join`; all shards are one here."""
        del shard
        places = np.minimum(np.searchsorted(self._ids, example_id), len(self._ids) - 1)
        found = self._ids[places] == example_id
        self._examples += len(found)
        self._labelled += int(found.sum())
        return {
            task: np.where(found, values[places], 0).astype(np.float32)
            for task, values in self._labels.items()
        }, found

    def coverage(self) -> Coverage:
        """See `LabelJoiner.coverage`."""
        return Coverage(self._examples, self._labelled, len(self._ids))

    def require_coverage(self, minimum: float, /) -> None:
        """See `LabelJoiner.require_coverage`."""
        share = self.coverage().share
        if share < minimum:
            raise LabelError(
                "labels in memory",
                got=f"{share:.2%} of the examples",
                expected=f"{minimum:.2%}",
                fix="Label the chunk that is trained on.",
            )


@dataclass
class Taught:
    """What a teacher left behind on a stream.

    Attributes:
      ids: By chunk, int64 ids of its train examples.
      labels: By policy, chunk and task, float32 in the order of `ids`.
      metrics: By chunk, of the teacher after it trained on the chunk, on the chunk's eval split.
      train_seconds: CPU time of its training after the first chunk, in which steps are traced.
      label_seconds: CPU time of labelling every chunk after the first once.
    """

    ids: list[NDArray[np.int64]] = field(default_factory=list)
    labels: dict[str, list[Labels]] = field(default_factory=dict)
    metrics: list[Metrics] = field(default_factory=list)
    train_seconds: float = 0.0
    label_seconds: float = 0.0

    def save(self, file: Path) -> None:
        """Writes everything into one file."""
        arrays = {f"ids/{chunk}": ids for chunk, ids in enumerate(self.ids)}
        for policy, chunks in self.labels.items():
            for chunk, labels in enumerate(chunks):
                arrays |= {f"{policy}/{chunk}/{task}": v for task, v in labels.items()}
        rest = {
            "metrics": self.metrics,
            "train_seconds": self.train_seconds,
            "label_seconds": self.label_seconds,
        }
        partial = file.with_suffix(".partial.npz")
        np.savez(partial, rest=np.array(json.dumps(rest)), **arrays)
        partial.replace(file)

    @classmethod
    def read(cls, file: Path) -> Taught:
        """What `save` wrote."""
        with np.load(file) as kept:
            out = cls(**json.loads(str(kept["rest"])))
            for name in kept.files:
                first, *more = name.split("/")
                if first == "ids":
                    out.ids.append(kept[name])
                elif more:
                    chunks = out.labels.setdefault(first, [])
                    chunks += [{} for _ in range(int(more[0]) + 1 - len(chunks))]
                    chunks[int(more[0])][more[1]] = kept[name]
        return out

    def of(
        self, chunk: int, policy: str, shift: Mapping[str, NDArray[np.float32]] | None = None
    ) -> KnownLabels:
        """The labels of a chunk, with something added to those of some tasks."""
        labels = dict(self.labels[policy][chunk])
        for task, added in (shift or {}).items():
            labels[task] = labels[task] + added
        return KnownLabels(self.ids[chunk], labels)


def _learner(stream: Stream, teacher: Teacher) -> Training:
    tasks = tuple(
        task for task in stream.config.tasks if teacher.tasks is None or task.name in teacher.tasks
    )
    rate = teacher.learning_rate or stream.setting.teacher_learning_rate
    return learner(stream, teacher.model, of_teacher(tasks), rate)


def teach(stream: Stream, teacher: Teacher) -> Taught:
    """Trains a teacher along the stream; labels every chunk by every policy."""
    model = _learner(stream, teacher)
    chunks = stream.chunks
    blank: list[Labels] = [{} for _ in chunks]
    out = Taught(labels={policy: list(blank) for policy in teacher.policies})
    for number, chunk in enumerate(chunks):
        rows = _train_rows(chunk)
        out.ids.append(rows[columns.EXAMPLE_ID])
        started = time.process_time()
        if number:
            out.labels[NEWEST][number] = model.logits(rows)
            out.label_seconds += time.process_time() - started
        started = time.process_time()
        epochs = 1 if number else stream.setting.bootstrap_epochs
        model.fit(chunk.table, span=chunk.span, epochs=epochs)
        if number:
            out.train_seconds += time.process_time() - started
        if number == 0:
            # The first chunk has no other teacher than the one trained on it.
            first = model.logits(rows)
            for policy in teacher.policies:
                out.labels[policy][0] = first
        elif AFTER in teacher.policies:
            out.labels[AFTER][number] = model.logits(rows)
        # Whoever is not refreshed for a while labels what comes in the meantime.
        lasting = {policy: every for policy, every in EVERY.items() if number % every == 0}
        if number == 0:
            lasting[FROZEN] = len(chunks)
        ahead = {policy: n for policy, n in lasting.items() if policy in teacher.policies}
        for later in range(
            number + 1, min(number + 1 + max(ahead.values(), default=0), len(chunks))
        ):
            labels = model.logits(_train_rows(chunks[later]))
            for policy, every in ahead.items():
                if later <= number + every:
                    out.labels[policy][later] = labels
        out.metrics.append(evaluate(stream, chunk, model.logits(chunk.scored)))
    return out


def teach_static(stream: Stream, teacher: Teacher) -> Taught:
    """Trains on the bootstrap for several epochs: once on all of it, and once without each fold."""
    chunk = stream.chunks[0]
    rows = _train_rows(chunk)
    model = _learner(stream, teacher)

    def trained(without: Fold | None) -> Labels:
        model.reset()
        model.fit(chunk.table, span=chunk.span, epochs=STATIC_EPOCHS, without=without)
        return model.logits(rows)

    in_sample = trained(None)
    metrics = [evaluate(stream, chunk, model.logits(chunk.scored))]
    folds = fold_of(rows[columns.QUERY_ID], FOLDS)
    crossed = {task: np.zeros_like(values) for task, values in in_sample.items()}
    for fold in range(FOLDS):
        for task, values in trained(Fold(fold, FOLDS)).items():
            crossed[task][folds == fold] = values[folds == fold]
    return Taught(
        ids=[rows[columns.EXAMPLE_ID]],
        labels={IN_SAMPLE: [in_sample], CROSS_FIT: [crossed]},
        metrics=metrics,
    )


def _train_rows(chunk: Chunk) -> Columns:
    parts = [feature_table.read(file) for file in feature_table.shards(chunk.table, "train")]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
