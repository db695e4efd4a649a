"""The base of our TFMA metrics: a value for a slice of one task and model, from whole columns.

TFMA's own metrics take one Python object per example, slice, model and metric. These take a slice
of a partition of the eval split at a time (see `column_extracts`), keep statistics that merge, and
are otherwise ordinary TFMA metrics: named in an EvalConfig, combined by Beam, written by TFMA.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import apache_beam as beam
import numpy as np
from tensorflow_model_analysis import constants
from tensorflow_model_analysis.metrics import metric_types

from tfx_distill.schema.columns import QUERY_ID

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True)
class ScoredColumns:
    """What a model predicted for one task: arrays of shape [rows], queries whole and adjacent.

    Attributes:
      query: int, equal within a query.
      label: float64, on the training scale of the task.
      prediction: float32, on the same scale.
      weight: float64, 0 where the task does not apply.
    """

    query: NDArray[np.integer[Any]]
    label: NDArray[np.float64]
    prediction: NDArray[np.float32]
    weight: NDArray[np.float64]

    def applicable(self) -> ScoredColumns:
        """The rows of weight above 0."""
        # Numbers of rows: a mask would be searched again for each of the four.
        kept = np.flatnonzero(self.weight > 0)
        if len(kept) == len(self.weight):
            return self
        return ScoredColumns(
            self.query[kept], self.label[kept], self.prediction[kept], self.weight[kept]
        )


class ColumnMetric(metric_types.Metric):
    """A TFMA metric over whole columns; NaN wherever a prediction is not finite.

    A subclass says how to get a statistic from columns, how two statistics merge (they add, unless
    it says otherwise) and what value a statistic stands for.
    """

    propagates_nan = True

    def __init__(self, name: str, **config: Any) -> None:
        """Takes what TFMA finds in the metric's JSON config."""
        super().__init__(self._computations, name=name, **config)

    def statistic(self, columns: ScoredColumns) -> Any:
        """The statistic of some rows; if `propagates_nan`, of weight > 0 and finite prediction."""
        raise NotImplementedError

    def merge(self, left: Any, right: Any) -> Any:
        """The statistic of the rows of both, which have no query in common."""
        return left + right

    def value(self, statistic: Any) -> float:
        """The metric."""
        raise NotImplementedError

    def keys(self, key: metric_types.MetricKey) -> list[metric_types.MetricKey]:
        """Under which keys TFMA gets the results, given the key of the model and task."""
        return [key]

    def results(self, statistic: Any) -> list[Any]:
        """What TFMA gets for each of `keys`; the statistic is None if there is no value."""
        return [float("nan") if statistic is None else float(self.value(statistic))]

    def _computations(
        self,
        model_names: list[str],
        output_names: list[str],
        example_weighted: bool = False,
        **_: Any,
    ) -> list[metric_types.MetricComputation]:
        # The feature filter is TFMA's way of saying which columns reach the combiner.
        inputs = metric_types.StandardMetricInputsPreprocessor(
            include_filter={constants.FEATURES_KEY: {QUERY_ID: {}}}
        )
        keys = [
            metric_types.MetricKey(
                name=self.name,
                model_name=model,
                output_name=task,
                example_weighted=example_weighted,
            )
            for model in model_names
            for task in output_names
        ]
        return [
            metric_types.MetricComputation(
                keys=self.keys(key), preprocessors=[inputs], combiner=_Combiner(self, key)
            )
            for key in keys
        ]


@dataclass(frozen=True)
class _State:
    """An accumulator: `statistic` is None before the first row."""

    statistic: Any = None
    finite: bool = True


class _Combiner(beam.CombineFn):
    """Merges the statistics of one metric, model and task."""

    def __init__(self, metric: ColumnMetric, key: metric_types.MetricKey) -> None:
        self._metric = metric
        self._key = key

    def create_accumulator(self) -> _State:
        return _State()

    def add_input(self, state: _State, element: Any) -> _State:
        task, model = self._key.output_name, self._key.model_name
        columns = ScoredColumns(
            element[constants.FEATURES_KEY][QUERY_ID],
            element[constants.LABELS_KEY][task],
            element[constants.PREDICTIONS_KEY][model][task],
            element[constants.EXAMPLE_WEIGHTS_KEY][task],
        )
        if self._metric.propagates_nan:
            columns = columns.applicable()
            if not np.isfinite(columns.prediction).all():
                return _State(finite=False)
        if not len(columns.label):
            return state
        return self._merged(state, _State(self._metric.statistic(columns)))

    def merge_accumulators(self, states: Iterable[_State]) -> _State:
        merged = _State()
        for state in states:
            merged = self._merged(merged, state)
        return merged

    def extract_output(self, state: _State) -> dict[metric_types.MetricKey, Any]:
        statistic = state.statistic if state.finite else None
        keys = self._metric.keys(self._key)
        return dict(zip(keys, self._metric.results(statistic), strict=True))

    def _merged(self, left: _State, right: _State) -> _State:
        if not (left.finite and right.finite):
            return _State(finite=False)
        if left.statistic is None:
            return right
        if right.statistic is None:
            return left
        return _State(self._metric.merge(left.statistic, right.statistic))
