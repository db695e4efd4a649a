"""The trainer on a stream: windows of chunks, warm starts, folds, renewed vocabularies."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import tensorflow as tf
from small_examples import SPAN, Prepared, made, materialize
from test_student_trainer import small, write_labels
from tfx.types import channel_utils, standard_artifacts

from tfx_distill.components.chunk_executor import SPANS_TRAINED, ChunkExecutor
from tfx_distill.components.lineage_properties import SPAN as SPAN_PROPERTY
from tfx_distill.components.lineage_properties import TRANSFORM_GRAPH, WATERMARK
from tfx_distill.components.student_trainer import StudentTrainer
from tfx_distill.components.teacher_trainer import TeacherTrainer
from tfx_distill.schema.config import DistillConfig, RunConfig
from tfx_distill.schema.errors import ModelError
from tfx_distill.trainer import course as courses
from tfx_distill.trainer import feature_table, local_workers, training_state, vocabularies
from tfx_distill.trainer.course import Course
from tfx_distill.trainer.folds import fold_models, fold_of
from tfx_distill.trainer.input import Fold
from tfx_distill.trainer.run import JOB, RECORD, RUN_FN, TrainingJob
from tfx_distill.trainer.teacher import Teacher

SPANS = (SPAN, SPAN + 1, SPAN + 2)


@pytest.fixture(scope="module")
def chunks(features: Any) -> list[Any]:
    """The same feature table as if it had come in three spans."""
    out = []
    for number, span in enumerate(SPANS):
        chunk = copy.deepcopy(features)
        chunk.id, chunk.span = 50 + number, span
        chunk.set_int_custom_property(WATERMARK, 1000 * span)
        out.append(chunk)
    return out


@pytest.fixture(scope="module")
def labels(chunks: list[Any], tmp_path_factory: pytest.TempPathFactory) -> list[Any]:
    out = []
    for chunk in chunks:
        artifact = write_labels(chunk, tmp_path_factory.mktemp("labels"))
        artifact.span, artifact.id = chunk.span, chunk.id + 20
        out.append(artifact)
    return out


class Run:
    """Trains through the executors of StudentTrainer and of the teacher's Trainer."""

    def __init__(self, prepared: Prepared, root: Path) -> None:
        self._prepared, self._root, self._number = prepared, root, 0

    def __call__(
        self,
        job: TrainingJob,
        examples: list[Any],
        labels: list[Any] | None = None,
        base: Any = None,
    ) -> Any:
        """Returns the Model artifact."""
        self._number += 1
        folder = self._root / str(self._number)
        inputs = {"examples": examples, "transform_graph": [self._prepared.transform_graph]}
        inputs |= {} if labels is None else {"teacher_labels": labels}
        inputs |= {} if base is None else {"base_model": [base]}
        channels = {
            name: channel_utils.as_channel(values)
            for name, values in inputs.items()
            if name in ("examples", "transform_graph")
        }
        if job.student is None:
            component = TeacherTrainer(
                **channels,
                run_fn=RUN_FN,
                custom_config={JOB: job.model_dump_json()},
            )
        else:
            component = StudentTrainer(**channels, job=job)
        model = made(standard_artifacts.Model, folder / "model", number=self._number)
        run = made(standard_artifacts.ModelRun, folder / "run")
        assert component.executor_spec.executor_class is ChunkExecutor
        ChunkExecutor(ChunkExecutor.Context(tmp_dir=str(folder), unique_id="1")).Do(
            inputs, {"model": [model], "model_run": [run]}, component.exec_properties
        )
        return model


@pytest.fixture
def run(prepared: Prepared, tmp_path: Path) -> Run:
    return Run(prepared, tmp_path)


def config(prepared: Prepared, **changes: Any) -> RunConfig:
    return small(prepared, **({"labels": {"min_coverage": 0.5}, "stream": {}} | changes))


def student_job(prepared: Prepared, *, twin: bool = False, **changes: Any) -> TrainingJob:
    settings = config(prepared, **changes)
    return TrainingJob.of_student(settings, settings.students[0], twin=twin)


def state_of(model: Any) -> training_state.TrainingState:
    return training_state.read(Path(model.uri) / "Training")[0]


def record_of(model: Any) -> Any:
    return json.loads((Path(model.uri).parent / "run" / RECORD).read_text())


def assert_same_state(one: Any, other: Any) -> None:
    for mine, theirs in zip(
        (state_of(one).weights, state_of(one).optimizer),
        (state_of(other).weights, state_of(other).optimizer),
        strict=True,
    ):
        assert mine.keys() == theirs.keys()
        for name, value in mine.items():
            np.testing.assert_array_equal(value, theirs[name], err_msg=name)


