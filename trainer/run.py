"""The entry point of TFX's Trainer for every model: teacher, students and twins."""

from __future__ import annotations

import json
import logging
from dataclasses import asdict, dataclass
from pathlib import Path

from tfx.components.trainer.fn_args_utils import FnArgs

from tfx_distill.schema.config import FeaturesConfig
from tfx_distill.schema.errors import ModelError
from tfx_distill.trainer import chunks, export, training_state, vocabularies
from tfx_distill.trainer.chunks import Chunk
from tfx_distill.trainer.folds import fold_model
from tfx_distill.trainer.input import Fold
from tfx_distill.trainer.job import TrainingJob
from tfx_distill.trainer.towers import embedding
from tfx_distill.trainer.training import ChunkRecord, Training
from tfx_distill.trainer.training_state import Milestone, TrainingState

__all__ = ["CHUNKS", "JOB", "RECORD", "RUN_FN", "Record", "TrainingJob", "run_fn"]

RUN_FN = "tfx_distill.trainer.run.run_fn"
JOB = "job"
CHUNKS = "chunks"
"""Keys of `custom_config`: a `TrainingJob`, and the `Chunk`s to train on, both as JSON."""
RECORD = "training.json"
"""File of the ModelRun artifact that holds a `Record`."""

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

    Without a base model the first chunk is trained on for `training.epochs`, with early stopping,
    and every other one for `online_epochs`. Beside TFX's `Format-Serving` the Model artifact gets
    `Training`, from which the training goes on in a later span, and `Folds` if there are any.

    Raises:
      LabelError: Fewer examples have a teacher label than `labels.min_coverage`.
      ModelError: The loss is not a number, or the base model does not fit.
    """
    job = TrainingJob.model_validate_json(fn_args.custom_config[JOB])
    window = chunks.from_json(fn_args.custom_config[CHUNKS])
    serving = Path(fn_args.serving_model_dir)
    training, base, window = _begin(job, fn_args.base_model, window)
    graph = window[0].transform_graph if base is None else base.transform_graph
    records = []
    for chunk in window:
        if chunk.transform_graph != graph:
            training.load(_renewed(training.state(), graph, chunk.transform_graph, job.features))
            graph = chunk.transform_graph
        first = base is None and chunk is window[0]
        records.append(_fit(training, job, chunk, first=first, log_dir=fn_args.model_run_dir))
    milestone = Milestone(window[-1].span, graph, training.ranker.loss_names[1:])
    training_state.save(serving.parent / training_state.FOLDER, training.state(), milestone)
    _log.info("Saving %s to %s", job.title, serving)
    parameters = export.save(training.ranker, serving, job.features, job.served, graph)
    record = Record.of(records, parameters, base)
    Path(fn_args.model_run_dir, RECORD).write_text(json.dumps(asdict(record)))
    if base is None:
        _cross_fit(job, window[0], serving.parent)


def _begin(
    job: TrainingJob, base_model: str | None, window: list[Chunk]
) -> tuple[Training, Milestone | None, list[Chunk]]:
    """A training in the state of its base model, and the chunks that it has not seen."""
    training, base = job.begin(), None
    if base_model is not None:
        # TFX names the folder of the SavedModel.
        folder = Path(base_model).parent / training_state.FOLDER
        state, base = training_state.read(folder)
        training.load(state)
        window = [chunk for chunk in window if chunk.span > base.span]
    if not window:
        raise ModelError(
            f"training of {job.title}",
            got="no span to train on" + ("" if base is None else f" after span {base.span}"),
            expected="at least one span that the model has not seen, with teacher labels if it "
            "distils",
            fix="Process a later span, or look into the log for spans that were left out.",
        )
    return training, base, window


def _fit(
    training: Training,
    job: TrainingJob,
    chunk: Chunk,
    *,
    first: bool,
    log_dir: str | None,
    without: Fold | None = None,
) -> ChunkRecord:
    return training.fit(
        chunk.examples,
        chunk.labels(job.taught),
        span=chunk.span,
        epochs=job.training.epochs if first else job.online_epochs,
        early_stopping=first,
        log_dir=log_dir,
        without=without,
    )


def _renewed(
    state: TrainingState, before: str, now: str, features: FeaturesConfig
) -> TrainingState:
    """The state with embedding rows where a renewed Transform graph puts their ids."""
    for feature in (*features.categorical, *features.multivalent):
        if feature.refresh is not None:
            sources = vocabularies.row_sources(before, now, feature)
            fresh = vocabularies.new_rows(before, now, feature)
            state = state.with_rows(f"{embedding(feature.name)}:0", sources, fresh)
    return state


def _cross_fit(job: TrainingJob, chunk: Chunk, model: Path) -> None:
    """Trains and exports the fold models of a teacher, each without the queries of its fold."""
    for number in range(job.folds or 0):
        training = job.begin()
        fold = Fold(number, job.folds or 0)
        _fit(training, job, chunk, first=True, log_dir=None, without=fold)
        folder = fold_model(model, number)
        export.save(training.ranker, folder, job.features, job.served, chunk.transform_graph)
