"""Teachers along a stream, and the labels that each policy of refreshing them would give."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.online.learners import learner
from benchmarks.online.metrics import Metrics, evaluate
from benchmarks.online.stream import Chunk, Stream, without_queries
from tfx_distill.labels.join import Coverage
from tfx_distill.schema import columns
from tfx_distill.schema.config import ModelConfig, TeacherModelConfig
from tfx_distill.schema.errors import LabelError
from tfx_distill.trainer import feature_table
from tfx_distill.trainer.heads import of_teacher
from tfx_distill.trainer.training import Training

if TYPE_CHECKING:
    from numpy.typing import NDArray

NEWEST = "newest"
"""Score, then train: the teacher has not trained on what it labels (but in the bootstrap)."""
AFTER = "after"
"""Train, then score."""
FROZEN = "frozen"
"""The teacher stays as it is after the bootstrap."""
EVERY = {"every 4": 4, "every 8": 8}
"""The labelling teacher is replaced by the newest one every so many spans."""
IN_SAMPLE = "in sample"
CROSS_FIT = "cross-fit"
"""The bootstrap as a static data set: labels of the teacher that saw them all, or of K teachers,
each of which labels the queries that it has not seen."""
STATIC_POLICIES = (IN_SAMPLE, CROSS_FIT)
FOLDS = 5
STATIC_EPOCHS = 4


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
        self, shard: str, example_id: NDArray[np.int64]
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

    def require_coverage(self, minimum: float) -> None:
        """See `LabelJoiner.require_coverage`."""
        share = self.coverage().share
        if share < minimum:
            raise LabelError(
                "labels in memory",
                got=f"{share:.2%} of the examples",
                expected=f"{minimum:.2%}",
                fix="Label the chunk that is trained on.",
            )


@dataclass(frozen=True)
class Teacher:
    """Which teacher: its architecture, and its tasks if not all."""

    model: ModelConfig = field(default_factory=TeacherModelConfig)
    tasks: tuple[str, ...] | None = None

    def key(self) -> dict[str, Any]:
        """What the teacher is, ready for JSON."""
        return {"model": self.model.model_dump(), "tasks": self.tasks}


@dataclass
class Taught:
    """What a teacher left behind on a stream.

    Attributes:
      ids: By chunk, int64 ids of its train examples.
      labels: By policy, chunk and task, float32 in the order of `ids`.
      metrics: By chunk, of the teacher after it trained on the chunk, on the chunk's eval split.
      train_seconds: CPU time of its training.
      label_seconds: CPU time of labelling every chunk once.
    """

    ids: list[NDArray[np.int64]] = field(default_factory=list)
    labels: dict[str, list[dict[str, NDArray[np.float32]]]] = field(default_factory=dict)
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
    return learner(stream, teacher.model, of_teacher(tasks), teaches=True)


def teach(stream: Stream, teacher: Teacher) -> Taught:
    """Trains a teacher along the stream; labels every chunk by every policy."""
    model = _learner(stream, teacher)
    out = Taught(labels={policy: [] for policy in (NEWEST, AFTER, FROZEN, *EVERY)})
    states = {}
    for number, chunk in enumerate(stream.chunks):
        rows = _train_rows(chunk)
        out.ids.append(rows[columns.EXAMPLE_ID])
        started = time.process_time()
        if number:
            out.labels[NEWEST].append(model.logits(rows))
            out.label_seconds += time.process_time() - started
            now = model.state()
            for policy, every in EVERY.items():
                if (number - 1) % every == 0:
                    states[policy] = now
            for policy, state in states.items():
                model.load(state)
                out.labels[policy].append(model.logits(rows))
            model.load(now)
        started = time.process_time()
        epochs = 1 if number else stream.setting.bootstrap_epochs
        model.fit(chunk.table, span=chunk.span, epochs=epochs)
        out.train_seconds += time.process_time() - started
        started = time.process_time()
        after = model.logits(rows)
        out.labels[AFTER].append(after)
        if not number:
            # The first chunk has no other teacher than the one trained on it.
            out.label_seconds += time.process_time() - started
            states[FROZEN] = model.state()
            for policy in (NEWEST, FROZEN, *EVERY):
                out.labels[policy].append(after)
        out.metrics.append(evaluate(stream, chunk, model.logits(chunk.scored)))
    return out


def teach_static(stream: Stream, teacher: Teacher) -> Taught:
    """Trains on the bootstrap for several epochs: once on all of it, and once without each fold."""
    chunk = stream.chunks[0]
    rows = _train_rows(chunk)
    model = _learner(stream, teacher)
    out = Taught(ids=[rows[columns.EXAMPLE_ID]])

    def trained(on: Path) -> dict[str, NDArray[np.float32]]:
        model.reset()
        model.fit(on, span=chunk.span, epochs=STATIC_EPOCHS)
        return model.logits(rows)

    out.labels[IN_SAMPLE] = [trained(chunk.table)]
    out.metrics.append(evaluate(stream, chunk, model.logits(chunk.scored)))
    folds = fold_of(rows[columns.QUERY_ID])
    crossed = {task: np.zeros_like(values) for task, values in out.labels[IN_SAMPLE][0].items()}
    for fold in range(FOLDS):
        folder = stream.folder / "folds" / str(fold)
        if not (folder / "Split-eval").exists():
            without_queries(chunk.table, folder, lambda ids, k=fold: fold_of(ids) == k)
        labels = trained(folder)
        for task, values in labels.items():
            crossed[task][folds == fold] = values[folds == fold]
    out.labels[CROSS_FIT] = [crossed]
    return out


def fold_of(query_id: NDArray[np.int64]) -> NDArray[np.int64]:
    """The fold of each query, 0 to `FOLDS` - 1, by a hash of its id."""
    mixed = query_id.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    mixed ^= mixed >> np.uint64(32)
    return (mixed % np.uint64(FOLDS)).astype(np.int64)


def _train_rows(chunk: Chunk) -> dict[str, NDArray[np.int64]]:
    parts = [feature_table.read(file) for file in feature_table.shards(chunk.table, "train")]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
