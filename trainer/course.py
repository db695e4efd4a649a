"""One training from its first chunk to its last, wherever it is carried out."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from tfx_distill.schema.config import FeaturesConfig
from tfx_distill.schema.errors import ModelError
from tfx_distill.trainer import chunks, device, training_state, vocabularies
from tfx_distill.trainer.checkpoints import Checkpoint, Checkpoints
from tfx_distill.trainer.chunk_record import ChunkRecord, EpochEnd
from tfx_distill.trainer.chunks import Chunk
from tfx_distill.trainer.input import Fold
from tfx_distill.trainer.job import TrainingJob
from tfx_distill.trainer.towers import embedding
from tfx_distill.trainer.training import Training
from tfx_distill.trainer.training_state import Milestone, TrainingState
from tfx_distill.trainer.workers import ALONE, Workers


@dataclass(frozen=True)
class Course:
    """What a model is to be trained on, and from where.

    Without a base model the first chunk is trained on for `training.epochs`, with early stopping,
    and every other one for `online_epochs`.

    Attributes:
      job: What to train, and how.
      window: The chunks, in order of span; those that the base model has seen are left out.
      base_model: Folder of the SavedModel to go on from; None starts anew.
      log_dir: Where TensorBoard logs go; None writes none.
      without: A fold of queries to leave out, for cross-fitting.
    """

    job: TrainingJob
    window: tuple[Chunk, ...]
    base_model: str | None = None
    log_dir: str | None = None
    without: Fold | None = None

    def to_json(self) -> str:
        """The course as JSON."""
        return json.dumps(
            {
                "job": self.job.model_dump_json(),
                "window": chunks.to_json(self.window),
                "base_model": self.base_model,
                "log_dir": self.log_dir,
                "without": None if self.without is None else asdict(self.without),
            }
        )

    @classmethod
    def from_json(cls, text: str) -> Course:
        """The course that `to_json` wrote."""
        fields = json.loads(text)
        fold = fields.pop("without")
        return cls(
            job=TrainingJob.model_validate_json(fields.pop("job")),
            window=tuple(chunks.from_json(fields.pop("window"))),
            without=None if fold is None else Fold(**fold),
            **fields,
        )


@dataclass(frozen=True)
class Trained:
    """The end of a course.

    Attributes:
      training: In the state that it has reached.
      records: A record for each chunk.
      base: How far its base model had come; None if it started anew.
      milestone: How far it has come.
    """

    training: Training
    records: list[ChunkRecord]
    base: Milestone | None
    milestone: Milestone


def train(
    course: Course, workers: Workers = ALONE, checkpoints: Checkpoints | None = None
) -> Trained:
    """Trains in this process.

    Args:
      course: What to train.
      workers: Who does the same beside this process.
      checkpoints: Where the training goes on from, and leaves its state after each epoch.

    Raises:
      LabelError: Fewer examples have a teacher label than `labels.min_coverage`.
      ModelError: The loss is not a number, or the base model does not fit.
      EnvironmentProblem: The device that the config asks for is not there.
    """
    with device.chosen(course.job.device):
        return _train(course, workers, checkpoints)


def _train(course: Course, workers: Workers, checkpoints: Checkpoints | None) -> Trained:
    job = course.job
    training, base, window = _begin(course, workers)
    graph = window[0].transform_graph if base is None else base.transform_graph
    records: list[ChunkRecord] = []
    resume: EpochEnd | None = None
    before = None if checkpoints is None else checkpoints.newest()
    if before is not None:
        records, resume = list(before.records), before.end
        graph = window[len(records)].transform_graph
        training.load(resume.state, epochs=sum(record.epochs for record in records))

    def keep(end: EpochEnd) -> None:
        if checkpoints is not None and workers.number == 0:
            checkpoints.save(Checkpoint(records, end))

    for chunk in window[len(records) :]:
        if chunk.transform_graph != graph:
            training.load(_renewed(training.state(), graph, chunk.transform_graph, job.features))
            graph = chunk.transform_graph
        first = base is None and chunk is window[0]
        record = training.fit(
            chunk.examples,
            chunk.labels(job.taught),
            span=chunk.span,
            epochs=job.training.epochs if first else job.online_epochs,
            early_stopping=first,
            log_dir=course.log_dir if workers.number == 0 else None,
            without=course.without,
            resume=resume,
            after_epoch=None if checkpoints is None else keep,
        )
        records.append(record)
        resume = None
    milestone = Milestone(window[-1].span, graph, training.ranker.loss_names[1:])
    return Trained(training, records, base, milestone)


def _begin(
    course: Course, workers: Workers
) -> tuple[Training, Milestone | None, tuple[Chunk, ...]]:
    """A training in the state of its base model, and the chunks that it has not seen."""
    training, base, window = course.job.begin(workers), None, course.window
    if course.base_model is not None:
        # TFX names the folder of the SavedModel.
        folder = Path(course.base_model).parent / training_state.FOLDER
        state, base = training_state.read(folder)
        training.load(state)
        window = tuple(chunk for chunk in window if chunk.span > base.span)
    if not window:
        raise ModelError(
            f"training of {course.job.title}",
            got="no span to train on" + ("" if base is None else f" after span {base.span}"),
            expected="at least one span that the model has not seen, with teacher labels if it "
            "distils",
            fix="Process a later span, or look into the log for spans that were left out.",
        )
    return training, base, window


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
