"""Two processes that train one model: the losses of one process, also where one is killed."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st
from trained_courses import chunk, job, losses

from tfx_distill.schema.errors import EnvironmentProblem, ModelError
from tfx_distill.trainer import course as courses
from tfx_distill.trainer import local_workers, worker
from tfx_distill.trainer import losses as formulas
from tfx_distill.trainer.chunks import Chunk
from tfx_distill.trainer.course import Course
from tfx_distill.trainer.input import part_of


@pytest.fixture(scope="module")
def window(tmp_path_factory: pytest.TempPathFactory) -> tuple[Chunk, ...]:
    folder = tmp_path_factory.mktemp("workers")
    return chunk(folder, 1), chunk(folder, 2)


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The workers' processes, in the order of their start."""
    found: list[Any] = []
    real = subprocess.Popen

    def popen(*arguments: Any, **options: Any) -> Any:
        found.append(real(*arguments, **options))
        return found[-1]

    monkeypatch.setattr(local_workers.subprocess, "Popen", popen)
    return found


def same(one: Any, other: Any) -> None:
    """Up to the order of summation: sums of float32 differ in their last digits."""
    for mine, theirs in zip(losses(one), losses(other), strict=True):
        assert mine.keys() == theirs.keys()
        for name, values in mine.items():
            assert values == pytest.approx(theirs[name], rel=1e-4), name
    assert [r.coverage for r in one.records] == [r.coverage for r in other.records]
    assert [r.examples for r in one.records] == [r.examples for r in other.records]
    state = other.training.state()
    for name, value in one.training.state().weights.items():
        if name == "ranker/task_click/distillation/bias:0":
            # A listwise loss does not depend on it: Adam makes steps of what rounding leaves.
            continue
        np.testing.assert_allclose(value, state.weights[name], atol=1e-4, err_msg=name)


def test_two_workers_train_as_one_does(
    window: tuple[Chunk, ...],
    tmp_path: Path,
    started: list[Any],
    capfd: pytest.CaptureFixture[str],
) -> None:
    """A listwise loss, a lazy table, clipping, batches that are not even, a second chunk."""
    alone = courses.train(Course(job(), window))
    expected = courses.Trained(
        _Frozen(alone.training.state()), alone.records, alone.base, alone.milestone
    )
    capfd.readouterr()
    folder, logs = tmp_path / "workers", tmp_path / "logs"
    together = local_workers.train(Course(job(workers=2), window, log_dir=str(logs)), folder)
    same(together, expected)
    assert [process.returncode for process in started] == [0, 0]
    assert together.milestone == alone.milestone
    assert sorted(file.name for file in folder.iterdir()) == [
        *("course.json", "worker-0.log", "worker-1.log")
    ]
    lines = [line for line in capfd.readouterr().err.splitlines() if ": epoch " in line]
    assert len(lines) == 3, "one worker tells, once"
    assert len(list(logs.glob("train/events.*"))) == 2, "one file for each chunk, of one worker"


class _Frozen:
    """A state, as a training gives it: the training itself is used again."""

    def __init__(self, state: Any) -> None:
        self._state = state

    def state(self) -> Any:
        return self._state


def test_after_a_kill_the_others_end_and_all_go_on_from_the_last_epoch(
    window: tuple[Chunk, ...], tmp_path: Path, started: list[Any]
) -> None:
    # Slow, so that sums in another order do not grow into other models over so many steps.
    settings = {"epochs": 25, "early_stopping_patience": None, "learning_rate": 0.002}
    alone = courses.train(Course(job(**settings), window[:1]))
    expected = courses.Trained(
        _Frozen(alone.training.state()), alone.records, alone.base, alone.milestone
    )

    def kill() -> None:
        while not list(tmp_path.glob("checkpoint-00000[3-9]")):
            time.sleep(0.01)
        started[1].kill()

    killer = threading.Thread(target=kill, daemon=True)
    killer.start()
    together = local_workers.train(Course(job(workers=2, **settings), window[:1]), tmp_path)
    killer.join()
    assert len(started) == 4, "both once more"
    assert all(process.poll() is not None for process in started)
    assert [process.returncode for process in started[2:]] == [0, 0]
    same(together, expected)
    told = (tmp_path / "worker-0.log").read_text()
    assert told.count("epoch 1/25") == 1, "the second attempt begins later"
    assert "epoch 25/25" in told


def test_workers_that_die_again_and_again_are_given_up(
    window: tuple[Chunk, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "python"
    program.write_text("#!/bin/sh\necho started >&2; echo out of luck >&2; exit 3\n")
    program.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(program))
    with pytest.raises(EnvironmentProblem) as caught:
        local_workers.train(Course(job(workers=2), window), tmp_path)
    assert "training of s by 2 workers" in caught.value.where
    assert "died 4 times" in caught.value.got
    assert "out of luck" in caught.value.got
    logs = [(tmp_path / f"worker-{number}.log").read_text() for number in range(2)]
    assert sum(log.count("out of luck") for log in logs) >= 4


def test_an_error_of_a_user_is_passed_on_as_it_is(tmp_path: Path) -> None:
    error = {"kind": "ModelError", "where": "loss", "got": "nan", "expected": "finite", "fix": "x"}
    (tmp_path / "error-1.json").write_text(json.dumps(error))
    with pytest.raises(ModelError, match=r"loss: got nan; expected finite\. x"):
        worker.collected(tmp_path)


@given(
    lengths=st.lists(st.integers(1, 9), min_size=1, max_size=12),
    count=st.integers(1, 5),
)
def test_parts_are_whole_queries_and_together_the_batch(lengths: list[int], count: int) -> None:
    queries = np.repeat(np.arange(len(lengths)) + 100, lengths)
    random = np.random.default_rng(0)
    names = random.permutation(len(lengths))
    batch = {
        "example_id": np.arange(len(queries)),
        "query_id": queries,
        "query_index": names[queries - 100].astype(np.int32),
    }
    parts = [part_of(batch, number, count) for number in range(count)]
    np.testing.assert_array_equal(
        np.concatenate([part["example_id"] for part in parts]), batch["example_id"]
    )
    for part in parts:
        rows = len(part["example_id"])
        assert not rows or part["query_index"].max() < rows
        assert abs(rows - len(queries) / count) <= 2 * max(lengths)
        # Equal numbers where and only where the queries are equal.
        pairs = set(zip(part["query_id"].tolist(), part["query_index"].tolist(), strict=True))
        assert len(pairs) == len(set(part["query_id"])) == len(set(part["query_index"]))
    kept = [set(part["query_id"]) for part in parts]
    assert sum(map(len, kept)) == len(lengths), "no query is in two parts"


def test_the_means_of_workers_add_up_to_the_mean_by_hand() -> None:
    """Three examples count with one worker and one with the other: 4 is not (1 + 3) / 2 + ..."""
    loss, weight = tf.constant([[1.0, 2.0, 3.0, 10.0]]), tf.ones([1, 4])
    whole = formulas.weighted_mean(loss, weight)
    assert whole.numpy() == pytest.approx([4.0])

    def total(_: tf.Tensor) -> tf.Tensor:
        return tf.constant([4.0])

    parts = [
        formulas.weighted_mean(loss[:, cut], weight[:, cut], total)
        for cut in (slice(3), slice(3, 4))
    ]
    assert [part.numpy()[0] for part in parts] == pytest.approx([1.5, 2.5])
    nothing = formulas.weighted_mean(loss[:, :0], weight[:, :0], total)
    assert nothing.numpy() == pytest.approx([0.0])