def test_a_late_joiner_ends_where_one_ends_that_was_always_there(
    prepared: Prepared, chunks: list[Any], labels: list[Any], run: Run
) -> None:
    job = student_job(prepared)
    late = run(job, chunks[::-1], labels)
    model = run(job, chunks[:1], labels[:1])
    for place in (1, 2):
        model = run(job, [chunks[place]], [labels[place]], base=model)
    assert_same_state(model, late)
    assert [c["epochs"] for c in record_of(late)["chunks"]] == [4, 1, 1]
    assert [c["span"] for c in record_of(late)["chunks"]] == list(SPANS)
    assert record_of(late)["base_span"] is None
    assert record_of(model)["base_span"] == SPANS[1]
    assert record_of(model)["epochs"] == 1
    assert len(record_of(late)["losses"]["val_click"]) == 6
    for artifact, spans in ((late, "3,4,5"), (model, "5")):
        assert artifact.get_int_custom_property(SPAN_PROPERTY) == SPANS[2]
        assert artifact.get_int_custom_property(WATERMARK) == 1000 * SPANS[2]
        assert artifact.get_string_custom_property(SPANS_TRAINED) == spans
        assert artifact.get_string_custom_property(TRANSFORM_GRAPH) == chunks[
            0
        ].get_string_custom_property(TRANSFORM_GRAPH)
    served = {w.name: w.numpy() for w in tf.saved_model.load(f"{model.uri}/Format-Serving").weights}
    weights = state_of(model).weights
    assert any("distillation" in name for name in weights)
    assert not any("distillation" in name for name in served)
    for name, value in served.items():
        np.testing.assert_array_equal(value, weights[name], err_msg=name)


def test_a_chunk_that_nobody_labelled_is_left_out_for_the_twin_too(
    prepared: Prepared, chunks: list[Any], labels: list[Any], run: Run
) -> None:
    for twin in (False, True):
        model = run(student_job(prepared, twin=twin), chunks, [labels[0], labels[2]])
        assert model.get_string_custom_property(SPANS_TRAINED) == f"{SPANS[0]},{SPANS[2]}"
    assert record_of(model)["coverage"] is None
    # Who learns nothing from a teacher needs no labels.
    alone = {"click": "none", "watch": "none"}
    student = student_job(prepared).student.model_copy(update={"distill": {}})
    rules = {name: DistillConfig(mode=mode) for name, mode in alone.items()}
    job = student_job(prepared).model_copy(
        update={"student": student.model_copy(update={"distill": rules})}
    )
    assert run(job, chunks, []).get_string_custom_property(SPANS_TRAINED) == "3,4,5"


def test_of_two_tables_of_a_span_the_later_one_counts(
    prepared: Prepared, chunks: list[Any], run: Run, tmp_path: Path
) -> None:
    stale = copy.deepcopy(chunks[0])
    stale.id, stale.uri = 1, str(tmp_path / "gone")
    model = run(student_job(prepared, twin=True), [chunks[0], stale])
    assert model.get_string_custom_property(SPANS_TRAINED) == str(SPANS[0])


def test_nothing_new_to_train_on_is_an_error(
    prepared: Prepared, chunks: list[Any], run: Run
) -> None:
    job = student_job(prepared, twin=True)
    model = run(job, chunks[:2])
    with pytest.raises(ModelError, match="no span to train on after span 4"):
        run(job, chunks[:2], base=model)
    with pytest.raises(ModelError, match="no span to train on;"):
        run(student_job(prepared), chunks[:1], [])


def test_a_base_of_another_size_is_refused(prepared: Prepared, chunks: list[Any], run: Run) -> None:
    job = student_job(prepared, twin=True)
    model = run(job, chunks[:1])
    wider = job.model_copy(update={"model": job.model.model_copy(update={"tower": 5})})
    with pytest.raises(ModelError, match=r"variable ranker/task_\w+/.*Rename the student"):
        run(wider, chunks[1:2], base=model)


def test_a_base_without_a_state_says_so(prepared: Prepared, chunks: list[Any], run: Run) -> None:
    job = student_job(prepared, twin=True)
    model = run(job, chunks[:1])
    (Path(model.uri) / "Training/state.json").unlink()
    with pytest.raises(ModelError, match="no readable training state"):
        run(job, chunks[1:2], base=model)


