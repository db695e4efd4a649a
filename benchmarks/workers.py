"""What several workers make of a training: seconds and losses beside those of one.

    .venv/bin/python -m benchmarks.workers --run runs/video --workers 1 2 --json runs/workers.json

Trains the teacher of a run again, on the feature table that the run has left.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from tfx_distill.pipeline import run_log


def measure(run: Path, count: int, *, epochs: int, batch_size: int) -> dict[str, Any]:
    """Seconds and losses of one training by `count` workers."""
    from tfx_distill.schema.config import RunConfig
    from tfx_distill.trainer import course as courses
    from tfx_distill.trainer import local_workers
    from tfx_distill.trainer.chunks import Chunk
    from tfx_distill.trainer.course import Course
    from tfx_distill.trainer.job import TrainingJob

    config = RunConfig.from_yaml((run / "config.yaml").read_text())
    job = TrainingJob.of_teacher(config)
    training = {"epochs": epochs, "batch_size": batch_size, "early_stopping_patience": None}
    job = job.model_copy(
        update={
            "training": job.training.model_copy(update=training),
            "workers": count,
        }
    )
    tables = (run / "artifacts/FeatureMaterializer/features").iterdir()
    newest = max(tables, key=lambda folder: int(folder.name))
    course = Course(job, (Chunk(0, str(newest), "graph", 0),))
    started = time.monotonic()
    if count == 1:
        trained = courses.train(course)
    else:
        with TemporaryDirectory() as folder:
            trained = local_workers.train(course, Path(folder))
    (record,) = trained.records
    return {
        "workers": count,
        "batch_size": batch_size,
        "epochs": epochs,
        "seconds": record.seconds,
        "seconds_with_start": time.monotonic() - started,
        "examples_per_second": record.examples * epochs / record.seconds,
        "loss": record.losses["loss"],
        "val_loss": record.losses["val_loss"],
    }


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--run", type=Path, default=Path("runs/video"))
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--batch-size", type=int, default=16_384)
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args()
    run_log.divert(asked.run)
    results = []
    print("| workers | seconds | with their start | examples/s | last loss | last eval loss |")
    print("|---|---|---|---|---|---|")
    for count in asked.workers:
        found = measure(asked.run, count, epochs=asked.epochs, batch_size=asked.batch_size)
        results.append(found)
        print(
            f"| {count} | {found['seconds']:.1f} | {found['seconds_with_start']:.1f} | "
            f"{found['examples_per_second']:,.0f} | {found['loss'][-1]:.6f} | "
            f"{found['val_loss'][-1]:.6f} |",
            flush=True,
        )
    if asked.json is not None:
        asked.json.write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
