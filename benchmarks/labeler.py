"""How fast the TeacherLabeler is, against TFX's and Beam's ways and against its limit.

    .venv/bin/python -m benchmarks.labeler --json runs/bench/labeler.json

Measured for a small and a large teacher, medians of several runs in turns in one process:

- the TeacherLabeler component as a whole: reading the feature table, labelling, writing, measuring
  the quality of the labels, committing;
- a plain loop over the same files: read, run the model, write Parquet, nothing else;
- the model alone, on batches in memory;
- TFX's BulkInferrer and Beam's RunInference on examples of the same log with the same model. They
  read serialised tf.Examples, and fewer of them; what they need before the first example is not
  held against them.

`ratio_to_plain_loop` and `ratio_to_bulk_inferrer` are ratios of examples a second, the lower one of
the two teachers. Peak memory is that of a process that does nothing but label.
"""

from __future__ import annotations

import multiprocessing
import shutil
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks import prepared, result
from benchmarks.prepared import Prepared
from benchmarks.turns import in_turns, medians, paired_ratio
from tfx_distill.pipeline import run_log

LABELER, LOOP, MEMORY = "TeacherLabeler", "plain loop", "model in memory"
BULK_INFERRER, RUN_INFERENCE = "TFX BulkInferrer", "Beam RunInference"
BATCH_ROWS = 4096
"""Of the plain loop and of the model in memory: the best of 1,024 to 32,768 for the large model."""


@dataclass(frozen=True)
class Work:
    """What is labelled, by whom.

    Attributes:
      prepared: Where it comes from.
      features: Folder of the feature table.
      teacher: Folder of the Model artifact.
      scratch: Folder for what is written; emptied before each run.
    """

    prepared: Prepared
    features: Path
    teacher: Path
    scratch: Path


def label(work: Work) -> None:
    """Runs the TeacherLabeler into a new label table."""
    from tfx.types import standard_artifacts

    from benchmarks.artifacts import artifact, execute
    from tfx_distill.components.artifacts import TeacherLabels
    from tfx_distill.components.teacher_labeler import LabelerConfig, TeacherLabeler

    shutil.rmtree(work.scratch, ignore_errors=True)
    blessing = artifact(standard_artifacts.ModelBlessing, work.scratch)
    blessing.set_int_custom_property("blessed", 1)
    graph = artifact(standard_artifacts.TransformGraph, work.prepared.transform_graph)
    config = LabelerConfig.of(work.prepared.config)
    config = config.model_copy(update={"table": str(work.scratch / "labels")})
    execute(
        TeacherLabeler.EXECUTOR_SPEC.executor_class,
        work.scratch,
        {
            "features": artifact(standard_artifacts.Examples, work.features),
            "transform_graph": graph,
            "model": artifact(standard_artifacts.Model, work.teacher),
            "model_blessing": blessing,
        },
        {"teacher_labels": artifact(TeacherLabels, work.scratch / "artifact")},
        {"config": config.model_dump_json()},
    )


def plain_loop(work: Work) -> None:
    """Reads, runs the model, writes: what nobody can leave out."""
    import pyarrow as pa
    import pyarrow.parquet as pq
    import tensorflow as tf

    from tfx_distill.schema import columns
    from tfx_distill.trainer import feature_table
    from tfx_distill.trainer.features import Blocks
    from tfx_distill.trainer.loaded_model import LoadedModel

    shutil.rmtree(work.scratch, ignore_errors=True)
    work.scratch.mkdir(parents=True)
    model = LoadedModel(work.teacher / prepared.SERVING)
    blocks = Blocks.of(work.prepared.config.features).spec
    schema = pa.schema(
        [
            (columns.EXAMPLE_ID, pa.int64()),
            *((task.name, pa.float32()) for task in work.prepared.config.tasks),
        ]
    )
    for split in columns.SPLITS:
        for file in feature_table.shards(work.features, split):
            rows = feature_table.read(file, [columns.EXAMPLE_ID, *blocks])
            target = work.scratch / f"{split}-{file.stem}.parquet"
            with pq.ParquetWriter(target, schema) as writer:
                for start in range(0, len(rows[columns.EXAMPLE_ID]), BATCH_ROWS):
                    part = slice(start, start + BATCH_ROWS)
                    found = model("logits", {n: tf.constant(rows[n][part]) for n in blocks})
                    ids = {columns.EXAMPLE_ID: rows[columns.EXAMPLE_ID][part]}
                    writer.write_table(pa.table({**ids, **found}, schema=schema))


