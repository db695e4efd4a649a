"""A course that is interrupted ends as if it had not been, also where it stops early."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from trained_courses import chunk, job, losses

from tfx_distill.schema.errors import EnvironmentProblem
from tfx_distill.trainer import course as courses
from tfx_distill.trainer import device
from tfx_distill.trainer.checkpoints import Checkpoint, Checkpoints
from tfx_distill.trainer.chunks import Chunk
from tfx_distill.trainer.course import Course
from tfx_distill.trainer.input import Fold


@pytest.fixture(scope="module")
def window(tmp_path_factory: pytest.TempPathFactory) -> tuple[Chunk, ...]:
    folder = tmp_path_factory.mktemp("course")
    return chunk(folder, 1), chunk(folder, 2)


class Cut(Exception):
    pass


class Counted(Checkpoints):
    """Checkpoints of a process that ends after so many of them."""

    def __init__(self, folder: Path, most: int = 99) -> None:
        super().__init__(folder)
        self._most, self.saved = most, 0

    def save(self, checkpoint: Checkpoint) -> None:
        if self.saved == self._most:
            raise Cut
        self.saved += 1
        super().save(checkpoint)


@pytest.mark.parametrize(
    ("count", "patience", "expected_epochs"),
    [(1, None, [4, 1]), (3, None, [4, 1]), (4, None, [4, 1]), (1, 1, [2, 1]), (2, 1, [2, 1])],
)
def test_a_course_goes_on_where_it_was_cut(
    window: tuple[Chunk, ...],
    tmp_path: Path,
    count: int,
    patience: int | None,
    expected_epochs: list[int],
) -> None:
    course = Course(job(epochs=4, early_stopping_patience=patience), window)
    undisturbed = courses.train(course)
    expected = undisturbed.training.state()
    epochs = [record.epochs for record in undisturbed.records]
    assert epochs == expected_epochs, "the eval loss rises in the second epoch"
    with pytest.raises(Cut):
        courses.train(course, checkpoints=Counted(tmp_path, count))
    rest = Counted(tmp_path)
    again = courses.train(course, checkpoints=rest)
    assert rest.saved == sum(epochs) - count, "epochs that were done are not done again"
    assert losses(again) == losses(undisturbed)
    assert [record.coverage for record in again.records] == [
        record.coverage for record in undisturbed.records
    ]
    for name, value in again.training.state().weights.items():
        np.testing.assert_array_equal(value, expected.weights[name], err_msg=name)
    for name, value in again.training.state().optimizer.items():
        np.testing.assert_array_equal(value, expected.optimizer[name], err_msg=name)


def test_half_a_checkpoint_is_none(window: tuple[Chunk, ...], tmp_path: Path) -> None:
    (tmp_path / "checkpoint.part/state").mkdir(parents=True)
    assert Checkpoints(tmp_path).newest() is None
    courses.train(Course(job(epochs=1), window[:1]), checkpoints=Checkpoints(tmp_path))
    assert [folder.name for folder in tmp_path.iterdir()] == ["checkpoint-000001"]
    Checkpoints(tmp_path).clear()
    assert list(tmp_path.iterdir()) == []


def test_a_course_through_json(window: tuple[Chunk, ...]) -> None:
    for without in (None, Fold(1, 3)):
        course = Course(job(workers=2), window, "base", "logs", without)
        assert Course.from_json(course.to_json()) == course


def test_a_gpu_that_is_not_there_is_named_before_anything_is_read() -> None:
    own = job()
    asked = own.model_copy(update={"device": "gpu"})
    nowhere = Chunk(1, "/nowhere", "graph", 0)
    with pytest.raises(EnvironmentProblem, match=r"trainer\.device: got no GPU"):
        courses.train(Course(asked, (nowhere,)))
    for other in ("auto", "cpu"):
        with device.chosen(other):  # type: ignore[arg-type]
            pass
