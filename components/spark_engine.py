"""Shard work on Spark: a task is a shard, done by `mapInArrow`.

An error of ours that a worker raises reaches the driver as what it is: Spark hands back only the
text of a stack trace, so the error travels in it. Spark tries a failed task again, on another
worker if there is one, as often as `spark.task.maxFailures` says.
"""

from __future__ import annotations

import base64
import gc
import json
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import pyarrow as pa

from tfx_distill.components import spark_session
from tfx_distill.components.shard_work import Note, Shard, ShardWork, read_note, shard_table
from tfx_distill.schema import errors
from tfx_distill.schema.config import SparkConfig
from tfx_distill.schema.errors import DistillError, EnvironmentProblem

NOTES = "split string, name string, path string, rows long, size long, ranges string"
"""`shard_work.NOTES`, as Spark spells it."""
_MARK = "tfx-distill-error:"
_OF_PYTHON = "PythonException"

Batches = Iterable[pa.RecordBatch]


def run(work: ShardWork, shards: Sequence[Shard], config: SparkConfig) -> list[Note]:
    """Does the work of all shards.

    Args:
      work: What to do.
      shards: With what.
      config: Where Spark is.

    Returns:
      The notes of those attempts that Spark counts: one for each shard, however often it was tried.

    Raises:
      DistillError: As the work raises it.
      EnvironmentProblem: Spark cannot be used, or lost a task for good.
    """
    if not shards:
        return []
    with spark_session.session(config) as spark:
        from py4j.protocol import Py4JError
        from pyspark.errors import PySparkException

        # Numbers, and the shards in the function: rows of Python objects would take a second
        # Python worker for each core, and both would load TensorFlow in the end.
        numbers = spark.range(0, len(shards), 1, len(shards))
        frame = numbers.mapInArrow(_by_number(work, shard_table(shards)), NOTES)
        try:
            rows = frame.collect()
        except (Py4JError, PySparkException) as error:
            raise _explained(error, config.master) from error
        return [read_note(row.asDict()) for row in rows]


def _by_number(work: ShardWork, shards: pa.Table) -> Callable[[Batches], Iterator[pa.RecordBatch]]:
    """The work on numbers of shards."""

    def do(batches: Batches) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            try:
                yield from work(shards.take(batch.column(0)).to_batches())
            except DistillError as error:
                raise RuntimeError(_packed(error)) from error
        # Spark's worker looks for garbage after each task: a quarter of a second, with all that
        # TensorFlow keeps. What is there after the first one stays, and need not be looked at.
        if not gc.get_freeze_count():
            gc.freeze()

    return do


def _packed(error: DistillError) -> str:
    parts = (type(error).__name__, error.where, error.got, error.expected, error.fix)
    return _MARK + base64.b64encode(json.dumps(parts).encode()).decode()


def _unpacked(text: str) -> DistillError | None:
    found = re.search(_MARK + r"([A-Za-z0-9+/=]+)", text)
    if found is None:
        return None
    name, where, got, expected, fix = json.loads(base64.b64decode(found[1]))
    kind = getattr(errors, name, EnvironmentProblem)
    return kind(where, got=got, expected=expected, fix=fix)


def _explained(error: Any, master: str) -> BaseException:
    """Our own error, or what Spark says of its cluster; a defect in a worker stays what it is."""
    text = str(error)
    own = _unpacked(text)
    if own is not None:
        return own
    missing = re.search(r"^ModuleNotFoundError: .*", text, re.MULTILINE)
    if _OF_PYTHON in text and missing is None:
        return RuntimeError(f"a Python worker of Spark failed: {text}")
    return EnvironmentProblem(
        f"Spark at {master}",
        got=missing[0] if missing else spark_session.reason(error),
        expected="a cluster whose workers finish the job",
        fix="Each node needs this Python environment under the same path, the files of the run, "
        "and memory for TensorFlow; the logs of the executors say more. Then run again.",
    )
