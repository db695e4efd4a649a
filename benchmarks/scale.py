"""A cost model: core-seconds and bytes per million examples, stage by stage.

    .venv/bin/python -m benchmarks.scale --json runs/bench/scale.json

Each stage runs on 10^4 to 10^7 examples (training of the large teacher to 10^6), and a line through
the sizes gives what it costs however little there is and what a million examples cost. Ingestion,
statistics, Transform and evaluation are measured by `benchmarks.pipeline`. Then: how many machines
of 16 cores would do a billion, and a hundred billion, examples a day.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import prepared, result
from benchmarks.labeler import Work, label
from benchmarks.prepared import Prepared
from tfx_distill.pipeline import run_log
from tfx_distill.pipeline.meter import Meter

CORES = 16
USED = 0.5
"""Share of a machine's cores that does work over a day: the rest is waiting, failures, peaks."""
A_DAY = (1_000_000_000, 100_000_000_000)
_BASE = 200_000
"""Rows that are prepared; larger sizes are copies of them."""


def line(sizes: list[int], values: list[float]) -> tuple[float, float]:
    """Fixed part and slope per million of the line that is nearest in relative terms.

    Weighted by 1 / value: a tenth too much is as bad at 10^4 as at 10^7. Neither is negative.
    """
    x, y = np.array(sizes) / 1e6, np.array(values)
    # y = fixed + slope * x, divided by y: what is left over is a relative error.
    both = np.stack([1 / y, x / y], axis=1)
    for columns in ([0, 1], [1]):
        found, *_ = np.linalg.lstsq(both[:, columns], np.ones_like(y), rcond=None)
        if (found >= 0).all():
            break
    return (float(found[0]), float(found[1])) if len(found) == 2 else (0.0, float(found[0]))


def machines(core_seconds_per_million: float, a_day: int) -> int:
    """Machines of `CORES` cores that do so many examples within a day."""
    needed = core_seconds_per_million * a_day / 1e6
    return max(1, math.ceil(needed / (86_400 * CORES * USED)))


Stage = Callable[[int], tuple[Callable[[], object], int]]
"""From about how many examples to what works on them, all prepared, and how many they are."""


def stages(made: Prepared, folder: Path) -> dict[str, Stage]:
    """What is measured, by name."""
    from benchmarks.students import begin, begin_teacher
    from tfx_distill.datasets.example_shards import read_shard
    from tfx_distill.schema.config import RunConfig
    from tfx_distill.trainer import feature_table
    from tfx_distill.trainer.input import Examples, ahead
    from tfx_distill.trainer.materialize import Materializer

    config = made.config
    materializer = Materializer(str(made.transform_graph), config.features, config.tasks)
    raw = sorted((made.examples / "Split-train").glob("*.parquet"))

    def materialized(rows: int) -> tuple[Callable[[], object], int]:
        return lambda: materialize(rows), rows

    def materialize(rows: int) -> None:
        done, number = 0, 0
        while done < rows:
            target = folder / "scratch-features" / f"part-{number % 8}.arrow"
            with feature_table.Writer(target) as writer:
                for batch in materializer.rows(read_shard(raw[number % len(raw)])):
                    part = batch.slice(0, rows - done)
                    writer.write(part)
                    done += part.num_rows
                    if done == rows:
                        break
            number += 1

    def labelled(teacher: str) -> Stage:
        def ready(rows: int) -> tuple[Callable[[], object], int]:
            source = made if rows >= _BASE else prepared.prepare(folder, rows)
            features, count = prepared.repeated(source, max(1, round(rows / source.rows)))
            work = Work(source, features, made.teachers[teacher], folder / "scratch")
            return lambda: label(work), count

        return ready

    def trained(training: Any, batch_size: int) -> Stage:
        files = feature_table.shards(made.features, "train")

        def run(rows: int) -> None:
            done = 0
            copies = -(-rows // made.rows)
            batches = Examples(files * copies, batch_size, seed=(0,)).batches()
            for tensors, count in ahead(training.feed.tensors(batches)):
                training.step(tensors).numpy()
                done += count
                if done >= rows:
                    return

        return lambda rows: (lambda: run(rows), rows)

    teacher = RunConfig.model_validate(
        config.model_dump() | {"teacher": {"model": prepared.TEACHERS[prepared.LARGE]}}
    )
    student = config.students[0]
    return {
        "materialise features": materialized,
        "label, large teacher": labelled(prepared.LARGE),
        "label, small teacher": labelled(prepared.SMALL),
        "train a student, an epoch": trained(
            begin(config, student, twin=True), student.training.batch_size
        ),
        "train the large teacher, an epoch": trained(
            begin_teacher(teacher), teacher.teacher.training.batch_size
        ),
    }


def bytes_per_example(made: Prepared, folder: Path) -> dict[str, float]:
    """Of what is stored."""

    def size(place: Path, suffix: str) -> int:
        return sum(file.stat().st_size for file in place.rglob(f"*{suffix}"))

    label(Work(made, made.features, made.teachers[prepared.LARGE], folder / "scratch"))
    logs = Path(made.config.data.spans.split("/span-")[0])
    every = made.rows * 1.25
    return {
        "logs (Parquet)": size(logs, ".parquet") / every,
        "ingested examples (Parquet)": size(made.examples, ".parquet") / every,
        "feature table (Arrow)": size(made.features, ".arrow") / every,
        "labels (Parquet)": size(folder / "scratch" / "labels", ".parquet") / every,
    }


def measure(folder: Path, sizes: list[int]) -> dict[str, Any]:
    """All stages at all sizes."""
    made = prepared.prepare(folder, _BASE)
    found = {}
    for name, ready in stages(made, folder).items():
        asked = [s for s in sizes if s <= 1_000_000 or "train the large" not in name]
        ready(asked[0])[0]()  # what a process pays once is paid
        own, seconds, cores = [], [], []
        for size in asked:
            work, count = ready(size)
            with Meter() as meter:
                work()
            own.append(count)
            cores.append(meter.cpu_seconds)
            seconds.append(meter.seconds)
        fixed, slope = line(own, cores)
        off = [(fixed + slope * s / 1e6) / c - 1 for s, c in zip(own, cores, strict=True)]
        found[name] = {
            "sizes": own,
            "core_seconds": cores,
            "seconds": seconds,
            "fixed": fixed,
            "a_million": slope,
            "off": off,
        }
        print(json.dumps({name: found[name]}), flush=True)
    return {"stages": found, "bytes_per_example": bytes_per_example(made, folder)}


def main() -> None:
    """Measures and prints."""
    asked = result.parser(__doc__).parse_args()
    run_log.divert(asked.into)
    sizes = [10_000, 100_000] if asked.small else [10_000, 100_000, 1_000_000, 10_000_000]
    found = measure(asked.into, sizes)
    rows = [
        [
            name,
            f"{stage['fixed']:.1f}",
            f"{stage['a_million']:.1f}",
            f"{max(map(abs, stage['off'])):.0%}",
            *(f"{machines(stage['a_million'], day):,}" for day in A_DAY),
        ]
        for name, stage in found["stages"].items()
    ]
    header = ["stage", "fixed, core s", "core s a million", "farthest from the line"]
    table = result.markdown([*header, *(f"machines for {day:.0e} a day" for day in A_DAY)], rows)
    sizes_of = [[n, f"{b:.0f}"] for n, b in found["bytes_per_example"].items()]
    table += "\n\n" + result.markdown(["stored", "bytes an example"], sizes_of)
    result.show(found, table, asked.json)


if __name__ == "__main__":
    main()
