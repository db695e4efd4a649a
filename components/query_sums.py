"""Sums over queries that every metric is made of: all that a bootstrap of the queries needs.

Stored predictions become, for each slice, a matrix with a row for each group of queries and a
column for each sum; any resample of the groups is then one row of a matrix product. The metrics are
those of the ModelEvaluator: see `mean_metrics`, `area_under_curve`, `grouped_auc` and `query_ndcg`
for their definitions, `metric_terms` and `auc_placements` for how they are made of sums.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from tfx_distill.components.area_under_curve import MAX_SCORES
from tfx_distill.components.grouped_auc import query_aucs
from tfx_distill.components.metric_terms import COUNTED, METRICS, Scored, SumColumns, row_terms
from tfx_distill.components.query_ndcg import IdealRanking
from tfx_distill.components.slice_survey import Served, SliceSurvey
from tfx_distill.components.stored_predictions import Chosen, Partition, StoredPredictions
from tfx_distill.components.task_rows import Part, TaskRows, task_rows
from tfx_distill.schema.config import Kind, Metric

if TYPE_CHECKING:
    from numpy.typing import NDArray

MAX_BYTES = 512 * 2**20
"""Of sums and scores in memory at once: beyond that, slices wait for another pass over the data."""


@dataclass(frozen=True)
class SliceSums:
    """The sums of one slice.

    Attributes:
      name: As in `evaluation_result`.
      groups: The groups of queries that have a row in the slice; int, shape [groups], rising.
      sums: Of each group; float64, shape [groups, sums]. NaN for a model and task of which a
        prediction is not finite.
      queries: By task and metric, how many queries count: those to which the task applies; for
        `auc` those with the rarer label, for `gauc` those with both, for `ndcg` those that can be
        ranked.
    """

    name: str
    groups: NDArray[np.integer[Any]]
    sums: NDArray[np.float64]
    queries: Mapping[tuple[str, str], int]
    _columns: SumColumns
    _areas: Mapping[Served, float]

    def values(self, sums: NDArray[np.float64]) -> dict[Scored, NDArray[np.float64]]:
        """The metrics of resamples of the queries.

        Args:
          sums: Weighted sums of the rows of `self.sums`; shape [..., sums].

        Returns:
          By model, task and metric, shape [...]; NaN where it is undefined.
        """
        values = self._columns.values(sums)
        whole = self._columns.values(self.sums.sum(axis=0))
        for (model, task), area in self._areas.items():
            scored: Scored = (model, task, "auc")
            # All weights 1 give the area itself, whatever was rounded where scores were too many.
            values[scored] = area + (values[scored] - whole[scored])
        return values


def slice_sums(
    stored: StoredPredictions,
    models: Mapping[str, Sequence[str]],
    kinds: Mapping[str, Kind],
    ndcg_at: int,
) -> Iterator[SliceSums]:
    """The sums of every slice, that of all examples first.

    Memory: a partition, and `MAX_BYTES` for as many slices as these hold. Of a slice that is, for
    each group in it, 8 bytes a sum, of which a model has 4 to 6 for each task, and 20 bytes for
    each score that an AUC tells apart.

    Args:
      stored: The predictions.
      models: Tasks of each model.
      kinds: Kind of each task.
      ndcg_at: How many places count.
    """
    columns = SumColumns(models, kinds)
    scores = sum(kinds[task] == "binary" for served in models.values() for task in served)
    sizes = {
        column: [_most_bytes(count, stored.groups, columns.width, scores) for count in counts]
        for column, counts in stored.rows.items()
    }

    def partitions(chosen: Chosen) -> Iterator[tuple[Partition, list[TaskRows]]]:
        for partition in stored.partitions(chosen):
            yield partition, task_rows(partition, models, kinds)

    def in_one_pass(chosen: Chosen) -> Iterator[SliceSums]:
        survey = SliceSurvey(task for _, tasks in partitions(chosen) for task in tasks)
        sums = _Sums(stored, columns, survey, ndcg_at)
        for partition, tasks in partitions(chosen):
            sums.add(partition, tasks)
        for column, codes in chosen.items():
            yield from sums.slices(column, codes, kinds)

    for chosen in _passes(sizes):
        yield from in_one_pass(chosen)


def _most_bytes(rows: int, groups: int, sums: int, scores: int) -> int:
    """What a slice takes at most: cells with a key and sums, and the placements of scores."""
    return min(rows, groups) * 8 * (1 + sums) + min(rows, MAX_SCORES) * 20 * scores


def _passes(sizes: Mapping[str, Sequence[int]]) -> Iterator[Chosen]:
    """Slices that are dealt with together, given the bytes of each by slice column."""
    chosen: dict[str, range] = {}
    held = 0
    for column, of_slices in sizes.items():
        for code, size in enumerate(of_slices):
            if chosen and held + size > MAX_BYTES:
                yield chosen
                chosen, held = {}, 0
            first = chosen[column].start if column in chosen else code
            chosen[column] = range(first, code + 1)
            held += size
    yield chosen


_APPLICABLE = "applicable"
"""Queries that count where a metric does not say which ones do."""

_CLASSES = ("negative", "positive")
"""Queries with a label of 0, and of 1: an AUC says no more than the rarer class does."""


@dataclass(frozen=True)
class _Cells:
    """What a partition adds to the slices of a column: a cell is what a group has in a slice.

    Attributes:
      key: Code of the slice times the number of groups, plus that of the group; shape [cells].
      of_row: The cell of each row of the partition, -1 where it is in no slice.
      sums: Shape [cells, sums].
    """

    key: NDArray[np.int64]
    of_row: NDArray[np.intp]
    sums: NDArray[np.float64]

    @classmethod
    def of(
        cls, code: NDArray[np.int16], group: NDArray[np.int32], groups: int, width: int
    ) -> _Cells:
        """Cells of sums 0."""
        inside = code >= 0
        rows = code[inside].astype(np.int64) * groups + group[inside]
        key, number = np.unique(rows, return_inverse=True)
        of_row = np.full(len(code), -1)
        of_row[inside] = number
        return cls(key, of_row, np.zeros((len(key), width)))

    def put(self, column: int, cell: NDArray[np.intp], values: NDArray[np.float64]) -> None:
        """Fills a column with the sums of values by their cell."""
        self.sums[:, column] = np.bincount(cell, weights=values, minlength=len(self.key))


class _Sums:
    """The sums of all slices, which come in partition by partition."""

    def __init__(
        self, stored: StoredPredictions, columns: SumColumns, survey: SliceSurvey, ndcg_at: int
    ) -> None:
        self._groups = stored.groups
        self._names = stored.slices
        self._columns = columns
        self._survey = survey
        self._ndcg_at = ndcg_at
        # Keys and sums of the cells of each partition; what has its rows is let go.
        self._cells: dict[str, list[tuple[NDArray[np.int64], NDArray[np.float64]]]] = {}
        self._queries: dict[tuple[str, str, str], NDArray[np.intp]] = {}

    def add(self, partition: Partition, tasks: Sequence[TaskRows]) -> None:
        """Takes in a partition."""
        cells = {
            column: _Cells.of(code, partition.group, self._groups, self._columns.width)
            for column, code in partition.codes.items()
        }
        for task in tasks:
            # What is not finite is known to the survey; here it must only not disturb the others.
            predictions = {
                model: np.where(np.isfinite(prediction), prediction, np.float32(0))
                for model, prediction in task.prediction.items()
            }
            self._add_rows(task, predictions, cells)
            self._add_queries(task, predictions, cells)
        for column, filled in cells.items():
            self._cells.setdefault(column, []).append((filled.key, filled.sums))

    def _add_rows(
        self,
        task: TaskRows,
        predictions: Mapping[str, NDArray[np.float32]],
        cells: Mapping[str, _Cells],
    ) -> None:
        """The sums to which each row adds by itself."""
        shared = {"weight": task.weight, "label": task.positive}
        if task.kind == "binary":
            shared["negative"] = task.negative
        own = {
            model: row_terms(task.kind, task.label, prediction, task.weight)
            for model, prediction in predictions.items()
        }
        for column, to in cells.items():
            rows = task.sliced(column)
            cell = to.of_row[task.place[rows]]
            parts = list(task.parts(column))
            for term, values in shared.items():
                to.put(self._columns.shared(task.name, term), cell, values[rows])
            for model, terms in own.items():
                if task.kind == "binary":
                    terms |= self._auc_terms(task, parts, model, predictions[model])
                for term, values in terms.items():
                    to.put(self._columns.own(model, task.name, term), cell, values[rows])

    def _auc_terms(
        self,
        task: TaskRows,
        parts: Sequence[tuple[Part, NDArray[np.intp]]],
        model: str,
        score: NDArray[np.float32],
    ) -> dict[str, NDArray[np.float64]]:
        """The placements of each row within its slice."""
        of_positives, of_negatives = np.zeros((2, len(score)))
        for part, rows in parts:
            placements = self._survey.placements[part].get((model, task.name))
            if placements is not None:
                of_positives[rows], of_negatives[rows] = placements.terms(
                    score[rows], task.positive[rows], task.negative[rows]
                )
        return {"auc_of_positives": of_positives, "auc_of_negatives": of_negatives}

    def _add_queries(
        self,
        task: TaskRows,
        predictions: Mapping[str, NDArray[np.float32]],
        cells: Mapping[str, _Cells],
    ) -> None:
        """The sums to which each query adds by its order."""
        by_gain = np.lexsort((task.label, task.query))
        by_score = {model: np.lexsort((p, task.query)) for model, p in predictions.items()}
        for column, to in cells.items():
            worst_first = task.sliced(column, by_gain)
            if not len(worst_first):
                continue
            query, code = task.query[worst_first], task.codes[column][worst_first]
            new = np.r_[True, (query[1:] != query[:-1]) | (code[1:] != code[:-1])]
            # The same queries in the same order for every model, since only rows within them move.
            first = np.flatnonzero(new)
            cell, code = to.of_row[task.place[worst_first[first]]], code[first]
            ideal = IdealRanking(first, task.label[worst_first], self._ndcg_at)
            counted: dict[Metric, NDArray[np.float64]] = {}
            for model, prediction in predictions.items():
                order = task.sliced(column, by_score[model])
                label, score = task.label[order], prediction[order]
                ranked: dict[Metric, NDArray[np.float64]] = {"ndcg": ideal.ndcgs(label, score)}
                if task.kind == "binary":
                    ranked["gauc"] = query_aucs(first, label, score)
                for metric, (own, shared) in ranked.items():
                    to.put(self._columns.own(model, task.name, metric), cell, own)
                    counted[metric] = shared  # By every model the same.
            for metric, shared in counted.items():
                to.put(self._columns.shared(task.name, COUNTED[metric]), cell, shared)
                self._count(column, task.name, metric, code[shared > 0])
            self._count(column, task.name, _APPLICABLE, code)
            if task.kind == "binary":
                for number, name in enumerate(_CLASSES):
                    of_class = task.label[worst_first] == number
                    having = np.add.reduceat(of_class.astype(np.int64), first) > 0
                    self._count(column, task.name, name, code[having])

    def _count(self, column: str, task: str, what: str, code: NDArray[np.int16]) -> None:
        """Adds up queries, given the code of the slice of each."""
        found = np.bincount(code, minlength=len(self._names[column]))
        before = self._queries.get((column, task, what), 0)
        self._queries[column, task, what] = before + found

    def slices(self, column: str, codes: range, kinds: Mapping[str, Kind]) -> Iterator[SliceSums]:
        """Some slices of a column."""
        for code in codes:
            # A partition has its keys in order, but the groups of another lie between them.
            cells = []
            for key, sums in self._cells[column]:
                start, end = np.searchsorted(key, np.array([code, code + 1]) * self._groups)
                cells.append((key[start:end], sums[start:end]))
            keys, sums = (np.concatenate(found) for found in zip(*cells, strict=True))
            order = np.argsort(keys)
            of_slice = sums[order]
            for model, task in self._survey.broken[column, code]:
                of_slice[:, self._columns.all_own(model, task)] = np.nan
            yield SliceSums(
                name=self._names[column][code],
                groups=keys[order] - code * self._groups,
                sums=of_slice,
                queries={
                    (task, metric): self._counted(column, code, task, metric)
                    for task, kind in kinds.items()
                    for metric in METRICS[kind]
                },
                _columns=self._columns,
                _areas={
                    served: placements.area
                    for served, placements in self._survey.placements[column, code].items()
                },
            )

    def _counted(self, column: str, code: int, task: str, metric: str) -> int:
        if metric == "auc":
            return min(self._counted(column, code, task, name) for name in _CLASSES)
        what = metric if (column, task, metric) in self._queries else _APPLICABLE
        found = self._queries.get((column, task, what))
        return 0 if found is None else int(found[code])
