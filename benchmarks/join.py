"""What teacher labels cost a training: the join by id, and the heads that learn from them.

    .venv/bin/python -m benchmarks.join --json runs/bench/join.json

A student's epoch with labels from the label table, its epoch with the same labels already in
memory, and the epoch of its undistilled twin, medians in turns; of a training of several epochs
this is the first, in which labels are read. `ratio_join` is the first over the second: reading and
joining. `ratio_with_labels` is the first over the third: all that distillation costs, the
operations of the further heads included.

Then labels are joined for a table of ten million examples whose order is not that of the labels:
time, and the memory of a process that does nothing else.
"""

from __future__ import annotations

import multiprocessing
import shutil
import time
from concurrent.futures import ProcessPoolExecutor
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import prepared, result
from benchmarks.labeler import Work, label
from benchmarks.prepared import Prepared
from benchmarks.turns import in_turns, medians, paired_ratio
from tfx_distill.labels.commit import commit
from tfx_distill.labels.join import LabelJoiner
from tfx_distill.labels.partition import Partition
from tfx_distill.labels.provenance import Provenance
from tfx_distill.labels.shard import LabelShardWriter
from tfx_distill.labels.snapshot import Snapshot
from tfx_distill.pipeline import run_log
from tfx_distill.schema.config import StudentConfig

_SHARD_ROWS = 65_536


def training(folder: Path, *, rows: int, runs: int) -> dict[str, Any]:
    """Seconds of an epoch, for each student of the demo.

    Args:
      folder: For everything that is written.
      rows: Train examples.
      runs: Epochs of each way.
    """
    from tfx_distill.components.artifacts import read_snapshots

    made = prepared.prepare(folder, rows)
    work = Work(made, made.features, made.teachers[prepared.LARGE], folder / "joined")
    label(work)
    snapshots = read_snapshots(str(work.scratch / "artifact"))
    students = {s.name: of_student(made, s, snapshots, runs) for s in made.config.students}
    return {"examples": made.rows, "students": students}


def of_student(
    made: Prepared, student: StudentConfig, snapshots: list[Snapshot], runs: int
) -> dict[str, Any]:
    """Seconds of an epoch of one student, and ratios of them."""
    from benchmarks.students import LabelsInMemory, begin

    kinds = {task.name: task.kind for task in made.config.tasks}

    def joiner() -> LabelJoiner:
        return LabelJoiner(snapshots, "train", kinds)

    in_memory = LabelsInMemory(joiner(), made.features)
    taught, twin = (begin(made.config, student, twin=is_twin) for is_twin in (False, True))
    given: dict[str, Any] = {"examples": made.features, "span": 0, "epochs": 1}
    seconds = in_turns(
        {
            "labels from the table": lambda: taught.fit(labels=joiner(), **given),
            "labels in memory": lambda: taught.fit(labels=in_memory, **given),
            "no labels": lambda: twin.fit(**given),
        },
        runs,
    )
    joined, known, without = seconds.values()
    return {
        "seconds": medians(seconds),
        "join": paired_ratio(joined, known),
        "with_labels": paired_ratio(joined, without),
        "runs": seconds,
    }


def _write(table: Path, rows: int) -> Snapshot:
    """A label table with one task whose label is a function of the id."""
    shutil.rmtree(table, ignore_errors=True)
    shards = []
    for number, start in enumerate(range(0, rows, _SHARD_ROWS)):
        ids = _ids(np.arange(start, min(start + _SHARD_ROWS, rows)))
        with LabelShardWriter(
            table,
            Partition("teacher", 0, "train"),
            f"part-{number:05d}",
            {"click": "binary"},
            datetime(2026, 1, 1, tzinfo=timezone.utc),
        ) as writer:
            writer.write(ids, {"click": _label(ids)}, np.zeros(len(ids), np.float32))
        shards.append(writer.shard)
    source = Provenance("1", "teacher", "examples", "transform", "config", None)
    return commit(table, shards, source)


def _ids(places: Any) -> Any:
    """Ids without an order, each once: an odd factor permutes the numbers of 64 bits."""
    with np.errstate(over="ignore"):
        return (places.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)).view(np.int64)


def _label(ids: Any) -> Any:
    return (ids % 1000).astype(np.float32)


def many(table: Path, rows: int, shards: int, *, elsewhere: bool) -> dict[str, float]:
    """Joins some shards of a table of many labels, in a process of its own.

    Args:
      table: Folder of the label table.
      rows: Labels in it.
      shards: How many shards of examples are joined.
      elsewhere: Whether their examples lie in other label files than those of their name, spread
        over all of them.

    Returns:
      `seconds`, `examples`, and `peak_mib` of the process, of which `before_mib` were there at the
      beginning.
    """
    snapshot = _write(table, rows)
    before = _resident("VmRSS")
    joiner = LabelJoiner(snapshot, "train", {"click": "binary"})
    count, seconds = 0, 0.0
    for number in range(shards):
        if elsewhere:
            places = np.arange(number, rows, rows // _SHARD_ROWS)[:_SHARD_ROWS]
        else:
            places = np.arange(number * _SHARD_ROWS, min((number + 1) * _SHARD_ROWS, rows))
        ids = _ids(places)
        started = time.perf_counter()
        found, present = joiner.join(f"part-{number:05d}", ids)
        seconds += time.perf_counter() - started
        if not present.all() or not np.array_equal(found["click"], _label(ids)):
            raise RuntimeError("wrong labels")
        count += len(ids)
    peak = _resident("VmHWM")
    return {"seconds": seconds, "examples": count, "peak_mib": peak, "before_mib": before}


def _resident(kind: str) -> float:
    status = Path("/proc/self/status").read_text()
    return int(status.split(f"{kind}:")[1].split()[0]) / 1024


def main() -> None:
    """Measures and prints."""
    asked = result.parser(__doc__).parse_args()
    run_log.divert(asked.into)
    trained = training(asked.into, rows=20_000 if asked.small else 200_000, runs=asked.runs)
    rows = 1_000_000 if asked.small else 10_000_000
    joins = {}
    for name, shards, elsewhere in (
        ("in the order of the labels", rows // _SHARD_ROWS, False),
        ("spread over all label files", 3, True),
    ):
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as alone:
            place = asked.into / "many"
            joins[name] = alone.submit(many, place, rows, shards, elsewhere=elsewhere).result()
    students = trained["students"]
    found = {
        "ratio_join": max(student["join"] for student in students.values()),
        "ratio_with_labels": max(student["with_labels"] for student in students.values()),
        "training": trained,
        "labels": rows,
        "joins": joins,
    }
    ways = list(next(iter(students.values()))["seconds"])
    table = result.markdown(
        ["seconds an epoch", *ways],
        [[name, *(f"{s['seconds'][way]:.2f}" for way in ways)] for name, s in students.items()],
    )
    table += "\n\n" + result.markdown(
        [f"{rows:,} labels, examples", "examples joined", "seconds", "peak MiB", "before"],
        [
            [
                name,
                f"{join['examples']:,.0f}",
                f"{join['seconds']:.2f}",
                f"{join['peak_mib']:,.0f}",
                f"{join['before_mib']:,.0f}",
            ]
            for name, join in joins.items()
        ],
    )
    result.show(found, table, asked.json)


if __name__ == "__main__":
    main()
