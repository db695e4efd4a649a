"""How good teacher labels are: against hard labels, against the teacher before, and in time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from tfx_distill.labels.moments import PairMoments

if TYPE_CHECKING:
    from tfx_distill.schema.stream_sections import LabelWatch

_BINS = 15
_HOUR = 3600

Float32 = npt.NDArray[np.float32]


@dataclass(frozen=True)
class TaskQuality:
    """The labels of one task; None where a figure is undefined.

    Attributes:
      rows: Labels.
      mean: Their mean: of logits for a binary task, of values for a regression.
      std: Their standard deviation (over n, not n - 1).
      calibration: Mean of sigmoid(logit) over mean hard label, weighted; binary tasks only.
      calibration_error: Expected calibration error: the weighted mean of |mean prediction - mean
        hard label| over 15 bins of equal width between 0 and 1; binary tasks only. Guo et al., On
        Calibration of Modern Neural Networks, 2017.
      compared: Examples that the teacher before labelled too.
      correlation: Pearson's, between the two teachers' labels of these examples.
      shift: Mean label now minus mean label before, in standard deviations of the labels before.
    """

    rows: int
    mean: float | None
    std: float | None
    calibration: float | None
    calibration_error: float | None
    compared: int
    correlation: float | None
    shift: float | None


@dataclass(frozen=True)
class Quality:
    """The labels of a span; `dataclasses.asdict` makes it JSON.

    Attributes:
      examples: Examples of the span.
      coverage: Share of them with a label; None without examples.
      staleness_mean_hours: Event time of the labelled examples minus the teacher's watermark; None
        if the watermark is unknown or nothing is labelled.
      staleness_max_hours: That of the latest labelled example.
      tasks: Figures of each task.
    """

    examples: int
    coverage: float | None
    staleness_mean_hours: float | None
    staleness_max_hours: float | None
    tasks: dict[str, TaskQuality]


@dataclass
class _Calibration:
    """Sums over weighted examples, per bin of the predicted probability."""

    weight: npt.NDArray[np.float64] = field(default_factory=lambda: np.zeros(_BINS))
    predicted: npt.NDArray[np.float64] = field(default_factory=lambda: np.zeros(_BINS))
    observed: npt.NDArray[np.float64] = field(default_factory=lambda: np.zeros(_BINS))

    def add(self, logit: Float32, label: Float32, weight: Float32) -> None:
        """Adds examples; those of weight 0 do not count, whatever their label."""
        used = weight > 0
        probability = _sigmoid(logit[used].astype(np.float64))
        scale = weight[used].astype(np.float64)
        bins = np.minimum((probability * _BINS).astype(np.int64), _BINS - 1)
        for total, values in (
            (self.weight, scale),
            (self.predicted, scale * probability),
            (self.observed, scale * label[used]),
        ):
            total += np.bincount(bins, values, _BINS)

    @property
    def ratio(self) -> float | None:
        observed = float(self.observed.sum())
        return float(self.predicted.sum()) / observed if observed > 0 else None

    @property
    def error(self) -> float | None:
        weight = float(self.weight.sum())
        gaps = np.abs(self.predicted - self.observed)
        return float(gaps.sum()) / weight if weight > 0 else None


class QualityMeter:
    """Measures the labels of a span, shard by shard; keeps sums only.

    Example:
      meter = QualityMeter({"click": "binary"}, watermark=1_714_000_000)
      for shard in shards:
          hard = {"click": (shard.label, shard.weight)}
          meter.add(shard.event_time, {"click": shard.logit}, hard)
      broken = breaches(meter.report(), run_config.labels.watch)

    Args:
      kinds: Kind of each task, `binary` or `regression`.
      watermark: Newest event time that the teacher has trained on, in seconds since the epoch;
        None if it is unknown.
    """

    def __init__(self, kinds: Mapping[str, str], watermark: int | None) -> None:
        self._kinds = dict(kinds)
        self._watermark = watermark
        self._examples = 0
        self._labelled = 0
        self._age_sum = 0
        self._age_max: int | None = None
        # Of single labels the two sides are the same.
        self._labels = {task: PairMoments() for task in kinds}
        self._pairs = {task: PairMoments() for task in kinds}
        self._calibration = {task: _Calibration() for task in kinds}

    def add(
        self,
        event_time: npt.NDArray[np.int64],
        labels: Mapping[str, Float32],
        hard: Mapping[str, tuple[Float32, Float32]],
        present: npt.NDArray[np.bool_] | None = None,
    ) -> None:
        """Adds a shard.

        Args:
          event_time: int64, shape [n], seconds since the epoch.
          labels: Teacher label of each task, float32, shape [n], finite where present.
          hard: Hard label and its weight, each float32, shape [n], of each task that has one.
          present: bool, shape [n], which examples have a teacher label; all of them by default.

        Raises:
          ValueError: Tasks or shapes are not those of this meter.
        """
        if labels.keys() != self._kinds.keys() or not hard.keys() <= self._kinds.keys():
            raise ValueError(
                f"labels of {sorted(labels)}, hard labels of {sorted(hard)}, "
                f"expected {sorted(self._kinds)}"
            )
        used = np.ones(event_time.shape, np.bool_) if present is None else present
        for array in (used, *labels.values(), *(part for pair in hard.values() for part in pair)):
            if array.shape != event_time.shape:
                raise ValueError(f"shape {array.shape}, expected {event_time.shape}")
        self._examples += len(used)
        self._labelled += int(used.sum())
        if self._watermark is not None and used.any():
            age = event_time[used] - self._watermark
            self._age_sum += int(age.sum())
            newest = int(age.max())
            self._age_max = newest if self._age_max is None else max(newest, self._age_max)
        for task, kind in self._kinds.items():
            values = labels[task][used]
            self._labels[task].add(values, values)
            if kind == "binary" and task in hard:
                label, weight = hard[task]
                self._calibration[task].add(values, label[used], weight[used])

    def compare(self, before: Mapping[str, Float32], now: Mapping[str, Float32]) -> None:
        """Adds examples that two teachers labelled, the one before and the present one.

        Args:
          before: Label of each task by the teacher before, float32, shape [m]; tasks that it lacks
            are left out.
          now: The present labels of the same examples, in the same order.

        Raises:
          ValueError: Tasks or shapes differ.
        """
        for task, values in before.items():
            if task not in self._pairs or task not in now or now[task].shape != values.shape:
                raise ValueError(f"task {task}: nothing to compare these {len(values)} labels with")
            self._pairs[task].add(values, now[task])

    def merge(self, other: QualityMeter) -> None:
        """Adds all that another meter of the same tasks and watermark was given.

        Raises:
          ValueError: Its tasks or its watermark are others.
        """
        if (other._kinds, other._watermark) != (self._kinds, self._watermark):
            raise ValueError("meters of other tasks or of another watermark")
        self._examples += other._examples
        self._labelled += other._labelled
        self._age_sum += other._age_sum
        ages = [age for age in (self._age_max, other._age_max) if age is not None]
        self._age_max = max(ages, default=None)
        for task in self._kinds:
            self._labels[task].merge(other._labels[task])
            self._pairs[task].merge(other._pairs[task])
            mine, theirs = self._calibration[task], other._calibration[task]
            mine.weight += theirs.weight
            mine.predicted += theirs.predicted
            mine.observed += theirs.observed

    def report(self) -> Quality:
        """The figures over all that was added."""
        mean = None
        if self._watermark is not None and self._labelled:
            mean = self._age_sum / self._labelled / _HOUR
        return Quality(
            examples=self._examples,
            coverage=self._labelled / self._examples if self._examples else None,
            staleness_mean_hours=mean,
            staleness_max_hours=None if self._age_max is None else self._age_max / _HOUR,
            tasks={task: self._task(task) for task in self._kinds},
        )

    def _task(self, task: str) -> TaskQuality:
        labels, pairs = self._labels[task], self._pairs[task]
        calibration = self._calibration[task]
        return TaskQuality(
            rows=labels.count,
            mean=labels.mean_x,
            std=labels.std_x,
            calibration=calibration.ratio,
            calibration_error=calibration.error,
            compared=pairs.count,
            correlation=pairs.correlation,
            shift=pairs.shift,
        )


def breaches(quality: Quality, limits: LabelWatch) -> list[str]:
    """A sentence for each limit that the labels of a span break.

    A limit on a figure that is undefined is not broken, except for the agreement: two or more
    examples that a teacher gives all the same label agree with nothing.

    Args:
      quality: Figures of the span.
      limits: `labels.watch` of the run config.
    """
    found = []
    stale, most = quality.staleness_mean_hours, limits.max_staleness_hours
    if stale is not None and most is not None and stale > most:
        found.append(
            f"The labels are {stale:.4g} hours stale on average, more than the {most:g} of "
            "labels.watch.max_staleness_hours."
        )
    for task, figures in quality.tasks.items():
        found += _task_breaches(task, figures, limits)
    return found


def _task_breaches(task: str, figures: TaskQuality, limits: LabelWatch) -> list[str]:
    found = []
    ratio = figures.calibration
    if ratio is not None and limits.calibration is not None:
        low, high = limits.calibration
        if not low <= ratio <= high:
            found.append(
                f"{task}: the mean teacher label is {ratio:.4g} times the mean hard label, outside "
                f"of the {low:g} to {high:g} of labels.watch.calibration."
            )
    if limits.min_agreement is not None and figures.compared > 1:
        least, agreement = limits.min_agreement, figures.correlation
        if agreement is None:
            found.append(
                f"{task}: all labels of one of the two teachers are the same, so that they have no "
                f"correlation; labels.watch.min_agreement is {least:g}."
            )
        elif agreement < least:
            found.append(
                f"{task}: the labels correlate with those of the teacher before at "
                f"{agreement:.4g}, less than the {least:g} of labels.watch.min_agreement "
                f"({figures.compared} examples)."
            )
    shift, widest = figures.shift, limits.max_shift
    if shift is not None and widest is not None and abs(shift) > widest:
        found.append(
            f"{task}: the mean label moved by {shift:+.4g} standard deviations from that of the "
            f"teacher before, more than the {widest:g} of labels.watch.max_shift "
            f"({figures.compared} examples)."
        )
    return found


def _sigmoid(logit: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    # Neither branch overflows.
    small = np.exp(-np.abs(logit))
    return np.where(logit >= 0, 1 / (1 + small), small / (1 + small))
