"""What a bootstrap of the stored predictions says: values with intervals, and joint lower bounds.

Needs neither TensorFlow nor TFMA, so that a report costs no start-up.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from tfx_distill.schema.config import HIGHER_IS_BETTER, Metric, Section

if TYPE_CHECKING:
    from numpy.typing import NDArray

Key = tuple[str, str, str, str]
"""A comparison: slice, task, metric, and the other model."""


class Estimate(Section):
    """A metric of a model on a slice, and its percentile interval; None where undefined.

    `slice` is as in `evaluation_result`. `queries` is how many queries count: those to which the
    task applies; for `auc` those with the rarer label, for `gauc` those with both, for `ndcg` those
    that can be ranked.
    """

    slice: str
    task: str
    metric: Metric
    model: str
    value: float | None
    low: float | None
    high: float | None
    queries: int


class Difference(Section):
    """The metric of the candidate minus that of another model, on the same queries.

    In the metric's own sign. All numbers are None where the metric is undefined, for the slice or
    for more than a hundredth of its resamples.
    """

    slice: str
    task: str
    metric: Metric
    other: str
    value: float | None
    low: float | None
    high: float | None
    standard_error: float | None
    queries: int

    @property
    def key(self) -> Key:
        """The comparison."""
        return (self.slice, self.task, self.metric, self.other)


@dataclass(frozen=True)
class Bounds:
    """Lower bounds of differences that hold together.

    Attributes:
      critical: How many standard errors a bound lies below its difference.
      by_key: By comparison, the bound on a scale where higher is better; undefined ones are not in.
    """

    critical: float
    by_key: dict[Key, float]


@dataclass(frozen=True)
class Bootstrap:
    """Estimates and differences of all slices, tasks, metrics and models.

    Attributes:
      estimates: The slice of all examples comes first.
      differences: Of the metrics that have a direction; calibration has none.
      replicates: By defined difference, its values in the resamples, NaN in those where it is
        undefined; float64, shape [replicates]. All are of the same resamples.
    """

    estimates: tuple[Estimate, ...]
    differences: tuple[Difference, ...]
    replicates: Mapping[Key, NDArray[np.float64]] = field(repr=False)

    def lower_bounds(self, chosen: Sequence[Key], confidence: float) -> Bounds:
        """One-sided lower bounds that hold for all chosen comparisons at once.

        With d the difference on a scale where higher is better, d* that of a resample and se its
        standard error, the bound is `d - c se`, where c is the `confidence` quantile over resamples
        of `max over chosen of (d* - d) / se`. For d* errs about d as d errs about the truth, and a
        bound fails where d is too high by more than c se (Romano and Wolf 2005, "Exact and
        approximate stepdown methods for multiple hypothesis testing"). Comparisons that vary
        together cost little, others as much as they must.

        A difference that no resample changes is its own bound.

        Args:
          chosen: Comparisons among `differences`; undefined ones are left out.
          confidence: Probability, about, with which all bounds are below the truth.

        Raises:
          KeyError: There is no such comparison.
        """
        found = {difference.key: difference for difference in self.differences}
        oriented: dict[Key, tuple[float, float]] = {}
        worst: NDArray[np.float64] | None = None
        for key in dict.fromkeys(chosen):
            value, error = found[key].value, found[key].standard_error
            if value is None or error is None:
                continue
            sign = 1 if HIGHER_IS_BETTER[found[key].metric] else -1
            oriented[key] = (sign * value, error)
            if error > 0:
                excess = sign * (self.replicates[key] - value) / error
                # Where a resample leaves one comparison undefined, the others decide.
                worst = excess if worst is None else np.fmax(worst, excess)
        critical = 0.0 if worst is None else float(np.nanquantile(worst, confidence))
        return Bounds(critical, {k: d - critical * se for k, (d, se) in oriented.items()})
