"""Writing the labels of one example shard, inside a worker."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Any
from uuid import uuid4

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from tfx_distill.labels.partition import Partition, require_path_safe
from tfx_distill.labels.storage import problem, storage_of
from tfx_distill.schema import columns
from tfx_distill.schema.errors import EnvironmentProblem, LabelError

_DIGEST_DIGITS = 16
SUFFIX = ".parquet"
"""Of the name of a finished label file; `PARTIAL` that of one that is still written."""
PARTIAL = ".partial"


@dataclass(frozen=True)
class LabelShard:
    """A finished label file that waits for its commit; small and picklable.

    Attributes:
      partition: Where its rows belong.
      name: Name of the example shard whose examples it labels.
      path: File, relative to the table; empty without rows, as there is no file then.
      rows: Number of labelled examples.
      size: Bytes of the file.
      kinds: Kind of each labelled task.
      ranges: Smallest and largest value of each column of numbers; empty without rows.
    """

    partition: Partition
    name: str
    path: str
    rows: int
    size: int
    kinds: dict[str, str]
    ranges: dict[str, tuple[float, float]]

    @property
    def example_id_range(self) -> tuple[int, int] | None:
        """Smallest and largest id, or None without rows."""
        if columns.EXAMPLE_ID not in self.ranges:
            return None
        low, high = self.ranges[columns.EXAMPLE_ID]
        return int(low), int(high)


def shard_of(path: str) -> str:
    """Name of the example shard that a label file belongs to."""
    return os.path.basename(path)[: -len(SUFFIX) - _DIGEST_DIGITS - 1]


class LabelShardWriter:
    """Writes one label file, a row group per batch; memory is bounded by the batch.

    The file appears under its final name only when it is complete, and no reader of the table sees
    it before its commit. The name ends in a digest of the bytes: a retry that computes the same
    labels replaces its own file by an equal one, a retry that does not gets another name, and
    either way a file that was committed never changes under its readers.

    Example:
      with LabelShardWriter(table, partition, "train-00000", kinds, scored_at) as writer:
          for batch in batches:
              writer.write(batch.example_id, batch.logits, batch.missing_feature_fraction)
      shard = writer.shard

    Args:
      table: Folder or `s3://` URL of the label table; need not exist yet.
      partition: Where the rows belong.
      name: Name of the example shard.
      kinds: Kind of each task, `binary` or `regression`.
      scored_at: Time of this labelling, with a time zone; the same for all its shards, so that a
        retry repeats its bytes.
    """

    def __init__(
        self,
        table: str | Path,
        partition: Partition,
        name: str,
        kinds: Mapping[str, str],
        scored_at: datetime,
    ) -> None:
        require_path_safe(name, "example shard")
        if scored_at.tzinfo is None:
            raise ValueError("scored_at needs a time zone")
        self._table = storage_of(table)
        self._partition = partition
        self._name = name
        self._kinds = dict(kinds)
        self._schema = columns.label_table(self._kinds)
        self._scored_at = pa.scalar(scored_at, self._schema.field(columns.SCORED_AT).type)
        self._partial = self._table.scratch(partition.folder) / f"{name}-{uuid4().hex}{PARTIAL}"
        self._rows = 0
        self._ranges: dict[str, tuple[Any, Any]] = {}
        self._writer: pq.ParquetWriter | None = None
        self._shard: LabelShard | None = None

    @property
    def shard(self) -> LabelShard:
        """The finished shard, once the `with` block has ended without an error."""
        if self._shard is None:
            raise ValueError("the shard is not finished")
        return self._shard

    def __enter__(self) -> LabelShardWriter:
        try:
            self._partial.parent.mkdir(parents=True, exist_ok=True)
            self._writer = pq.ParquetWriter(
                str(self._partial),
                self._schema,
                # Ids and logits hardly repeat: a dictionary would only be built and thrown away.
                use_dictionary=[columns.MISSING_FEATURE_FRACTION, columns.SCORED_AT],
                compression="snappy",
            )
        except OSError as error:
            with contextlib.suppress(OSError):
                self._partial.unlink()
            raise self._storage_problem(error) from error
        return self

    def write(
        self,
        example_id: npt.NDArray[np.int64],
        labels: Mapping[str, npt.NDArray[np.float32]],
        missing_feature_fraction: npt.NDArray[np.float32],
    ) -> None:
        """Appends a batch.

        Args:
          example_id: int64, shape [n].
          labels: float32, shape [n], for each task: logits of binary, values of regression tasks.
          missing_feature_fraction: float32, shape [n], between 0 and 1.

        Raises:
          LabelError: A label is NaN or infinite.
          EnvironmentProblem: The disk is full, or cannot be written to.
          ValueError: Tasks, shapes or types are not those of this shard.
        """
        if self._writer is None:
            raise ValueError("write() belongs inside the 'with' block")
        if labels.keys() != self._kinds.keys():
            raise ValueError(f"labels of {sorted(labels)}, expected {sorted(self._kinds)}")
        batch: dict[str, npt.NDArray[Any]] = {columns.EXAMPLE_ID: example_id}
        for task, kind in self._kinds.items():
            batch[columns.teacher_label(task, kind)] = labels[task]
        batch[columns.MISSING_FEATURE_FRACTION] = missing_feature_fraction
        rows = len(example_id)
        for column, values in batch.items():
            expected = np.int64 if column == columns.EXAMPLE_ID else np.float32
            if values.shape != (rows,) or values.dtype != expected:
                raise ValueError(
                    f"{column} is {values.dtype} of shape {values.shape}, "
                    f"expected {np.dtype(expected)} of shape {(rows,)}"
                )
        if rows == 0:
            return
        if not ((missing_feature_fraction >= 0) & (missing_feature_fraction <= 1)).all():
            raise ValueError("missing_feature_fraction lies outside of 0 to 1")
        for task in self._kinds:
            self._require_finite(task, labels[task], example_id)
        arrays = [pa.array(values) for values in batch.values()]
        table = pa.Table.from_arrays(
            [*arrays, pa.repeat(self._scored_at, rows)], schema=self._schema
        )
        try:
            self._writer.write_table(table, row_group_size=rows)
        except OSError as error:
            raise self._storage_problem(error) from error
        for column, values in batch.items():
            low, high = values.min().item(), values.max().item()
            old_low, old_high = self._ranges.get(column, (low, high))
            self._ranges[column] = (min(low, old_low), max(high, old_high))
        self._rows += rows

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            self._close(keep=error is None)
        except OSError as failure:
            if error is None:
                raise self._storage_problem(failure) from failure
        finally:
            self._partial.unlink(missing_ok=True)

    def _close(self, *, keep: bool) -> None:
        writer, self._writer = self._writer, None
        if writer is not None:
            writer.close()
        if not keep:
            return
        path, size = "", 0
        # Some readers, pyarrow 18 among them, fail on a file without row groups.
        if self._rows:
            file = f"{self._name}-{_digest(self._partial)[:_DIGEST_DIGITS]}{SUFFIX}"
            path, size = f"{self._partition.folder}/{file}", self._partial.stat().st_size
            self._table.publish(self._partial, path)
        self._shard = LabelShard(
            partition=self._partition,
            name=self._name,
            path=path,
            rows=self._rows,
            size=size,
            kinds=self._kinds,
            ranges=self._ranges,
        )

    def _require_finite(
        self, task: str, labels: npt.NDArray[np.float32], example_id: npt.NDArray[np.int64]
    ) -> None:
        finite = np.isfinite(labels)
        if finite.all():
            return
        bad = np.flatnonzero(~finite)
        row = bad[0]
        raise LabelError(
            f"{self._partition}, task {task}, example shard {self._name}, "
            f"row {self._rows + row} (example_id {example_id[row]})",
            got=f"the label {labels[row]}; {len(bad)} of the {len(labels)} labels of this batch "
            "are not finite",
            expected="finite labels",
            fix="Label with a teacher whose evaluation is finite: lower its learning rate or set "
            "its clip_norm, and look for extreme values in the features of that row.",
        )

    def _storage_problem(self, error: OSError) -> EnvironmentProblem:
        where = f"{self._table.table} ({self._partition}, example shard {self._name})"
        kept = "Labels that were committed before are not affected."
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            folder = next(p for p in (self._partial, *self._partial.parents) if p.is_dir())
            free = shutil.disk_usage(folder).free
            return EnvironmentProblem(
                where,
                got=f"a full disk after {self._rows} rows ({free / 2**20:.0f} MiB free)",
                expected="room for the label file",
                fix=f"Free space or raise the quota there, then run again. {kept}",
            )
        return problem(where, error) or EnvironmentProblem(
            where,
            got=str(error),
            expected="a folder that can be written to",
            fix=f"Correct the folder or its permissions, then run again. {kept}",
        )


def _digest(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()
