"""Joining teacher labels to examples by id."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq

from tfx_distill.labels.id_index import IdIndex
from tfx_distill.labels.shard import shard_of
from tfx_distill.labels.snapshot import Snapshot, files_by_snapshot, named, open_labels
from tfx_distill.schema import columns
from tfx_distill.schema.columns import Split
from tfx_distill.schema.errors import LabelError

_PORTION_ROWS = 65_536
_KEPT_ROWS = 1_000_000
"""Joined rows that are remembered: small data is joined once, whatever the epochs."""

Joined = tuple[dict[str, npt.NDArray[np.float32]], npt.NDArray[np.bool_]]


@dataclass(frozen=True)
class Coverage:
    """How many examples have a teacher label.

    Attributes:
      examples: Examples joined so far, those of a shard once.
      labelled: Those of them with a label.
      labels: Rows of the label files of that split; more than `labelled` after the last shard
        means labels of unknown examples, or that several snapshots label the same ones.
    """

    examples: int
    labelled: int
    labels: int

    @property
    def share(self) -> float:
        """Labelled share of the examples; 0 before the first example."""
        return self.labelled / self.examples if self.examples else 0.0


class LabelJoiner:
    """Finds the teacher labels of examples, one example shard at a time, and counts coverage.

    Memory is bounded by a shard of examples, a million joined rows that are remembered for the next
    epoch, and 65,536 rows or one row group of labels. A shard
    whose ids are all in the label file of the same name costs one read of that file; each shard
    with other ids costs a scan of the ids of the other files, until all are found.

    Of several snapshots the last one that labels an example wins. Each is searched as above, the
    last one first, for the ids that those after it lack.

    Args:
      snapshots: Labels to join.
      split: Which split of them.
      kinds: Kind of each wanted task, `binary` or `regression`.

    Raises:
      LabelError: A snapshot cannot be read or has expired, or none has such a split.
    """

    def __init__(
        self, snapshots: Snapshot | Sequence[Snapshot], split: Split, kinds: Mapping[str, str]
    ) -> None:
        snapshots = [snapshots] if isinstance(snapshots, Snapshot) else snapshots
        self._where = f"{named(snapshots)}, split {split}"
        self._groups = list(
            zip(reversed(snapshots), files_by_snapshot(snapshots, split), strict=True)
        )
        self._columns = {task: columns.teacher_label(task, kind) for task, kind in kinds.items()}
        self._counts: dict[str, tuple[int, int]] = {}
        self._kept: dict[str, tuple[npt.NDArray[np.int64], Joined]] = {}

    def join(
        self, shard: str, example_id: npt.NDArray[np.int64]
    ) -> tuple[dict[str, npt.NDArray[np.float32]], npt.NDArray[np.bool_]]:
        """Labels of one shard of examples, in the order of the examples.

        Args:
          shard: Name of the example shard: its own label file is looked into first. Joined again,
            it replaces what was counted before.
          example_id: int64, shape [n].

        Returns:
          Per task float32 [n], 0 without a label; and bool [n], whether there is a label.

        Raises:
          LabelError: A label file is missing, corrupt, lacks a task or holds NaN or infinity.
        """
        kept = self._kept.get(shard)
        if kept is not None and np.array_equal(kept[0], example_id):
            joined = kept[1]
        else:
            joined = self._read(shard, example_id)
            self._keep(shard, example_id, joined)
        self._counts[shard] = len(example_id), int(joined[1].sum())
        return joined

    def _keep(self, shard: str, example_id: npt.NDArray[np.int64], joined: Joined) -> None:
        """Remembers a shard for the next epoch, as long as there are few enough."""
        self._kept.pop(shard, None)
        rows = sum(len(ids) for ids, _ in self._kept.values()) + len(example_id)
        if rows <= _KEPT_ROWS:
            self._kept[shard] = example_id.copy(), joined

    def _read(self, shard: str, example_id: npt.NDArray[np.int64]) -> Joined:
        snapshot, files = self._groups[0]
        own = [path for path in files if shard_of(path) == shard]
        if own and (joined := self._side_by_side(own[0], snapshot, example_id)) is not None:
            return joined
        return self._search(shard, example_id)

    def _side_by_side(
        self, path: str, snapshot: Snapshot, example_id: npt.NDArray[np.int64]
    ) -> Joined | None:
        """The labels in a file of these very examples in this order, as a labeler writes them."""
        names = list(self._columns.values())
        with open_labels(path, [columns.EXAMPLE_ID, *names], snapshot) as file:
            if file.metadata.num_rows != len(example_id):
                return None
            ids = file.read([columns.EXAMPLE_ID])[columns.EXAMPLE_ID].to_numpy()
            if not np.array_equal(ids, example_id):
                return None
            table = file.read(names)
        labels = {
            task: _finite(path, column, table[column].to_numpy(), ids)
            for task, column in self._columns.items()
        }
        return labels, np.ones(len(ids), np.bool_)

    def _search(self, shard: str, example_id: npt.NDArray[np.int64]) -> Joined:
        distinct, position = np.unique(example_id, return_inverse=True)
        wanted = IdIndex(distinct)
        labels = {task: np.zeros(len(distinct), np.float32) for task in self._columns}
        present = np.zeros(len(distinct), np.bool_)
        own_first = (
            (snapshot, path)
            for snapshot, files in self._groups
            for path in sorted(files, key=lambda path: shard_of(path) != shard)
        )
        read = [columns.EXAMPLE_ID, *self._columns.values()]
        for snapshot, path in own_first:
            if present.all():
                break
            with open_labels(path, read, snapshot) as file:
                self._look_into(path, file, wanted, labels, present)
        return {task: values[position] for task, values in labels.items()}, present[position]

    def coverage(self) -> Coverage:
        """Counts over all shards joined so far, each once, however many epochs there were.

        Raises:
          LabelError: A label file is missing or corrupt.
        """
        examples = sum(count for count, _ in self._counts.values())
        labelled = sum(count for _, count in self._counts.values())
        return Coverage(examples, labelled, self._label_rows)

    @cached_property
    def _label_rows(self) -> int:
        rows = 0
        for snapshot, files in self._groups:
            for path in files:
                with open_labels(path, (), snapshot) as file:
                    rows += file.metadata.num_rows
        return rows

    def require_coverage(self, minimum: float) -> None:
        """Refuses to go on with too few labels.

        Args:
          minimum: Smallest accepted share of labelled examples, between 0 and 1.

        Raises:
          LabelError: The share is below `minimum`.
        """
        coverage = self.coverage()
        if coverage.share >= minimum:
            return
        raise LabelError(
            self._where,
            got=f"labels for {coverage.labelled} of {coverage.examples} examples "
            f"({coverage.share:.2%}); the table holds {coverage.labels} labels",
            expected=f"labels for at least {minimum:.2%}",
            fix="Label exactly these examples with this teacher, or lower labels.min_coverage.",
        )

    def _look_into(
        self,
        path: str,
        file: pq.ParquetFile,
        wanted: IdIndex,
        labels: Mapping[str, npt.NDArray[np.float32]],
        present: npt.NDArray[np.bool_],
    ) -> None:
        """Fills `labels` and `present`, aligned with the places of `wanted`, from one file."""
        for groups in _portions(file):
            ids = file.read_row_groups(groups, [columns.EXAMPLE_ID])[columns.EXAMPLE_ID].to_numpy()
            rows, places = wanted.find(ids)
            missing = ~present[places]
            rows, places = rows[missing], places[missing]
            if not len(rows):
                continue
            portion = file.read_row_groups(groups, list(self._columns.values()))
            for task, column in self._columns.items():
                labels[task][places] = _finite(
                    path, column, portion[column].to_numpy()[rows], ids[rows]
                )
            present[places] = True


def _finite(
    path: str, column: str, values: npt.NDArray[Any], ids: npt.NDArray[np.int64]
) -> npt.NDArray[np.float32]:
    """Labels of these examples, none of which may be NaN, infinite or null."""
    # Nulls become NaN: a compacted file has them where its teacher lacks the task.
    finite = np.isfinite(values)
    if not finite.all():
        raise LabelError(
            f"{path}, column {column}, example_id {ids[np.argmin(finite)]}",
            got=f"{int((~finite).sum())} labels that are not finite",
            expected="finite labels",
            fix="Label the span again, with a teacher of that task.",
        )
    return values.astype(np.float32, copy=False)


def _portions(file: pq.ParquetFile) -> Iterator[list[int]]:
    """Row groups to read at once: as few as reach 65,536 rows, which the caches hold."""
    groups: list[int] = []
    rows = 0
    for group in range(file.num_row_groups):
        groups.append(group)
        rows += file.metadata.row_group(group).num_rows
        if rows >= _PORTION_ROWS:
            yield groups
            groups, rows = [], 0
    if groups:
        yield groups