def in_memory(work: Work) -> tuple[Callable[[], None], int]:
    """What runs the model alone on the batches of one shard, and how many examples they are."""
    import tensorflow as tf

    from tfx_distill.trainer import feature_table
    from tfx_distill.trainer.features import Blocks
    from tfx_distill.trainer.loaded_model import LoadedModel

    model = LoadedModel(work.teacher / prepared.SERVING)
    blocks = Blocks.of(work.prepared.config.features).spec
    rows = feature_table.read(feature_table.shards(work.features, "train")[0], list(blocks))
    size = min(BATCH_ROWS, len(next(iter(rows.values()))))
    count = len(next(iter(rows.values()))) // size * size
    batches = [
        {name: tf.constant(rows[name][start : start + size]) for name in blocks}
        for start in range(0, count, size)
    ]

    def run() -> None:
        for batch in batches:
            model("logits", batch)

    return run, count


def peak_mib(work: Work) -> float:
    """Peak memory of this process after it has labelled, in MiB."""
    label(work)
    # Not `ru_maxrss`, which begins with that of the parent.
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


def of_teacher(work: Work, count: int, peers: Path, slow_rows: int, runs: int) -> dict[str, Any]:
    """The figures of one teacher.

    Args:
      work: What is labelled.
      count: Examples of the feature table.
      peers: Folder for the tf.Examples.
      slow_rows: How many tf.Examples.
      runs: Of each way.
    """
    from benchmarks.peers import bulk_inferrer, run_inference, write_examples

    memory, in_batches = in_memory(work)
    ways: dict[str, Callable[[], None]] = {
        LABELER: partial(label, work),
        LOOP: partial(plain_loop, work),
        MEMORY: memory,
    }
    few = {}
    for rows in (slow_rows, slow_rows // 10):
        shards = sorted((work.prepared.examples / "Split-train").glob("*.parquet"))
        names = work.prepared.config.features.names
        few[rows] = write_examples(shards, names, rows, peers / f"examples-{rows}")
        for name, peer in ((BULK_INFERRER, bulk_inferrer), (RUN_INFERENCE, run_inference)):
            ways[f"{name}, {rows} rows"] = partial(peer, few[rows], work.teacher, work.scratch)
    seconds = in_turns(ways, runs)
    typical = medians(seconds)
    speed = {LABELER: count / typical[LABELER], LOOP: count / typical[LOOP]}
    speed[MEMORY] = in_batches / typical[MEMORY]
    for name in (BULK_INFERRER, RUN_INFERENCE):
        more, less = (typical[f"{name}, {rows} rows"] for rows in few)
        speed[name] = (slow_rows - slow_rows // 10) / (more - less)
    # A process of its own: this one holds what the others left behind.
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as alone:
        peak = alone.submit(peak_mib, work).result()
    return {
        "examples_per_second": speed,
        "to_plain_loop": paired_ratio(seconds[LOOP], seconds[LABELER]),
        "to_bulk_inferrer": speed[LABELER] / speed[BULK_INFERRER],
        "to_run_inference": speed[LABELER] / speed[RUN_INFERENCE],
        "to_model_in_memory": speed[LABELER] / speed[MEMORY],
        "peak_mib": peak,
        "seconds": seconds,
    }


def measure(folder: Path, *, rows: int, copies: int, slow_rows: int, runs: int) -> dict[str, Any]:
    """All figures.

    Args:
      folder: For everything that is written.
      rows: Simulated train examples.
      copies: How many times each of them is labelled, under another id.
      slow_rows: Examples for the ways that read tf.Examples.
      runs: Of each way.
    """
    made = prepared.prepare(folder, rows)
    features, count = prepared.repeated(made, copies)
    teachers = {
        name: of_teacher(
            Work(made, features, path, folder / "scratch"), count, folder, slow_rows, runs
        )
        for name, path in made.teachers.items()
    }
    found = {
        f"ratio_{name}": min(teacher[name] for teacher in teachers.values())
        for name in ("to_plain_loop", "to_bulk_inferrer", "to_run_inference", "to_model_in_memory")
    }
    peak = max(teacher["peak_mib"] for teacher in teachers.values())
    return {**found, "peak_mib": peak, "examples": count, "teachers": teachers}


def table(found: dict[str, Any]) -> str:
    """Examples a second of all ways, by teacher."""
    teachers = found["teachers"]
    ways = next(iter(teachers.values()))["examples_per_second"]
    rows = [
        [way, *(f"{teacher['examples_per_second'][way]:,.0f}" for teacher in teachers.values())]
        for way in ways
    ]
    rows.append(["peak MiB", *(f"{teacher['peak_mib']:,.0f}" for teacher in teachers.values())])
    return result.markdown(["examples/s", *teachers], rows)


def main() -> None:
    """Measures and prints."""
    parser = result.parser(__doc__)
    parser.add_argument("--rows", type=int, help="simulated train examples")
    asked = parser.parse_args()
    run_log.divert(asked.into)
    found = measure(
        asked.into,
        rows=asked.rows or (20_000 if asked.small else 200_000),
        copies=10,
        slow_rows=5_000 if asked.small else 20_000,
        runs=asked.runs,
    )
    result.show(found, table(found), asked.json)


if __name__ == "__main__":
    main()
