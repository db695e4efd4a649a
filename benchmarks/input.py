"""Whether reading examples holds a training up: from disk against batches that lie in memory.

    .venv/bin/python -m benchmarks.input --json runs/bench/input.json

For each student of the demo and for both teachers: an epoch of training steps on a feature table
that is read, shuffled and cut into batches as always, and the same number of steps on batches made
beforehand. `ratio_disk_to_memory` is the lowest ratio of examples a second; an input that costs
nothing would give 1. The input alone shows how far it is from becoming the limit.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks import prepared, result
from benchmarks.turns import in_turns, medians, paired_ratio
from tfx_distill.pipeline import run_log
from tfx_distill.schema.config import RunConfig

DISK, MEMORY, INPUT = "from disk", "from memory", "input alone"


def of_model(training: Any, files: list[Path], batch_size: int, runs: int) -> dict[str, Any]:
    """Seconds a step of one model.

    Args:
      training: A `trainer.training.Training`.
      files: Shards of the feature table.
      batch_size: Examples a step.
      runs: Epochs of each way.
    """
    from tfx_distill.trainer.input import Examples, ahead

    def made() -> Iterator[Any]:
        return training.feed.tensors(Examples(files, batch_size, seed=(0,)).batches())

    # Full batches only: the last one would be a larger part of a shorter epoch.
    held = [tensors for tensors, rows in made() if rows == batch_size]

    def from_disk() -> None:
        for tensors, _ in ahead(made()):
            training.step(tensors).numpy()

    def from_memory() -> None:
        for tensors in held:
            training.step(tensors).numpy()

    def alone() -> None:
        for _ in made():
            pass

    seconds = in_turns({DISK: from_disk, MEMORY: from_memory, INPUT: alone}, runs)
    typical = medians(seconds)
    rows = sum(1 for _ in made())
    per_step = {DISK: rows, MEMORY: len(held), INPUT: rows}
    return {
        "milliseconds": {way: 1000 * typical[way] / per_step[way] for way in typical},
        "disk_to_memory": paired_ratio(seconds[MEMORY], seconds[DISK]) * rows / len(held),
        "runs": seconds,
    }


def measure(folder: Path, *, rows: int, runs: int) -> dict[str, Any]:
    """All models of the demo.

    Args:
      folder: For everything that is written.
      rows: Train examples.
      runs: Epochs of each way.
    """
    from benchmarks.students import begin, begin_teacher
    from tfx_distill.trainer import feature_table

    made = prepared.prepare(folder, rows)
    files = feature_table.shards(made.features, "train")
    models = {}
    for student in made.config.students:
        training = begin(made.config, student, twin=True)
        models[student.name] = of_model(training, files, student.training.batch_size, runs)
    for name, model in prepared.TEACHERS.items():
        teacher = {"model": model}
        config = RunConfig.model_validate(made.config.model_dump() | {"teacher": teacher})
        size = config.teacher.training.batch_size
        models[name] = of_model(begin_teacher(config), files, size, runs)
    return {
        "ratio_disk_to_memory": min(model["disk_to_memory"] for model in models.values()),
        "examples": made.rows,
        "models": models,
    }


def main() -> None:
    """Measures and prints."""
    asked = result.parser(__doc__).parse_args()
    run_log.divert(asked.into)
    found = measure(asked.into, rows=20_000 if asked.small else 200_000, runs=asked.runs)
    models = found["models"]
    ways = list(next(iter(models.values()))["milliseconds"])
    table = result.markdown(
        ["ms a step", *ways, "memory/disk"],
        [
            [
                name,
                *(f"{model['milliseconds'][way]:.2f}" for way in ways),
                f"{model['disk_to_memory']:.2f}",
            ]
            for name, model in models.items()
        ],
    )
    result.show(found, table, asked.json)


if __name__ == "__main__":
    main()