def test_a_row_is_labelled_by_the_model_that_has_not_seen_its_query(
    prepared: Prepared, chunks: list[Any], run: Run
) -> None:
    settings = config(prepared, labels={"cross_fit": 3})
    job = TrainingJob.of_teacher(settings)
    model = run(job, chunks[:1])
    folds = fold_models(model.uri)
    assert [folder.name for folder in folds] == ["0", "1", "2"]
    serving = f"{model.uri}/Format-Serving"
    (shard, *_) = feature_table.shards(chunks[0].uri, "train")
    labelled = list(Teacher(serving, settings.features, folds).label(shard))
    ids = np.concatenate([part[0] for part in labelled])
    clicks = np.concatenate([part[1]["click"] for part in labelled])
    rows = feature_table.read(shard)
    np.testing.assert_array_equal(ids, rows["example_id"])
    own = fold_of(rows["query_id"], 3)
    assert set(own) == {0, 1, 2}
    alone = np.stack(
        [
            np.concatenate([p[1]["click"] for p in Teacher(folder, settings.features).label(shard)])
            for folder in folds
        ]
    )
    np.testing.assert_allclose(clicks, alone[own, np.arange(len(own))], rtol=1e-5)
    assert len({tuple(column) for column in alone.T.round(6).tolist()}) > 1
    assert not np.allclose(alone[0], alone[1])
    # Fold models belong to the first training: later ones label what they have not seen.
    later = run(job, chunks[1:2], base=model)
    assert fold_models(later.uri) == []


def test_several_workers_train_the_model_and_its_folds(
    prepared: Prepared, chunks: list[Any], run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That they train as one process does is tested with real ones, apart from TFX."""
    seen = []

    def train(course: Course, folder: Path) -> Any:
        seen.append((folder.name, course.without, course.job.workers))
        return courses.train(course)

    monkeypatch.setattr(local_workers, "train", train)
    settings = config(prepared, labels={"cross_fit": 2}, trainer={"workers": 2})
    model = run(TrainingJob.of_teacher(settings), chunks[:1])
    assert seen == [
        ("run-workers", None, 2),
        ("fold-0", Fold(0, 2), 2),
        ("fold-1", Fold(1, 2), 2),
    ]
    assert len(fold_models(model.uri)) == 2


def test_a_teacher_labels_rows_as_it_labels_a_shard(
    prepared: Prepared, chunks: list[Any], run: Run
) -> None:
    settings = config(prepared)
    teacher = Teacher(
        f"{run(TrainingJob.of_teacher(settings), chunks[:1]).uri}/Format-Serving", settings.features
    )
    (shard, *_) = feature_table.shards(chunks[0].uri, "train")
    with pa.memory_map(str(shard)) as source:
        batches = pa.ipc.open_file(source).read_all().to_batches(max_chunksize=50)
        by_rows = list(teacher.label_rows(batches))
    by_shard = list(teacher.label(shard))
    for place in (0, 2):
        np.testing.assert_array_equal(
            np.concatenate([part[place] for part in by_rows]),
            np.concatenate([part[place] for part in by_shard]),
        )
    np.testing.assert_allclose(
        np.concatenate([part[1]["watch"] for part in by_rows]),
        np.concatenate([part[1]["watch"] for part in by_shard]),
        rtol=1e-5,
    )


def test_a_renewed_vocabulary_moves_the_rows_of_ids_that_stay(
    prepared: Prepared, chunks: list[Any], run: Run, tmp_path: Path
) -> None:
    features = prepared.config.features
    video = next(f for f in features.categorical if f.name == "video")
    renewing = features.model_copy(
        update={
            "categorical": tuple(
                f.model_copy(update={"refresh": 1}) if f.name == "video" else f
                for f in features.categorical
            )
        }
    ).model_dump(mode="json")
    before = prepared.transform_graph.uri
    first, second, *_ = vocabularies.read(before, "video")
    now = str(tmp_path / "renewed")
    vocabularies.replace(before, now, {"video": [b"999999", second, first]})
    renewed = Prepared(
        prepared.config,
        prepared.log,
        prepared.examples,
        made(standard_artifacts.TransformGraph, now),
    )
    table = materialize(renewed, tmp_path)
    table.id, table.span = 99, SPANS[1]
    # So slow that whatever moves was moved by the renewal.
    job = student_job(prepared, twin=True, features=renewing)
    still = job.training.model_copy(update={"learning_rate": 1e-30})
    model = run(job, chunks[:1])
    moved = run(job.model_copy(update={"training": still}), [table], base=model)
    old, new = state_of(model).weights, state_of(moved).weights
    rows = {"old": old["embedding_video:0"], "new": new["embedding_video:0"]}
    outside = 1 + len(vocabularies.read(before, "video"))
    np.testing.assert_array_equal(rows["new"][1:4], rows["old"][[outside, 2, 1]])
    np.testing.assert_array_equal(rows["new"][0], rows["old"][0])
    moments = state_of(moved).optimizer["v/embedding_video:0"]
    assert state_of(model).optimizer["v/embedding_video:0"][[1, 2]].any()
    assert moments[[2, 3]].any()
    np.testing.assert_array_equal(new["embedding_user:0"], old["embedding_user:0"])
    assert video.cardinality == len(rows["new"])
    assert moved.get_string_custom_property(TRANSFORM_GRAPH) == now
    # What is pushed reads raw ids by the new vocabulary.
    exported = Path(moved.uri) / "Format-Serving/assets/video"
    assert exported.read_bytes().splitlines()[0] == b"999999"
