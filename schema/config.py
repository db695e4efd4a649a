"""The run config: everything an engineer tunes about one run, typed, frozen and checked.

Unknown keys are refused. Every component of the pipeline receives only the part of the config
that it depends on, so that a change of, say, a gate threshold does not retrain a model.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, get_args

import yaml
from pydantic import Field, ValidationError, model_validator

from tfx_distill.schema import columns
from tfx_distill.schema.errors import ConfigError
from tfx_distill.schema.gate_sections import (
    BINARY_METRICS,
    HIGHER_IS_BETTER,
    REGRESSION_METRICS,
    GateConfig,
    Metric,
    ServingLimits,
    Threshold,
)
from tfx_distill.schema.kubeflow_sections import KubeflowConfig
from tfx_distill.schema.sections import (
    LOSS_OPTIONS,
    PROBABILITY_LOSSES,
    BeamConfig,
    CategoricalFeature,
    DataConfig,
    Device,
    DistillConfig,
    DistillLoss,
    DistillMode,
    Engine,
    FeaturesConfig,
    Finite,
    Kind,
    LocalPath,
    Misfit,
    ModelConfig,
    MultivalentFeature,
    Name,
    NonNegative,
    NumericFeature,
    OnBreach,
    Positive,
    PositiveFloat,
    PushConfig,
    Section,
    SparkConfig,
    StudentConfig,
    TaskConfig,
    TeacherConfig,
    TeacherModelConfig,
    TrainerConfig,
    TrainingConfig,
    ValidationConfig,
    refuse_repeats,
)
from tfx_distill.schema.stream_sections import LabelsConfig, LabelWatch, StreamConfig

__all__ = [
    "BINARY_METRICS",
    "HIGHER_IS_BETTER",
    "LOSS_OPTIONS",
    "PROBABILITY_LOSSES",
    "REGRESSION_METRICS",
    "BeamConfig",
    "CategoricalFeature",
    "DataConfig",
    "Device",
    "DistillConfig",
    "DistillLoss",
    "DistillMode",
    "Engine",
    "FeaturesConfig",
    "Finite",
    "GateConfig",
    "Kind",
    "KubeflowConfig",
    "LabelWatch",
    "LabelsConfig",
    "LocalPath",
    "Metric",
    "ModelConfig",
    "MultivalentFeature",
    "Name",
    "NonNegative",
    "NumericFeature",
    "OnBreach",
    "Positive",
    "PositiveFloat",
    "PushConfig",
    "RunConfig",
    "Section",
    "ServingLimits",
    "SparkConfig",
    "StreamConfig",
    "StudentConfig",
    "TaskConfig",
    "TeacherConfig",
    "TeacherModelConfig",
    "Threshold",
    "TrainerConfig",
    "TrainingConfig",
    "ValidationConfig",
    "load",
]


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
    stream: StreamConfig | None = None
    gate: GateConfig
    push: PushConfig
    trainer: TrainerConfig = TrainerConfig()
    beam: BeamConfig = BeamConfig()
    spark: SparkConfig = SparkConfig()
    kubeflow: KubeflowConfig | None = None

    @model_validator(mode="after")
    def _parts_fit_together(self) -> RunConfig:
        refuse_repeats([t.name for t in self.tasks], "task")
        refuse_repeats([s.name for s in self.students], "student")
        self._refuse_clashing_columns()
        for student in self.students:
            self._refuse_unfit_student(student)
        self._refuse_unfit_thresholds("teacher", self.gate.teacher)
        self._refuse_unfit_thresholds("students", self.gate.students)
        self._refuse_refresh_without_stream()
        return self

    def _refuse_refresh_without_stream(self) -> None:
        for feature in (*self.features.categorical, *self.features.multivalent):
            if feature.refresh is not None and self.stream is None:
                raise Misfit(
                    "features",
                    got=f"'refresh' of {feature.name!r} without a stream",
                    expected="a section 'stream', or no 'refresh': a batch run learns its "
                    "vocabularies every time",
                )

    def _refuse_clashing_columns(self) -> None:
        labels = {task.label for task in self.tasks}
        flags = {task.applies_when for task in self.tasks if task.applies_when}
        for where, names in (
            ("features", self.features.names),
            ("tasks", sorted(labels | flags)),
            ("gate.slices", self.gate.slices),
        ):
            for name in sorted(columns.RESERVED.intersection(names)):
                raise Misfit(
                    where,
                    got=f"the column {name!r}",
                    expected=f"other names than {sorted(columns.RESERVED)}, which the pipeline "
                    "gives to columns of its own",
                )
        for name in sorted((labels | flags).intersection(self.features.names)):
            role = "label" if name in labels else "`applies_when`"
            raise Misfit(
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
                    raise Misfit(
                        f"{where}.{key}",
                        got=f"the unknown task {name!r}",
                        expected=f"tasks of {list(tasks)}",
                    )
        if student.tasks == ():
            raise Misfit(
                f"{where}.tasks", got="no task", expected="at least one, or leave the key out"
            )
        for name, rule in student.distill.items():
            served = student.tasks is None or name in student.tasks
            if served == (rule.mode == "non_serving"):
                raise Misfit(
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
                raise Misfit(
                    where,
                    got=f"a threshold for the unknown task {threshold.task!r}",
                    expected=f"tasks of {list(tasks)}",
                )
            kind = tasks[threshold.task].kind
            known = BINARY_METRICS if kind == "binary" else REGRESSION_METRICS
            if threshold.metric not in known:
                raise Misfit(
                    where,
                    got=f"the metric {threshold.metric!r} for the {kind} task {threshold.task!r}",
                    expected=f"one of {list(known)}",
                )
            if side == "teacher" and threshold.max_regression is not None:
                raise Misfit(
                    where,
                    got=f"'max_regression' for {threshold.task!r}",
                    expected="'min' or 'max': a teacher has no baseline",
                )
        missing = sorted(set(tasks) - {threshold.task for threshold in thresholds})
        if missing and (thresholds or side == "students"):
            raise Misfit(
                where,
                got=f"no threshold for {', '.join(map(repr, missing))}",
                expected="at least one for every task",
            )

    @property
    def run_folder(self) -> Path:
        """Folder of everything this run writes but the pushed models."""
        return Path(self.root) / self.name

    @property
    def label_table(self) -> str:
        """Folder, or `s3://` URL, of the shared label table."""
        table = self.labels.table or str(self.run_folder / "labels")
        return table if "://" in table else str(Path(table))

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

    @classmethod
    def from_yaml(cls, text: str) -> RunConfig:
        """A config as `to_yaml` wrote it; `load` is for what people write."""
        return cls.model_validate(yaml.safe_load(text))


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
    # A key that is missing may be one that was misspelt.
    first = min(error.errors(), key=lambda found: found["type"] != "extra_forbidden")
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
    if isinstance(misfit, Misfit):
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
        fix=f"{'Add' if first['type'] == 'missing' else 'Correct'} the key.{more}",
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
    # A section that may be left out is also None.
    return _deref(node["anyOf"][0], defs) if "anyOf" in node else node


def _refuse_unfit_loss(where: str, rule: DistillConfig, kind: Kind) -> None:
    loss = rule.loss_for(kind)
    if kind != "binary" and loss in PROBABILITY_LOSSES:
        others = [name for name in get_args(DistillLoss) if name not in PROBABILITY_LOSSES]
        raise Misfit(
            where,
            got=f"loss {loss!r}, which compares probabilities, for a {kind} task",
            expected=f"one of {others}",
        )
    for option, losses in LOSS_OPTIONS.items():
        value = getattr(rule, option)
        if loss not in losses and value != DistillConfig.model_fields[option].default:
            raise Misfit(
                where,
                got=f"{option} {value} with loss {loss!r}, which does not heed it",
                expected=f"one of the losses {list(losses)}, or no {option!r}",
            )
