"""The sections of the run config, each with its own checks; `config.py` puts them together."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    field_validator,
    model_validator,
)

Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$", max_length=48)]
Positive = Annotated[int, Field(gt=0)]
PositiveFloat = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NonNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Finite = Annotated[float, Field(allow_inf_nan=False)]


def on_a_file_system(value: str) -> str:
    """Refuses URLs."""
    if re.match(r"[A-Za-z][A-Za-z0-9+.-]*://", value):
        raise ValueError(
            "must be a path in a local or mounted file system, not a URL: mount the store and name "
            "the folder where it is mounted"
        )
    return value


LocalPath = Annotated[str, AfterValidator(on_a_file_system)]


class Section(BaseModel):
    """A part of the config: immutable, and unknown keys are an error."""

    model_config = ConfigDict(extra="forbid", frozen=True)


OnBreach = Literal["warn", "fail"]
Engine = Literal["beam", "spark"]
"""What carries the work that touches every example."""


class ValidationConfig(Section):
    """When a span counts as unlike its schema, or unlike the span before it.

    `drift` is the largest change of a category's share (L-infinity norm), `numeric_drift` the
    largest Jensen-Shannon divergence of a numeric feature; None looks for none. `on_breach` says
    whether an anomaly only warns, or stops the span before anything is trained on it.
    """

    drift: PositiveFloat | None = 0.3
    numeric_drift: PositiveFloat | None = 0.3
    on_breach: OnBreach = "warn"


class DataConfig(Section):
    """Where the logged examples are and which columns identify them.

    `spans` is a path pattern that contains `{SPAN}` (a number) and `{split}` (`train` or `eval`).
    """

    spans: LocalPath
    format: Literal["parquet", "csv", "tfrecord"] = "parquet"
    example_id: str
    query_id: str
    event_time: str
    schema_file: str | None = None
    shard_rows: Positive = 65_536
    engine: Engine = "beam"
    validation: ValidationConfig = ValidationConfig()

    @field_validator("spans")
    @classmethod
    def _has_placeholders(cls, value: str) -> str:
        for placeholder in ("{SPAN}", "{split}"):
            if placeholder not in value:
                raise ValueError(f"must contain {placeholder}")
        return value


class NumericFeature(Section):
    """A number, standardised to mean 0 and variance 1 over the analysed spans.

    `serving_value` replaces the logged value at evaluation and in the pushed model, for features
    that are known only after the list was shown (the position of the item, for example).
    """

    name: str
    transform: Literal["none", "log1p"] = "none"
    serving_value: Finite | None = None


class CategoricalFeature(Section):
    """One id per example, by a learned vocabulary (`vocab`) or by hashing (`buckets`).

    On a stream, `refresh` learns the vocabulary again every so many spans, from those spans; ids
    that stay keep what was learned about them.
    """

    name: str
    vocab: Positive | None = None
    buckets: Positive | None = None
    oov_buckets: Positive = 1
    refresh: Positive | None = None
    serving_value: str | int | None = None

    @model_validator(mode="after")
    def _one_encoding(self) -> CategoricalFeature:
        if (self.vocab is None) == (self.buckets is None):
            raise ValueError("give exactly one of 'vocab' and 'buckets'")
        if self.refresh is not None and self.vocab is None:
            raise ValueError("'refresh' is for features with a 'vocab': buckets never age")
        return self

    @property
    def cardinality(self) -> int:
        """Rows of the embedding table; row 0 stands for a missing value."""
        size = self.buckets if self.vocab is None else self.vocab + self.oov_buckets
        return 1 + (size or 0)


class MultivalentFeature(CategoricalFeature):
    """A list of ids per example; what lies beyond `max_length` is cut."""

    max_length: Positive = 8


class FeaturesConfig(Section):
    """Which columns the models see, and how they are encoded."""

    numeric: tuple[NumericFeature, ...] = ()
    categorical: tuple[CategoricalFeature, ...] = ()
    multivalent: tuple[MultivalentFeature, ...] = ()

    @field_validator("numeric", mode="before")
    @classmethod
    def _bare_names(cls, value: Any) -> Any:
        if isinstance(value, (list, tuple)):
            return [{"name": item} if isinstance(item, str) else item for item in value]
        return value

    @property
    def names(self) -> tuple[str, ...]:
        """Raw column names, in the order of the config."""
        return (
            *(feature.name for feature in self.numeric),
            *(feature.name for feature in self.categorical),
            *(feature.name for feature in self.multivalent),
        )

    @model_validator(mode="after")
    def _distinct(self) -> FeaturesConfig:
        if not self.names:
            raise ValueError("name at least one feature")
        refuse_repeats(self.names, "feature")
        return self


Kind = Literal["binary", "regression"]


class TaskConfig(Section):
    """Something predicted for each example.

    The label of a binary task is 0 or 1. A regression task is trained on `transform(label)`; its
    labels, teacher labels and errors are all on that scale. `applies_when` names a 0/1 column: the
    task is trained and evaluated only where it is 1 (a watch time exists only after a click).
    """

    name: Name
    kind: Kind
    label: str
    transform: Literal["none", "log1p"] = "none"
    applies_when: str | None = None
    weight: PositiveFloat = 1.0

    @model_validator(mode="after")
    def _scale_fits_kind(self) -> TaskConfig:
        if self.kind == "binary" and self.transform != "none":
            raise ValueError("'transform' is for regression tasks")
        return self


class ModelConfig(Section):
    """The architecture of a ranker. `width` multiplies every layer and embedding dimension."""

    architecture: Literal["shared_bottom", "mmoe", "dcn_v2"] = "shared_bottom"
    width: PositiveFloat = 1.0
    depth: Positive = 2
    hidden: Positive = 32
    tower: Positive = 16
    embedding: Positive = 8
    experts: Positive = 4
    cross_layers: Positive = 2
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0

    def scaled(self, size: int) -> int:
        """`size` times `width`, at least 1."""
        return max(1, round(size * self.width))


class TeacherModelConfig(ModelConfig):
    """The architecture of the teacher: by default a mixture of experts, four times as wide."""

    architecture: Literal["shared_bottom", "mmoe", "dcn_v2"] = "mmoe"
    width: PositiveFloat = 4.0


class TrainingConfig(Section):
    """How a model is trained. The eval split decides when to stop.

    Embedding tables of `lazy_rows` rows or more learn only in the rows that a batch has; None has
    Adam move all rows of every table.
    """

    epochs: Positive = 4
    batch_size: Positive = 4096
    learning_rate: PositiveFloat = 3e-3
    warmup_steps: Annotated[int, Field(ge=0)] = 0
    clip_norm: PositiveFloat | None = 10.0
    lazy_rows: Positive | None = 100_000
    early_stopping_patience: Positive | None = 1


DistillMode = Literal["none", "direct", "auxiliary", "non_serving"]
DistillLoss = Literal[
    "cross_entropy", "squared", "huber", "listnet", "rank_distil", "calibrated_listwise"
]


PROBABILITY_LOSSES: tuple[DistillLoss, ...] = ("cross_entropy", "calibrated_listwise")
"""Losses that take teacher labels as the logits of probabilities: for binary tasks only."""
LOSS_OPTIONS: dict[str, tuple[DistillLoss, ...]] = {
    "temperature": ("cross_entropy", "listnet", "rank_distil"),
    "huber_delta": ("huber",),
    "top_k": ("rank_distil",),
}
"""By option, the losses that heed it."""


class DistillConfig(Section):
    """How one task of a student learns from the teacher's label of that task.

    `loss` defaults to cross-entropy for binary and squared error for regression tasks. An option
    that the loss does not heed (see `LOSS_OPTIONS`) must keep its default.
    """

    mode: DistillMode = "auxiliary"
    weight: NonNegative = 1.0
    loss: DistillLoss | None = None
    temperature: PositiveFloat = 1.0
    huber_delta: PositiveFloat = 1.0
    top_k: Positive = 10

    def loss_for(self, kind: Kind) -> DistillLoss:
        """The loss of a task of this kind."""
        return self.loss or ("cross_entropy" if kind == "binary" else "squared")


class TeacherConfig(Section):
    """The large model whose labels the students learn from.

    `gate.teacher` bounds its metrics: a teacher outside them does not label.
    """

    model: TeacherModelConfig = TeacherModelConfig()
    training: TrainingConfig = TrainingConfig()


class StudentConfig(Section):
    """A small model to be served, and how it is distilled, task by task.

    A task left out of `distill` is distilled with the defaults of `DistillConfig`; `tasks` limits
    the tasks that are served. Next to each student that distils, an undistilled twin is trained
    the same way, on the same data.
    """

    name: Name
    model: ModelConfig = ModelConfig()
    training: TrainingConfig = TrainingConfig()
    tasks: tuple[str, ...] | None = None
    distill: dict[str, DistillConfig] = {}

    @field_validator("distill", mode="before")
    @classmethod
    def _bare_modes(cls, value: Any) -> Any:
        if isinstance(value, dict):
            return {k: {"mode": v} if isinstance(v, str) else v for k, v in value.items()}
        return value


class PushConfig(Section):
    """Where blessed students go: `<directory>/<student>/<version>`."""

    directory: LocalPath


class BeamConfig(Section):
    """Runner and options of every Beam step, as Beam spells them."""

    runner: str = "FnApiRunner"
    options: tuple[str, ...] = ()


class SparkConfig(Section):
    """Where Spark is, and its settings, as Spark names and spells them."""

    master: str = "local[*]"
    options: dict[str, str] = {}

    @field_validator("options")
    @classmethod
    def _settings_of_spark(cls, value: dict[str, str]) -> dict[str, str]:
        for name in value:
            if not name.startswith("spark."):
                raise ValueError(f"names of settings start with 'spark.', not so {name!r}")
            if name == "spark.master":
                raise ValueError("'spark.master' is the key 'master' beside these options")
        return value


Device = Literal["auto", "cpu", "gpu"]


class TrainerConfig(Section):
    """Where models are trained: on which device, by how many workers, how many at a time.

    `auto` takes a GPU if TensorFlow sees one. More than one worker are processes that train one
    model together: on the machine of the Trainer, or launched by Spark, see `SparkConfig`.
    `parallel` is how many processes train the students and twins of a batch at the same time, and
    evaluate and judge several students; None takes as many as there are cores.
    """

    device: Device = "auto"
    workers: Positive = 1
    launch: Literal["local", "spark"] = "local"
    parallel: Positive | None = None


class Misfit(ValueError):
    """Parts of a config that are right by themselves and do not go together."""

    def __init__(self, key: str, *, got: str, expected: str) -> None:
        self.key, self.got, self.expected = key, got, expected
        super().__init__(f"{key}: got {got}; expected {expected}")


def refuse_repeats(names: Iterable[str], what: str) -> None:
    """Raises Misfit where a name stands twice in a list of `what`."""
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise Misfit(f"{what}s", got=f"{what} {name!r} twice", expected=f"each {what} once")
        seen.add(name)
