"""The entry point of TFX's Trainer for every model: teacher, students and twins."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from tfx.components.trainer.fn_args_utils import FnArgs

from tfx_distill.trainer import chunks, export, local_workers, training_state
from tfx_distill.trainer import course as courses
from tfx_distill.trainer.chunk_record import ChunkRecord
from tfx_distill.trainer.course import Course, Trained
from tfx_distill.trainer.folds import fold_model
from tfx_distill.trainer.input import Fold
from tfx_distill.trainer.job import TrainingJob
from tfx_distill.trainer.training_state import Milestone

__all__ = ["CHUNKS", "JOB", "RECORD", "RUN_FN", "Record", "TrainingJob", "run_fn"]

RUN_FN = "tfx_distill.trainer.run.run_fn"
JOB = "job"
CHUNKS = "chunks"
"""Keys of `custom_config`: a `TrainingJob`, and the `Chunk`s to train on, both as JSON."""
LAUNCH = "launch"
"""Key of `custom_config`: what trains a `Course` by several workers, if not `local_workers`."""
RECORD = "training.json"
"""File of the ModelRun artifact that holds a `Record`."""
WORKERS = "workers"
"""What the name of a folder beside that of the ModelRun artifact ends in: it has the logs of the
workers, where there are several. The outputs of a component that failed are removed, and then the
logs are wanted most."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Record:
    """What is worth keeping of a training besides the model.

    Attributes:
      epochs: How many were trained, over all chunks.
      losses: By name, one value per epoch; `val_` marks the eval split.
      parameters: Trained numbers in the model that is served.
      coverage: Share of the train examples with a teacher label; None without distillation.
      base_span: Last span of the model that the training started from; None if it started anew.
      chunks: The same, chunk by chunk.
    """

    epochs: int
    losses: dict[str, list[float]]
    parameters: int
    coverage: float | None
    base_span: int | None
    chunks: tuple[ChunkRecord, ...]

    @classmethod
    def of(cls, records: list[ChunkRecord], parameters: int, base: Milestone | None) -> Record:
        """Puts chunks together."""
        losses: dict[str, list[float]] = {}
        for record in records:
            for name, values in record.losses.items():
                losses.setdefault(name, []).extend(values)
        covered = [(r.coverage, r.examples) for r in records if r.coverage is not None]
        examples = sum(rows for _, rows in covered)
        return cls(
            epochs=sum(record.epochs for record in records),
            losses=losses,
            parameters=parameters,
            coverage=sum(c * rows for c, rows in covered) / examples if examples else None,
            base_span=None if base is None else base.span,
            chunks=tuple(records),
        )


def run_fn(fn_args: FnArgs) -> None:
    """Trains a model on a window of chunks and writes it where TFX wants it.

    Beside TFX's `Format-Serving` the Model artifact gets `Training`, from which the training goes
    on in a later span, and `Folds` if there are any.

    Raises:
      LabelError: Fewer examples have a teacher label than `labels.min_coverage`.
      ModelError: The loss is not a number, or the base model does not fit.
      EnvironmentProblem: The device is not there, or workers died again and again.
    """
    job = TrainingJob.model_validate_json(fn_args.custom_config[JOB])
    window = tuple(chunks.from_json(fn_args.custom_config[CHUNKS]))
    serving, logs = Path(fn_args.serving_model_dir), Path(fn_args.model_run_dir)
    launch = fn_args.custom_config.get(LAUNCH, local_workers.train)
    workers = logs.with_name(f"{logs.name}-{WORKERS}")
    trained = _train(launch, Course(job, window, fn_args.base_model, str(logs)), workers)
    folder = serving.parent / training_state.FOLDER
    training_state.save(folder, trained.training.state(), trained.milestone)
    _log.info("Saving %s to %s", job.title, serving)
    parameters = _export(trained, job, serving)
    record = Record.of(trained.records, parameters, trained.base)
    (logs / RECORD).write_text(json.dumps(asdict(record)))
    if trained.base is None:
        for number in range(job.folds or 0):
            fold = Fold(number, job.folds or 0)
            course = Course(job, window[:1], without=fold)
            trained = _train(launch, course, workers / f"fold-{fold.number}")
            _export(trained, job, fold_model(serving.parent, number))


def _train(launch: Callable[[Course, Path], Trained], course: Course, folder: Path) -> Trained:
    return courses.train(course) if course.job.workers == 1 else launch(course, folder)


def _export(trained: Trained, job: TrainingJob, folder: Path) -> int:
    graph = trained.milestone.transform_graph
    return export.save(trained.training.ranker, folder, job.features, job.served, graph)
