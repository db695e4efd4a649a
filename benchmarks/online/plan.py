"""What is to be compared: streams, teachers and students, in words. Imports nothing heavy."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from tfx_distill.schema.config import ModelConfig, RunConfig, TeacherModelConfig


@dataclass(frozen=True)
class Setting:
    """On what an experiment runs; results of different settings do not mix.

    Attributes:
      data: Simulated video, a stream per seed; or the one log of MovieLens-100K, which must lie
        where `configs/movielens.yaml` looks for it.
      spans: How many, the bootstrap's counted.
      bootstrap: How many of them are trained on together at first.
      examples: Per simulated span.
      bootstrap_epochs: Passes of every model over the bootstrap; over later spans it is one.
      batch_size: Of every model.
      learning_rate: Of students and twins.
      teacher_learning_rate: Of teachers, if they do not say otherwise. Both rates were chosen among
        0.002, 0.005, 0.008 and 0.012 by the hard losses of undistilled models on a stream of seed
        99, which no experiment uses.
    """

    data: Literal["video", "movielens"] = "video"
    spans: int = 24
    bootstrap: int = 4
    examples: int = 15_000
    bootstrap_epochs: int = 3
    batch_size: int = 1024
    learning_rate: float = 8e-3
    teacher_learning_rate: float = 2e-3

    def to_json(self) -> str:
        """This setting as JSON, one key a line."""
        return json.dumps(asdict(self), indent=1)


MOVIELENS = Setting(data="movielens", spans=8, bootstrap=2, examples=0, batch_size=512)
"""Eight months, of which the first two are the bootstrap; the number of examples is the log's."""


NEWEST = "newest"
"""Score, then train: the teacher has not trained on what it labels (but in the bootstrap)."""
AFTER = "after"
"""Train, then score."""
FROZEN = "frozen"
"""The teacher stays as it is after the bootstrap."""
EVERY = {"every 4": 4, "every 8": 8}
"""The labelling teacher is replaced by the newest one every so many spans."""
POLICIES = (NEWEST, AFTER, FROZEN, *EVERY)
IN_SAMPLE = "in sample"
CROSS_FIT = "cross-fit"
"""The bootstrap as a static data set: labels of the teacher that saw them all, or of K teachers,
each of which labels the queries that it has not seen."""
SLICE = ("device", "desktop")
"""The slice that is looked at besides all examples."""
STATIC_POLICIES = (IN_SAMPLE, CROSS_FIT)
FOLDS = 5
STATIC_EPOCHS = 4


@dataclass(frozen=True)
class Teacher:
    """Which teacher.

    Attributes:
      model: Its architecture.
      tasks: What it learns; all tasks if not given.
      policies: By which it labels.
      learning_rate: If not the setting's.
    """

    model: ModelConfig = field(default_factory=TeacherModelConfig)
    tasks: tuple[str, ...] | None = None
    policies: tuple[str, ...] = POLICIES
    learning_rate: float | None = None

    def key(self) -> dict[str, Any]:
        """What the teacher is, ready for JSON."""
        key: dict[str, Any] = {"model": self.model.model_dump(), "tasks": self.tasks}
        if self.policies != POLICIES:
            key["policies"] = self.policies
        if self.learning_rate is not None:
            key["learning_rate"] = self.learning_rate
        return key


@dataclass(frozen=True)
class Bias:
    """Something added to the teacher's logits of one task, for one value of a feature or for all.

    `slice` is a categorical feature and its value.
    """

    task: str
    added: float
    slice: tuple[str, str] | None = None


@dataclass(frozen=True)
class Arm:
    """A student of an experiment.

    Attributes:
      modes: Distillation mode by task; tasks that are left out are not distilled. Empty for an
        undistilled twin.
      tasks: What it serves; all tasks if not given.
      teacher: Whose labels.
      policy: When the teacher was trained on what, see `teaching`.
      bias: Of the labels.
      static: Learn from the bootstrap alone, and be evaluated on the `STATIC_SPANS` spans that end
        with and follow it.
    """

    modes: tuple[tuple[str, str], ...] = ()
    tasks: tuple[str, ...] | None = None
    teacher: Teacher = field(default_factory=Teacher)
    policy: str = NEWEST
    bias: Bias | None = None
    static: bool = False

    def key(self) -> dict[str, Any]:
        """All that the result depends on besides the stream, ready for JSON."""
        content = asdict(self) | {"teacher": self.teacher.key()}
        if not self.modes:
            for unused in ("teacher", "policy", "bias"):
                content.pop(unused)
        return content


STATIC_SPANS = 4


def all_tasks(config: RunConfig, mode: str) -> tuple[tuple[str, str], ...]:
    """One mode for every task."""
    return tuple((task.name, mode) for task in config.tasks)
