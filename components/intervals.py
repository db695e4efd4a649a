"""Paired bootstrap intervals of the metrics of stored predictions, from resamples of the queries.

The examples of a query depend on each other, so that queries are what is drawn; every model, task,
metric and slice sees the same draws, so that what is common to two models cancels in their
difference (Efron and Tibshirani 1993, chapters 8 and 13; Field and Welsh 2007 on clusters).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from tfx_distill.components import stored_predictions
from tfx_distill.components.bootstrap_result import Bootstrap, Difference, Estimate, Key
from tfx_distill.components.evaluation_result import BASELINE, CANDIDATE, TWIN
from tfx_distill.components.query_sums import SliceSums, slice_sums
from tfx_distill.schema.config import HIGHER_IS_BETTER, Kind, Metric

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Replicates = NDArray[np.float64]

MAX_UNDEFINED = 0.01
"""Share of resamples in which a metric may be undefined (without a positive, for example)."""

CHUNK = 64
"""Resamples in memory at once: 10 MiB of counts for 20,000 groups."""

ROUNDING = 1e-12
"""Differences of less than this share of the metric are those of float64, not of the models."""


def bootstrap(
    predictions: Sequence[Path],
    models: Mapping[str, Sequence[str]],
    kinds: Mapping[str, Kind],
    slices: Sequence[str],
    *,
    ndcg_at: int,
    confidence: float,
    replicates: int,
    seed: int,
) -> Bootstrap:
    """Estimates of all models, and differences of the candidate from baseline and twin.

    More than 20,000 queries are first merged at random into 20,000 groups of whole queries, which
    are drawn instead: the cost of resampling does not grow with the data.

    Args:
      predictions: Files of an evaluation, see `evaluation_result.predictions`.
      models: Tasks of each model.
      kinds: Kind of each task.
      slices: Columns to slice by.
      ndcg_at: How many places NDCG counts.
      confidence: Of the intervals: percentiles, half of the rest on either side.
      replicates: Resamples.
      seed: Of the draws.

    Raises:
      ConfigError: A slice column is not there, or has too many values.
      DataError: A file cannot be read or lacks another column, or there is no prediction.
    """
    estimates: list[Estimate] = []
    differences: list[Difference] = []
    kept: dict[Key, Replicates] = {}
    with stored_predictions.opened(predictions, models, slices) as stored:
        draws = _draws(stored.groups, replicates, seed)
        for part in slice_sums(stored, models, kinds, ndcg_at):
            metrics = _Resampled(part, draws, confidence)
            estimates += metrics.estimates()
            for difference, values in metrics.differences(models):
                differences.append(difference)
                if values is not None:
                    kept[difference.key] = values
    return Bootstrap(tuple(estimates), tuple(differences), kept)


class _Resampled:
    """The metrics of a slice and of its resamples."""

    def __init__(self, part: SliceSums, draws: NDArray[np.uint8], confidence: float) -> None:
        self._part = part
        self._tails = [(1 - confidence) / 2, (1 + confidence) / 2]
        self._whole = {k: float(v) for k, v in part.values(part.sums.sum(axis=0)).items()}
        self._replicates = part.values(_sums(part, draws))

    def estimates(self) -> Iterator[Estimate]:
        """Of every model, task and metric."""
        for (model, task, metric), value in self._whole.items():
            replicates = self._replicates[model, task, metric]
            defined = _defined(value, replicates)
            low, high = np.nanquantile(replicates, self._tails) if defined else (None, None)
            yield Estimate(
                slice=self._part.name,
                task=task,
                metric=metric,
                model=model,
                value=value if np.isfinite(value) else None,
                low=low,
                high=high,
                queries=self._part.queries[task, metric],
            )

    def differences(
        self, models: Mapping[str, Sequence[str]]
    ) -> Iterator[tuple[Difference, Replicates | None]]:
        """Candidate minus others, with the replicates; None for these where it is undefined."""
        for other in (BASELINE, TWIN):
            for model, task, metric in self._whole:
                compared = model == CANDIDATE and task in models.get(other, ())
                if compared and metric in HIGHER_IS_BETTER:
                    yield self._difference(task, metric, other)

    def _difference(
        self, task: str, metric: Metric, other: str
    ) -> tuple[Difference, Replicates | None]:
        ours, theirs = (CANDIDATE, task, metric), (other, task, metric)
        value = self._whole[ours] - self._whole[theirs]
        replicates = self._replicates[ours] - self._replicates[theirs]
        defined = _defined(value, replicates)
        low = high = error = None
        if defined:
            least = ROUNDING * max(abs(self._whole[ours]), abs(self._whole[theirs]))
            value = 0.0 if abs(value) <= least else value
            replicates[np.abs(replicates) <= least] = 0
            low, high = np.nanquantile(replicates, self._tails)
            error = float(np.nanstd(replicates, ddof=1))
            error = 0.0 if error <= least else error
        difference = Difference(
            slice=self._part.name,
            task=task,
            metric=metric,
            other=other,
            value=value if defined else None,
            low=low,
            high=high,
            standard_error=error,
            queries=self._part.queries[task, metric],
        )
        return difference, replicates if defined else None


def _draws(groups: int, replicates: int, seed: int) -> NDArray[np.uint8]:
    """How often each group is drawn: as many draws as groups; shape [replicates, groups]."""
    rng = np.random.default_rng(seed)
    counts = np.empty((replicates, groups), np.uint8)
    for row in counts:
        # A group is drawn once on average: 255 times happens to nobody.
        row[:] = np.minimum(np.bincount(rng.integers(0, groups, groups), minlength=groups), 255)
    return counts


def _sums(part: SliceSums, draws: NDArray[np.uint8]) -> NDArray[np.float64]:
    """The sums of every resample of a slice; shape [replicates, sums]."""
    sums = [
        draws[start : start + CHUNK][:, part.groups].astype(np.float64) @ part.sums
        for start in range(0, len(draws), CHUNK)
    ]
    return np.concatenate(sums)


def _defined(value: float, replicates: Replicates) -> bool:
    return bool(np.isfinite(value) and np.mean(~np.isfinite(replicates)) <= MAX_UNDEFINED)
