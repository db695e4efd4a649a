"""Whether reading examples holds a training up: from disk against batches that lie in memory.

    .venv/bin/python -m benchmarks.input --json runs/bench/input.json

For each student of the demo and for both teachers: the epochs of a training on a feature table that
is read, shuffled and cut into batches as always, and the same number of steps on batches made
beforehand; a student with one thread, as in a run that trains several, a teacher with all.
`ratio_disk_to_memory` is the lowest ratio of examples a second; an input that costs nothing would
give 1. The input alone shows how far it is from becoming the limit.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks import one_thread, prepared, result
from benchmarks.turns import in_turns, medians, paired_ratio
from tfx_distill.pipeline import run_log
from tfx_distill.schema.config import RunConfig, TrainingConfig

DISK, MEMORY, INPUT = "from disk", "from memory", "input alone"


def of_model(training: Any, asked: TrainingConfig, files: list[Path], runs: int) -> dict[str, Any]:
    """Seconds a step of one model.

    Args:
      training: A `trainer.training.Training`.
      asked: How it trains.
      files: Shards of the feature table.
      runs: Trainings of each way.
    """
    from tfx_distill.trainer.input import Examples, ahead

    epochs, batch_size = asked.epochs, asked.batch_size

    def made() -> Iterator[Iterator[Any]]:
        examples = Examples(files, batch_size, seed=(0,), epochs=epochs)
        for _ in range(epochs):
            yield training.feed.tensors(examples.batches())

    # Full batches only: the last one would be a larger part of a shorter epoch.
    held = [tensors for tensors, rows in next(made()) if rows == batch_size]

    def from_disk() -> None:
        for epoch in made():
            for tensors, _ in ahead(epoch):
                training.step(tensors).numpy()

    def from_memory() -> None:
        for _ in range(epochs):
            for tensors in held:
                training.step(tensors).numpy()

    def alone() -> None:
        for epoch in made():
            for _ in epoch:
                pass

    seconds = in_turns({DISK: from_disk, MEMORY: from_memory, INPUT: alone}, runs)
    typical = medians(seconds)
    steps = sum(1 for epoch in made() for _ in epoch)
    per_step = {DISK: steps, MEMORY: epochs * len(held), INPUT: steps}
    return {
        "milliseconds": {way: 1000 * typical[way] / per_step[way] for way in typical},
        "disk_to_memory": paired_ratio(seconds[MEMORY], seconds[DISK]) * steps / per_step[MEMORY],
        "runs": seconds,
    }


def of_students(folder: Path, *, rows: int, runs: int) -> dict[str, Any]:
    """Those of the demo; arguments as of `measure`."""
    from benchmarks.students import begin
    from tfx_distill.trainer import feature_table

    made = prepared.prepare(folder, rows)
    files = feature_table.shards(made.features, "train")
    return {
        student.name: of_model(
            begin(made.config, student, twin=True), student.training, files, runs
        )
        for student in made.config.students
    }


def measure(folder: Path, *, rows: int, runs: int) -> dict[str, Any]:
    """All models of the demo.

    Args:
      folder: For everything that is written.
      rows: Train examples.
      runs: Trainings of each way.
    """
    from benchmarks.students import begin_teacher
    from tfx_distill.trainer import feature_table

    made = prepared.prepare(folder, rows)
    files = feature_table.shards(made.features, "train")
    models = one_thread.call(of_students, folder, rows=rows, runs=runs)
    for name, model in prepared.TEACHERS.items():
        teacher = {"teacher": {"model": model}}
        config = RunConfig.model_validate(made.config.model_dump() | teacher)
        models[name] = of_model(begin_teacher(config), config.teacher.training, files, runs)
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
