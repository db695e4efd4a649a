"""Training chunk by chunk: what a state carries, what is random, when it stops."""

import math
from pathlib import Path

import numpy as np
import pytest
from feature_chunks import FEATURES, MODEL, TASKS, TRAINING, Labels, rows, write_chunk

from tfx_distill.schema.config import DistillConfig, StudentConfig, TaskConfig
from tfx_distill.schema.errors import ModelError
from tfx_distill.trainer import feature_table, heads, stopping, training_state
from tfx_distill.trainer.input import Fold
from tfx_distill.trainer.training import Training, kept
from tfx_distill.trainer.training_state import Milestone, TrainingState

AUXILIARY = StudentConfig(name="s")


def begin(student=AUXILIARY, *, twin=False, tasks=TASKS, **changes):
    arguments = {
        "features": FEATURES,
        "model": MODEL,
        "heads": heads.of_student(student, tasks, twin=twin),
        "training": TRAINING,
        "seed": 1,
        "quiet": True,
    }
    return Training("s", **(arguments | changes))


@pytest.fixture(scope="module")
def chunks(tmp_path_factory):
    folder = tmp_path_factory.mktemp("chunks")
    return [write_chunk(folder / str(span), seed=span) for span in range(4)]


@pytest.fixture(scope="module")
def student():
    """One trace for many tests; each resets it."""
    return begin()


def fit(training, chunks, spans, labels=True):
    return [
        training.fit(
            chunks[span],
            Labels() if labels else None,
            span=span,
            epochs=2 if span == 0 else 1,
            early_stopping=span == 0,
        )
        for span in spans
    ]


def through_the_disk(training, folder):
    training_state.save(folder, training.state(), Milestone(0, "graph"))
    return training_state.read(folder)[0]


def assert_same(left, right):
    for mine, theirs in ((left.weights, right.weights), (left.optimizer, right.optimizer)):
        assert mine.keys() == theirs.keys()
        for name, value in mine.items():
            np.testing.assert_array_equal(value, theirs[name], err_msg=name)


def test_spans_in_one_go_or_one_by_one_end_in_the_same_weights(chunks, tmp_path):
    """To the last bit, with auxiliary heads, dropout, a warm-up and whole queries."""
    changes = {"dropout": 0.3, "experts": 2, "architecture": "mmoe"}
    arguments = {
        "model": MODEL.model_copy(update=changes),
        "training": TRAINING.model_copy(update={"warmup_steps": 6}),
        "whole_queries": True,
    }
    at_once = begin(**arguments)
    fit(at_once, chunks, range(4))
    step_by_step = begin(**arguments)
    fit(step_by_step, chunks, (0, 1))
    for span in (2, 3):
        state = through_the_disk(step_by_step, tmp_path / str(span))
        step_by_step = begin(**arguments)
        step_by_step.load(state)
        fit(step_by_step, chunks, (span,))
    assert_same(step_by_step.state(), at_once.state())
    assert "ranker/task_click/distillation/kernel:0" in at_once.state().weights
    steps = int(at_once.state().optimizer["iteration:0"])
    assert steps - 3 * 4 in (4, 8), "one or two epochs of the first chunk, then one of each"


def test_the_order_of_the_examples_depends_on_the_span(chunks, student):
    states = []
    for span in (5, 6):
        student.reset()
        student.fit(chunks[0], Labels(), span=span, epochs=1)
        states.append(student.state().weights)
    assert any(not np.array_equal(value, states[1][name]) for name, value in states[0].items())


def test_small_data_is_read_once_for_all_epochs(chunks, student, monkeypatch):
    student.reset()
    read = feature_table.read
    seen = []

    def reading(file, *arguments, **more):
        if "leave_out" in more:  # not the ids, nor what a loss is measured by
            seen.append(file)
        return read(file, *arguments, **more)

    monkeypatch.setattr(feature_table, "read", reading)
    student.fit(chunks[0], Labels(), span=0, epochs=3)
    assert sorted(file for file in seen if "Split-train" in str(file)) == feature_table.shards(
        chunks[0], "train"
    )


