"""The run config: everything an engineer tunes about one run, typed, frozen and checked.

Unknown keys are refused. Every component of the pipeline receives only the part of the config
that it depends on, so that a change of, say, a gate threshold does not retrain a model.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)

from tfx_distill.schema import columns
from tfx_distill.schema.errors import ConfigError

Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$", max_length=48)]
Positive = Annotated[int, Field(gt=0)]
PositiveFloat = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NonNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Finite = Annotated[float, Field(allow_inf_nan=False)]


def _on_a_file_system(value: str) -> str:
    if re.match(r"[A-Za-z][A-Za-z0-9+.-]*://", value):
        raise ValueError(
            "must be a path in a local or mounted file system, not a URL: mount the store and name "
            "the folder where it is mounted"
        )
    return value


LocalPath = Annotated[str, AfterValidator(_on_a_file_system)]


class Section(BaseModel):
    """A part of the config: immutable, and unknown keys are an error."""

    model_config = ConfigDict(extra="forbid", frozen=True)


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
    """One id per example, by a learned vocabulary (`vocab`) or by hashing (`buckets`)."""

    name: str
    vocab: Positive | None = None
    buckets: Positive | None = None
    oov_buckets: Positive = 1
    serving_value: str | int | None = None

    @model_validator(mode="after")
    def _one_encoding(self) -> CategoricalFeature:
        if (self.vocab is None) == (self.buckets is None):
            raise ValueError("give exactly one of 'vocab' and 'buckets'")
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
        _refuse_repeats(self.names, "feature")
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
    """How a model is trained. The eval split decides when to stop."""

    epochs: Positive = 4
    batch_size: Positive = 4096
    learning_rate: PositiveFloat = 3e-3
    warmup_steps: Annotated[int, Field(ge=0)] = 0
    clip_norm: PositiveFloat | None = 10.0
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


Metric = Literal["auc", "log_loss", "calibration", "mse", "mae", "ndcg", "gauc"]
BINARY_METRICS: tuple[Metric, ...] = ("auc", "log_loss", "calibration", "ndcg", "gauc")
REGRESSION_METRICS: tuple[Metric, ...] = ("mse", "mae", "calibration", "ndcg")
HIGHER_IS_BETTER: dict[str, bool] = {
    "auc": True,
    "gauc": True,
    "ndcg": True,
    "log_loss": False,
    "mse": False,
    "mae": False,
}


class Threshold(Section):
    """A condition for a blessing: bounds on a metric, and how much worse than the baseline."""

    task: str
    metric: Metric
    min: Finite | None = None
    max: Finite | None = None
    max_regression: NonNegative | None = None

    @model_validator(mode="after")
    def _says_something(self) -> Threshold:
        if self.min is None and self.max is None and self.max_regression is None:
            raise ValueError("give at least one of 'min', 'max' and 'max_regression'")
        if self.max_regression is not None and self.metric == "calibration":
            raise ValueError("calibration is best at 1, not high or low: give 'min' and 'max'")
        return self


class GateConfig(Section):
    """What a model must reach to be blessed.

    `students` must hold a threshold for every served task. `teacher` thresholds are absolute.
    `slices` are columns of the data by which all metrics are split.
    """

    students: tuple[Threshold, ...]
    teacher: tuple[Threshold, ...]
    slices: tuple[str, ...] = ()
    ndcg_at: Positive = 10


class LabelsConfig(Section):
    """The shared label table. `table` defaults to `<run folder>/labels`."""

    table: LocalPath | None = None
    min_coverage: Annotated[float, Field(ge=0, le=1)] = 0.99


class PushConfig(Section):
    """Where blessed students go: `<directory>/<student>/<version>`."""

    directory: LocalPath


class BeamConfig(Section):
    """Runner and options of every Beam step, as Beam spells them."""

    runner: str = "FnApiRunner"
    options: tuple[str, ...] = ()


class RunConfig(Section):
    """One run of the pipeline; see `configs/` for examples."""

    name: Name
    seed: int = 0
    root: LocalPath = "runs"
    data: DataConfig
    features: FeaturesConfig
    tasks: tuple[TaskConfig, ...] = Field(min_length=1)
    teacher: TeacherConfig = TeacherConfig()
    students: tuple[StudentConfig, ...] = Field(min_length=1)
    labels: LabelsConfig = LabelsConfig()
    gate: GateConfig
    push: PushConfig
    beam: BeamConfig = BeamConfig()

    @model_validator(mode="after")
    def _parts_fit_together(self) -> RunConfig:
        _refuse_repeats([t.name for t in self.tasks], "task")
        _refuse_repeats([s.name for s in self.students], "student")
        self._refuse_clashing_columns()
        for student in self.students:
            self._refuse_unfit_student(student)
        self._refuse_unfit_thresholds("teacher", self.gate.teacher)
        self._refuse_unfit_thresholds("students", self.gate.students)
        return self

    def _refuse_clashing_columns(self) -> None:
        labels = {task.label for task in self.tasks}
        flags = {task.applies_when for task in self.tasks if task.applies_when}
        for where, names in (
            ("features", self.features.names),
            ("tasks", sorted(labels | flags)),
            ("gate.slices", self.gate.slices),
        ):
            for name in sorted(columns.RESERVED.intersection(names)):
                raise _Misfit(
                    where,
                    got=f"the column {name!r}",
                    expected=f"other names than {sorted(columns.RESERVED)}, which the pipeline "
                    "gives to columns of its own",
                )
        for name in sorted((labels | flags).intersection(self.features.names)):
            role = "label" if name in labels else "`applies_when`"
            raise _Misfit(
                "features",
                got=f"{name!r}, the {role} of a task",
                expected="features that are known before the label is",
            )

    def _refuse_unfit_student(self, student: StudentConfig) -> None:
        where = f"students.{student.name}"
        tasks = {task.name: task for task in self.tasks}
        for key, names in (("tasks", student.tasks or ()), ("distill", tuple(student.distill))):
            for name in names:
                if name not in tasks:
                    raise _Misfit(
                        f"{where}.{key}",
                        got=f"the unknown task {name!r}",
                        expected=f"tasks of {list(tasks)}",
                    )
        if student.tasks == ():
            raise _Misfit(
                f"{where}.tasks", got="no task", expected="at least one, or leave the key out"
            )
        for name, rule in student.distill.items():
            served = student.tasks is None or name in student.tasks
            if served == (rule.mode == "non_serving"):
                raise _Misfit(
                    f"{where}.distill.{name}",
                    got=f"mode {rule.mode!r} for a task that the student "
                    + ("serves" if served else "does not serve"),
                    expected="'none', 'direct' or 'auxiliary'" if served else "'non_serving'",
                )
            _refuse_unfit_loss(f"{where}.distill.{name}", rule, tasks[name].kind)

    def _refuse_unfit_thresholds(self, side: str, thresholds: tuple[Threshold, ...]) -> None:
        where = f"gate.{side}"
        tasks = {task.name: task for task in self.tasks}
        for threshold in thresholds:
            if threshold.task not in tasks:
                raise _Misfit(
                    where,
                    got=f"a threshold for the unknown task {threshold.task!r}",
                    expected=f"tasks of {list(tasks)}",
                )
            kind = tasks[threshold.task].kind
            known = BINARY_METRICS if kind == "binary" else REGRESSION_METRICS
            if threshold.metric not in known:
                raise _Misfit(
                    where,
                    got=f"the metric {threshold.metric!r} for the {kind} task {threshold.task!r}",
                    expected=f"one of {list(known)}",
                )
            if side == "teacher" and threshold.max_regression is not None:
                raise _Misfit(
                    where,
                    got=f"'max_regression' for {threshold.task!r}",
                    expected="'min' or 'max': a teacher has no baseline",
                )
        missing = sorted(set(tasks) - {threshold.task for threshold in thresholds})
        if missing:
            raise _Misfit(
                where,
                got=f"no threshold for {', '.join(map(repr, missing))}",
                expected="at least one for every task",
            )

    @property
    def run_folder(self) -> Path:
        """Folder of everything this run writes but the pushed models."""
        return Path(self.root) / self.name

    @property
    def label_table(self) -> Path:
        """Folder of the shared label table."""
        return Path(self.labels.table) if self.labels.table else self.run_folder / "labels"

    @property
    def raw_columns(self) -> tuple[str, ...]:
        """Every column of the logs that this run reads, without repeats."""
        wanted = [
            self.data.example_id,
            self.data.query_id,
            self.data.event_time,
            *self.features.names,
            *(task.label for task in self.tasks),
            *(task.applies_when for task in self.tasks if task.applies_when),
            *self.gate.slices,
        ]
        return tuple(dict.fromkeys(wanted))

    def to_yaml(self) -> str:
        """The resolved config: every default filled in."""
        return yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False)


def load(path: str | Path, overrides: dict[str, Any] | None = None) -> RunConfig:
    """Reads and checks a run config.

    Args:
      path: A YAML file.
      overrides: Top-level keys that replace those of the file.

    Raises:
      ConfigError: The file is missing, is not YAML, or does not describe a valid run; the message
        names the key.
    """
    path = Path(path)
    try:
        content = yaml.safe_load(path.read_text())
    except FileNotFoundError:
        raise ConfigError(
            str(path), got="no such file", expected="a run config", fix="Check the path."
        ) from None
    except OSError as error:
        raise ConfigError(
            str(path),
            got=error.strerror or str(error),
            expected="a file that can be read",
            fix="Check the path and its permissions.",
        ) from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(
            str(path),
            got=" ".join(str(error).split()),
            expected="YAML",
            fix="Correct the file at that line.",
        ) from None
    if not isinstance(content, dict):
        raise ConfigError(
            str(path),
            got=type(content).__name__,
            expected="a mapping of config keys",
            fix="See configs/ for examples.",
        )
    try:
        return RunConfig.model_validate(content | (overrides or {}))
    except ValidationError as error:
        raise _explained(path, error) from None


def _explained(path: Path, error: ValidationError) -> ConfigError:
    """Our error for the first of pydantic's findings, with the count of the others."""
    first = error.errors()[0]
    key = ".".join(str(part) for part in first["loc"]) or "(whole file)"
    others = error.error_count() - 1
    more = f" ({others} more after this one.)" if others else ""
    message = re.sub(r"^Value error, ", "", first["msg"])
    if first["type"] == "extra_forbidden":
        return ConfigError(
            f"{path}: {key}",
            got="an unknown key",
            expected=f"one of {_known_keys(first['loc'])}",
            fix=f"Correct or remove the key.{more}",
        )
    misfit = first.get("ctx", {}).get("error")
    if isinstance(misfit, _Misfit):
        return ConfigError(
            f"{path}: {misfit.key}",
            got=misfit.got,
            expected=misfit.expected,
            fix=f"Correct the key.{more}",
        )
    value = first["input"]
    shown = "nothing" if first["type"] == "missing" else repr(value)
    return ConfigError(
        f"{path}: {key}",
        got=shown if len(shown) < 120 else f"a {type(value).__name__}",
        expected=message[0].lower() + message[1:],
        fix=f"Correct the key.{more}",
    )


