"""The `gate` section of the run config: what a model must reach to be blessed, and to be pushed."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from tfx_distill.schema.sections import Finite, NonNegative, Positive, PositiveFloat, Section

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
    """A condition for a blessing: bounds on a metric, and how much it may lose.

    `max_regression` bounds the loss against the model in service and against the undistilled twin,
    `max_slice_regression` that on each slice; without it, slices may lose as much as the whole.
    """

    task: str
    metric: Metric
    min: Finite | None = None
    max: Finite | None = None
    max_regression: NonNegative | None = None
    max_slice_regression: NonNegative | None = None

    @model_validator(mode="after")
    def _says_something(self) -> Threshold:
        if self.min is None and self.max is None and self.max_regression is None:
            raise ValueError("give at least one of 'min', 'max' and 'max_regression'")
        if self.max_regression is not None and self.metric == "calibration":
            raise ValueError("calibration is best at 1, not high or low: give 'min' and 'max'")
        if self.max_slice_regression is not None and self.max_regression is None:
            raise ValueError("'max_slice_regression' needs 'max_regression'")
        return self


class ServingLimits(Section):
    """What an exported model must reach before it is pushed, in processes of its own.

    It answers `requests` requests for each number of `candidates`, in turn with the model in
    service. `max_p99_ms` is by number of candidates; the ratios are against the model in service,
    and apply where there is one. `max_difference` is how far an answer may be from the trainer's,
    relative where answers are above 1.
    """

    candidates: tuple[Positive, ...] = Field((100, 200, 500), min_length=1)
    requests: Positive = 200
    max_p99_ms: dict[Positive, PositiveFloat] = {}
    max_p99_ratio: PositiveFloat | None = 2.0
    max_size_mib: PositiveFloat | None = None
    max_size_ratio: PositiveFloat | None = 2.0
    max_difference: PositiveFloat = 1e-5

    @model_validator(mode="after")
    def _limits_are_measured(self) -> ServingLimits:
        unknown = sorted(set(self.max_p99_ms) - set(self.candidates))
        if unknown:
            raise ValueError(f"'max_p99_ms' has {unknown}, which 'candidates' lacks")
        return self


class GateConfig(Section):
    """What a model must reach to be blessed.

    `students` must hold a threshold for every served task. `teacher` thresholds are absolute; there
    are none where another pipeline has the teacher. `slices` are columns of the data by which all
    metrics are split; those of fewer than `min_slice_queries` queries are shown, not judged.

    What a student may lose is judged by lower bounds that hold together with probability
    `confidence`, from `replicates` bootstrap samples of the queries. `first` says what a student is
    compared with while none is in service.
    """

    students: tuple[Threshold, ...]
    teacher: tuple[Threshold, ...] = ()
    slices: tuple[str, ...] = ()
    ndcg_at: Positive = 10
    first: Literal["twin", "accept"] = "twin"
    confidence: Annotated[float, Field(gt=0.5, lt=1)] = 0.95
    replicates: Annotated[int, Field(ge=1000)] = 1000
    min_slice_queries: Positive = 100
    serving: ServingLimits = ServingLimits()

    @model_validator(mode="after")
    def _resamples_show_the_confidence(self) -> GateConfig:
        needed = round(5 / (1 - self.confidence))
        if self.replicates < needed:
            raise ValueError(f"a 'confidence' of {self.confidence} needs {needed} 'replicates'")
        return self