def test_a_reset_training_is_as_a_new_one(chunks, student):
    student.reset(seed=3)
    fit(student, chunks, (0, 1))
    new = begin(seed=3)
    fit(new, chunks, (0, 1))
    assert_same(student.state(), new.state())
    student.reset(seed=1)
    assert not np.array_equal(
        student.state().weights["embedding_user:0"],
        begin(seed=3).state().weights["embedding_user:0"],
    )


def test_a_student_and_its_twin_start_equal_where_they_share_layers(student):
    student.reset(seed=1)
    mine, theirs = student.state().weights, begin(twin=True).state().weights
    assert mine.keys() - theirs.keys() == {
        f"ranker/task_{task}/distillation/{part}:0"
        for task in ("click", "watch")
        for part in ("kernel", "bias")
    }
    for name, value in theirs.items():
        np.testing.assert_array_equal(mine[name], value, err_msg=name)


def test_outputs_start_at_the_mean_label_of_the_first_shard(chunks):
    twin = begin(twin=True)
    twin.fit(chunks[0], span=0, epochs=0)
    shard = feature_table.read(feature_table.shards(chunks[0], "train")[0])
    share = shard["label_click"].mean()
    weights = twin.state().weights
    np.testing.assert_allclose(
        weights["ranker/task_click/serving/bias:0"], math.log(share / (1 - share)), rtol=1e-5
    )
    np.testing.assert_allclose(
        weights["ranker/task_watch/serving/bias:0"],
        shard["label_watch"][shard["weight_watch"] > 0].mean(),
        rtol=1e-5,
    )


def test_dropout_drops_others_in_each_step_and_the_same_ones_again(chunks):
    model = MODEL.model_copy(update={"dropout": 0.5})
    data = rows(64, 1)
    training = begin(twin=True, model=model)

    def hidden(step):
        import tensorflow as tf

        blocks = {name: tf.constant(data[name]) for name in training._blocks}
        return training.ranker(blocks, noise=tf.constant([1, step]))[0]["click"].numpy()

    np.testing.assert_array_equal(hidden(4), hidden(4))
    assert not np.array_equal(hidden(4), hidden(5))
    assert not np.array_equal(hidden(4), training.logits(data)["click"])


def test_a_new_head_starts_anew_and_the_rest_goes_on(chunks, student):
    twin = begin(twin=True)
    fit(twin, chunks, (0,), labels=False)
    before = twin.state()
    student.reset(seed=1)
    first = student.state().weights
    student.load(before)
    after = student.state()
    for name, value in before.weights.items():
        np.testing.assert_array_equal(after.weights[name], value, err_msg=name)
        np.testing.assert_array_equal(after.optimizer[f"m/{name}"], before.optimizer[f"m/{name}"])
    kernel = "ranker/task_click/distillation/kernel:0"
    np.testing.assert_array_equal(after.weights[kernel], first[kernel])
    assert not after.optimizer[f"m/{kernel}"].any()
    student.fit(chunks[1], Labels(), span=1, epochs=0)
    shard = feature_table.read(feature_table.shards(chunks[1], "train")[0])
    share = shard["label_click"].mean()
    np.testing.assert_allclose(
        student.state().weights["ranker/task_click/distillation/bias:0"],
        math.log(share / (1 - share)),
        rtol=1e-5,
    )
    np.testing.assert_array_equal(
        student.state().weights["ranker/task_click/serving/bias:0"],
        before.weights["ranker/task_click/serving/bias:0"],
    )


def test_a_head_that_is_gone_is_forgotten(chunks, student):
    fit(student, chunks, (0,))
    twin = begin(twin=True)
    twin.load(student.state())
    assert not [name for name in twin.state().weights if "distillation" in name]