def _known_keys(location: tuple[int | str, ...]) -> list[str]:
    """Names of the keys that are known where the unknown one stood."""
    node: Any = RunConfig.model_json_schema()
    defs = node["$defs"]
    for part in location[:-1]:
        node = _deref(node, defs)
        if isinstance(part, int):
            node = node.get("items", {})
        else:
            node = node.get("properties", {}).get(part) or node.get("additionalProperties") or {}
    return sorted(_deref(node, defs).get("properties", {}))


def _deref(node: Any, defs: dict[str, Any]) -> Any:
    if "$ref" in node:
        return defs[node["$ref"].rsplit("/", 1)[1]]
    return node


def _refuse_unfit_loss(where: str, rule: DistillConfig, kind: Kind) -> None:
    loss = rule.loss_for(kind)
    if kind != "binary" and loss in PROBABILITY_LOSSES:
        others = [name for name in get_args(DistillLoss) if name not in PROBABILITY_LOSSES]
        raise _Misfit(
            where,
            got=f"loss {loss!r}, which compares probabilities, for a {kind} task",
            expected=f"one of {others}",
        )
    for option, losses in LOSS_OPTIONS.items():
        value = getattr(rule, option)
        if loss not in losses and value != DistillConfig.model_fields[option].default:
            raise _Misfit(
                where,
                got=f"{option} {value} with loss {loss!r}, which does not heed it",
                expected=f"one of the losses {list(losses)}, or no {option!r}",
            )


class _Misfit(ValueError):
    """Parts of a config that are right by themselves and do not go together."""

    def __init__(self, key: str, *, got: str, expected: str) -> None:
        self.key, self.got, self.expected = key, got, expected
        super().__init__(f"{key}: got {got}; expected {expected}")


def _refuse_repeats(names: Iterable[str], what: str) -> None:
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise _Misfit(f"{what}s", got=f"{what} {name!r} twice", expected=f"each {what} once")
        seen.add(name)
