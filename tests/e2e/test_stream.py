"""A stream from its bootstrap on: failures, refusals, new students, another team, new words."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import tensorflow as tf
from streamed import SPANS, Story

from tfx_distill.pipeline import lineage, span_records, status, stream
from tfx_distill.schema.errors import ConfigError

# The first test tells the story, which takes minutes on a busy machine.
pytestmark = pytest.mark.timeout(1500)


def spans(story: Story, step: str) -> list[tuple[int, int]]:
    return [(done.summary.first_span, done.summary.last_span) for done in story.steps[step]]


def state(summary, component):
    return next(step.state for step in summary.steps if step.component == component)


def trained_on(story: Story, trainer: str) -> list[str]:
    """The chunks of each training of a model, in order."""
    store = lineage.sqlite(str(story.project.folder / "runs/stream/metadata.sqlite"))
    models = lineage.produced(store, "stream", trainer, "Model")
    return [model.properties["spans_trained"] for model in models]


def test_spans_are_processed_in_order_and_only_complete_ones(story):
    assert spans(story, "start") == [(0, 1), (2, 2)]
    # The last span had a failure: it is tried again before the next.
    assert spans(story, "mended") == [(2, 2)]
    assert spans(story, "refused") == [(3, 3)]
    assert spans(story, "watched") == [(4, 4)]
    assert story.waited == ["the next span"]


def test_a_student_that_fails_stops_nobody_else(story):
    for place in (0, 1):
        summary = story.summary("start", place)
        assert "learning_rate" in str(story.steps["start"][place].error)
        assert state(summary, "StudentTrainer.fragile") == "failed"
        assert state(summary, "StudentEvaluator.fragile") == "skipped"
        assert state(summary, "Pusher.compact") == "ran"
        assert [one.name for one in summary.students] == ["compact"]
        assert span_records.state(summary) == "partial"


def test_what_failed_catches_up(story):
    assert story.steps["mended"][0].error is None
    assert trained_on(story, "StudentTrainer.fragile") == ["1,2", "3", "4"]
    # Nobody else is trained again for it.
    retried = story.summary("mended", 0)
    assert state(retried, "TeacherTrainer") == "cached"
    assert state(retried, "StudentTrainer.compact") == "cached"


def test_every_model_is_trained_on_each_span_once(story):
    assert trained_on(story, "StudentTrainer.compact") == ["1", "2", "3", "4"]
    assert trained_on(story, "TwinTrainer.compact") == ["1", "2", "3", "4"]
    assert trained_on(story, "TeacherTrainer") == ["1", "2", "3", "4"]


def test_a_student_that_joins_learns_from_all_spans_and_the_teacher_labels_none_of_them(story):
    assert trained_on(story, "StudentTrainer.late") == ["1,2,3,4"]
    summary = story.summary("watched")
    assert {one.name for one in summary.students} == {"compact", "fragile", "late"}
    assert story.labelled["watched"] == sum(summary.examples.values())


def test_each_span_is_labelled_by_a_teacher_that_has_not_seen_it(story):
    assert story.summary("start", 0).labels.labelled_by == 1
    assert story.summary("start", 1).labels.labelled_by == 1
    assert story.summary("refused").labels.labelled_by == 2


def test_what_the_first_teacher_has_seen_is_labelled_by_its_folds(story):
    bootstrap, later = (story.summary("start", place).labels for place in (0, 1))
    # One teacher, two ways to label.
    assert bootstrap.labelled_by == later.labelled_by == 1
    assert bootstrap.teacher != later.teacher
    models = story.project.folder / "runs/stream/artifacts/TeacherTrainer/model"
    folds = {len(list(model.glob("Folds/*/saved_model.pb"))) for model in models.iterdir()}
    assert folds == {0, 2}
    quality = story.summary("start", 1).labels.quality["tasks"]["click"]
    assert quality["compared"] == story.summary("start", 0).examples["eval"]
    assert quality["correlation"] < 0.9999


def test_a_refused_teacher_does_not_label_and_the_last_blessed_one_goes_on(story):
    assert not story.summary("refused").teacher.blessed
    assert story.summary("watched").labels.labelled_by == 2


def test_a_spans_train_split_starts_with_the_eval_split_before(story):
    folder = story.project.folder / "data/video"
    carried = set(pl.read_parquet(folder / "span-2/eval-*.parquet")["impression_id"])
    own = set(pl.read_parquet(folder / "span-3/train-*.parquet")["impression_id"])
    table = story.table().filter(span=3, split="train")
    for (_,), part in table.group_by("teacher"):
        assert set(part["example_id"]) == carried | own


def test_the_label_table_has_every_row_once(story):
    table = story.table()
    keys = ["teacher", "span", "split", "example_id"]
    assert not table.select(keys).is_duplicated().any()
    assert sorted(table["span"].unique()) == [1, 2, 3, 4]


def test_labels_say_how_good_they_are(story):
    quality = story.summary("refused").labels.quality
    assert quality["coverage"] == 1.0
    # The teacher of span 2 labelled span 3: hours, and never before what it has seen.
    assert 0 < quality["staleness_mean_hours"] < 48
    # It meets the teacher before on the eval split of span 2.
    carried = story.summary("start", 1).examples["eval"]
    assert {task["compared"] for task in quality["tasks"].values()} == {carried}
    assert quality["tasks"]["click"]["correlation"] < 0.9999
    # In span 4 the same teacher labelled again: there is nothing to compare.
    again = story.summary("watched").labels.quality
    assert {task["compared"] for task in again["tasks"].values()} == {0}


def test_old_spans_can_be_labelled_by_a_chosen_teacher(story):
    table = story.table()
    by_span = {span: set(part["teacher"]) for (span,), part in table.group_by("span")}
    (first,) = by_span[2]
    assert first not in {story.summary("refused").labels.teacher}
    assert first in by_span[3]
    assert first in by_span[4]
    assert len(by_span[3]) == len(by_span[4]) == 2


def test_a_vocabulary_is_learned_again_and_what_stays_keeps_its_row(story):
    root = story.project.folder / "runs/stream/artifacts"
    (refreshed,) = (root / "VocabularyRefresher/refreshed").iterdir()
    (first,) = (root / "Transform/transform_graph").iterdir()
    words = {
        graph: (graph / "transform_fn/assets/topics").read_text().split()
        for graph in (first, refreshed)
    }
    assert words[first] != words[refreshed]
    tables = {}
    models = {path.name: path for path in (root / "StudentTrainer.compact/model").iterdir()}
    for place, number in enumerate(sorted(models, key=int)):
        weights = np.load(models[number] / "Training/weights.npz")
        tables[place + 1] = weights["embedding_topics:0"]
    # Span 3 is the second after the bootstrap, so `refresh: 2` is due. A single epoch moves a row
    # a little; rows of other words are further away.
    stay = [word for word in words[first] if word in words[refreshed]]
    places = [(words[first].index(word), words[refreshed].index(word)) for word in stay]
    moved = np.array([(1 + old, 1 + new) for old, new in places if old != new])
    assert len(moved), "the test needs a word that changes its place"
    before, after = tables[2][moved[:, 0]], tables[3][moved[:, 1]]
    elsewhere = tables[2][moved[:, 1]]
    assert np.abs(after - before).mean() < 0.5 * np.abs(after - elsewhere).mean()


def test_items_born_after_the_bootstrap_have_a_place_and_are_learned(story):
    folder = story.project.folder
    logged = {
        span: set(pl.read_parquet(folder / f"data/video/span-{span}/*.parquet")["video_id"])
        for span in range(SPANS)
    }
    trained = set(pl.read_parquet(folder / "data/video/span-4/train-*.parquet")["video_id"])
    born = trained - set().union(*(logged[span] for span in range(4)))
    buckets = next(
        f.buckets for f in story.project.config().features.categorical if f.name == "video_id"
    )

    def rows(ids):
        hashed = tf.strings.to_hash_bucket_fast([str(number) for number in sorted(ids)], buckets)
        return set((1 + hashed.numpy()).tolist())

    # Buckets that none of the older items shares.
    own = sorted(rows(born) - rows(set().union(*(logged[span] for span in range(4)))))
    assert len(own) > 5
    models = folder / "runs/stream/artifacts/StudentTrainer.compact/model"
    before, after = (
        np.load(models / str(number) / "Training/weights.npz")["embedding_video_id:0"][own]
        for number in sorted(int(path.name) for path in models.iterdir())[-2:]
    )
    assert not (before == after).all(axis=1).any()
    serving = status.status(story.project.config()).serving[0]
    served = tf.saved_model.load(serving.path).signatures["serving_default"]
    example = tf.train.Example()
    example.features.feature["video_id"].int64_list.value.append(2**60 + 1)
    answer = served(examples=tf.constant([example.SerializeToString()]))
    assert all(np.isfinite(value.numpy()).all() for value in answer.values())


def test_another_team_learns_from_the_table_alone(story):
    assert spans(story, "students only") == [(0, 1), (2, 2), (3, 3), (4, 4)]
    assert story.labelled["students only"] == 0
    root = story.project.folder / "runs/stream_students"
    components = {path.name for path in (root / "artifacts").iterdir()}
    assert "LabelImporter" in components
    assert not any(name.startswith("Teacher") for name in components)
    summary = story.summary("students only")
    assert summary.students[0].coverage == 1.0
    assert summary.students[0].pushed is not None
    # The newest labels of a span: those that were filled in.
    first = story.summary("start", 1).labels.teacher
    assert summary.labels.teacher == first


def test_the_status_says_where_the_stream_stands(story):
    found = status.status(story.project.config())
    assert found.progress.done == tuple(range(SPANS))
    assert found.progress.pending == ()
    assert found.newest_teacher.span == 4
    assert {one.student: one.span for one in found.serving} == {
        "compact": 4,
        "fragile": 4,
        "late": 4,
    }
    serving = found.serving[0]
    assert Path(serving.path, "saved_model.pb").exists()
    assert serving.since is not None


def test_a_gap_is_named(story, tmp_path):
    folder = tmp_path / "data/video"
    folder.mkdir(parents=True)
    for span in (0, 1, 3):
        (folder / f"span-{span}").symlink_to(story.project.folder / f"data/video/span-{span}")
    config = story.project.config()
    data = config.data.model_copy(update={"spans": str(folder / "span-{SPAN}/{split}-*.parquet")})
    gap = config.model_copy(update={"data": data, "root": str(tmp_path), "stream": config.stream})
    standing = stream.progress(gap)
    assert [str(part) for part in standing.pending] == ["0..1"]
    assert "span 2 is missing" in standing.waiting


def test_what_models_depend_on_cannot_change_in_the_middle(story):
    config = story.project.config()
    features = config.features.model_copy(update={"numeric": config.features.numeric[1:]})
    with pytest.raises(ConfigError, match="features") as caught:
        stream.progress(config.model_copy(update={"features": features}))
    assert "another `name`" in caught.value.fix


@pytest.mark.parametrize(
    ("asked", "got"),
    [((1, 3), "within the bootstrap"), ((0, 0), "a part of the bootstrap"), ((3, 9), "span 5")],
)
def test_spans_that_cannot_be_run_are_refused(story, asked, got):
    with pytest.raises(ConfigError) as caught:
        list(stream.run(story.project.config(), spans=asked))
    assert got in caught.value.got


def test_a_signal_ends_the_watch_cleanly(story):
    command = [str(Path(sys.executable).with_name("distill")), "watch", str(story.project.file)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as watching:
        for line in watching.stderr:
            if line.startswith("Waiting"):
                break
        watching.send_signal(signal.SIGTERM)
        rest = watching.stderr.read()
        assert watching.wait(30) == 0
    assert "Stopped" in rest
    assert "Traceback" not in rest