def test_another_size_is_refused_by_name(student):
    wide = begin(model=MODEL.model_copy(update={"hidden": 7}))
    with pytest.raises(ModelError) as caught:
        wide.load(student.state())
    message = str(caught.value)
    assert "variable ranker/" in message
    assert "Rename the student" in message


def test_a_loss_that_is_not_a_number_stops_the_training(tmp_path, student):
    folder = write_chunk(tmp_path, seed=1)
    file = feature_table.shards(folder, "train")[0]
    columns = feature_table.read(file)
    columns["numeric"] = np.full_like(columns["numeric"], np.nan)
    with feature_table.Writer(file) as writer:
        writer.write(feature_table.record(columns))
    student.reset(seed=1)
    with pytest.raises(ModelError, match=r"model s, epoch 1, loss: got nan"):
        student.fit(folder, Labels(), span=0, epochs=1)


def test_early_stopping_goes_back_to_the_best_epoch_with_its_moments(chunks):
    patient = TRAINING.model_copy(update={"learning_rate": 0.5, "early_stopping_patience": 2})
    training = begin(twin=True, training=patient)
    record = training.fit(chunks[0], span=0, epochs=30, early_stopping=True)
    assert record.epochs < 30
    scales = stopping.scales(feature_table.shards(chunks[0], "eval"), TASKS)
    judged = [
        sum(record.losses[f"val_{name}"][epoch] / scale for name, scale in scales.items())
        for epoch in range(record.epochs)
    ]
    best = int(np.argmin(judged))
    assert record.epochs == best + 1 + 2
    again = begin(twin=True, training=patient)
    again.fit(chunks[0], span=0, epochs=best + 1)
    assert_same(training.state(), again.state())


def test_scales_by_hand(tmp_path):
    file = tmp_path / "part-0.arrow"
    with feature_table.Writer(file) as writer:
        writer.write(
            feature_table.record(
                {
                    "label_click": np.float32([1, 0, 0, 0]),
                    "weight_click": np.float32([1, 1, 1, 1]),
                    "label_watch": np.float32([2, 4, 0, 0]),
                    "weight_watch": np.float32([1, 1, 0, 0]),
                    "label_flat": np.float32([3, 3, 3, 3]),
                    "weight_flat": np.float32([1, 1, 1, 1]),
                    "label_never": np.float32([0, 0, 0, 0]),
                    "weight_never": np.float32([0, 0, 0, 0]),
                }
            )
        )
    odd = [TaskConfig(name=name, kind="regression", label=name) for name in ("flat", "never")]
    assert stopping.scales([file], [*TASKS, *odd]) == pytest.approx(
        {"click": 0.25 * math.log(4) + 0.75 * math.log(4 / 3), "watch": 1.0}
    )


def test_each_task_counts_by_its_own_scale():
    best = stopping.Best(1, {"click": 0.5, "watch": 100.0})
    best.see({"val_click": 0.5, "val_watch": 100.0}, lambda: "first")
    assert not best.is_over
    # Watch time got 2 % better, clicks 10 % worse: by the plain sum this would be the best epoch.
    best.see({"val_click": 0.55, "val_watch": 98.0}, lambda: "second")
    assert best.is_over
    assert (best.state, best.epoch) == ("first", 1)
    never = stopping.Best(None, {"click": 0.5})
    for loss in (1.0, 2.0, 3.0):
        never.see({"val_click": loss}, lambda: "x")
        assert not never.is_over


def test_a_chunk_without_an_eval_split_is_trained_on_all_the_same(tmp_path, student):
    folder = write_chunk(tmp_path, seed=2, held_out=0)
    student.reset(seed=1)
    record = student.fit(folder, Labels(), span=0, epochs=1, early_stopping=True)
    assert record.epochs == 1
    assert not [name for name in record.losses if name.startswith("val_")]


def test_the_record_of_a_chunk(chunks, student):
    student.reset(seed=1)
    (record,) = fit(student, chunks, (2,))
    assert (record.span, record.examples, record.epochs) == (2, 100, 1)
    assert record.coverage == 6 / 7
    assert {"loss", "click", "watch", "distill_click", "val_click"} <= set(record.losses)
    assert record.losses["loss"][0] == pytest.approx(
        record.losses["click"][0] + record.losses["watch"][0], rel=1e-5
    )


def test_a_training_without_a_fold_is_another_one(chunks, student):
    """That exactly the fold's queries are left out is tested with the input."""
    trained = {}
    for number in range(2):
        student.reset(seed=1)
        student.fit(chunks[0], Labels(), span=0, epochs=1, without=Fold(number, 2))
        trained[number] = student.state().weights["embedding_user:0"]
    student.reset(seed=1)
    student.fit(chunks[0], Labels(), span=0, epochs=1)
    full = student.state().weights["embedding_user:0"]
    assert not np.array_equal(trained[0], trained[1])
    assert not np.array_equal(trained[0], full)


def test_outputs_without_an_export(chunks, student):
    student.reset(seed=1)
    fit(student, chunks, (0,))
    shard = feature_table.read(feature_table.shards(chunks[0], "eval")[0])
    logits, distilled = student.logits(shard), student.distilled(shard)
    assert logits.keys() == distilled.keys() == {"click", "watch"}
    assert logits["click"].shape == shard["example_id"].shape
    assert not np.array_equal(logits["click"], distilled["click"])
    direct = begin(StudentConfig(name="s", distill={"click": DistillConfig(mode="direct")}))
    np.testing.assert_array_equal(direct.logits(shard)["click"], direct.distilled(shard)["click"])


def test_kept_trainings_are_traced_once_and_start_anew(chunks):
    arguments = {
        "features": FEATURES,
        "model": MODEL,
        "heads": heads.of_teacher(TASKS),
        "training": TRAINING,
        "quiet": True,
    }
    first = kept("teacher", 5, **arguments)
    start = first.state()
    fit(first, chunks, (0,), labels=False)
    again = kept("teacher", 5, **arguments)
    assert again is first
    assert_same(again.state(), start)
    assert again.step._function.experimental_get_tracing_count() == 1
    assert kept("teacher", 6, **arguments) is not first
    other = arguments | {"training": TRAINING.model_copy(update={"learning_rate": 0.1})}
    assert kept("teacher", 5, **other) is not first


def test_new_rows_of_a_table_start_from_their_source_without_its_moments():
    state = TrainingState(
        {"embedding_user:0": np.arange(8.0).reshape(4, 2), "bias:0": np.ones(1)},
        {
            "m/embedding_user:0": np.ones((4, 2)),
            "v/embedding_user:0": np.full((4, 2), 2.0),
            "iteration:0": np.int64(7),
        },
    )
    sources, fresh = np.array([0, 3, 2, 3, 1]), np.array([False, False, False, True, False])
    moved = state.with_rows("embedding_user:0", sources, fresh)
    np.testing.assert_array_equal(
        moved.weights["embedding_user:0"], [[0, 1], [6, 7], [4, 5], [6, 7], [2, 3]]
    )
    for moment, value in (("m", 1), ("v", 2)):
        np.testing.assert_array_equal(
            moved.optimizer[f"{moment}/embedding_user:0"][:, 0], np.where(fresh, 0, value)
        )
    assert moved.optimizer["iteration:0"] == 7
    assert moved.weights["bias:0"] is state.weights["bias:0"]
    assert state.with_rows("embedding_other:0", sources, fresh) is state


def test_an_unfinished_state_says_what_is_missing(tmp_path: Path):
    with pytest.raises(ModelError, match=r"no readable training state .*state\.json"):
        training_state.read(tmp_path)
    (tmp_path / "state.json").write_text('{"span": 1, "transform_graph": "g", "heads": []}')
    (tmp_path / "weights.npz").write_bytes(b"half")
    with pytest.raises(ModelError, match="no readable training state"):
        training_state.read(tmp_path)
