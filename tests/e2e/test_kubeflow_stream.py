"""A stream on a cluster: its bootstrap, a span in which a student fails, and the one after it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import streamed
from clusters import cluster, in_this_process, on_cluster

from tfx_distill.kubeflow import records
from tfx_distill.kubeflow.compilation import compile_pipeline
from tfx_distill.pipeline import span_records, status
from tfx_distill.pipeline.summary import Summary
from tfx_distill.schema.errors import ConfigError

FAILING = "student-trainer-compact"


class Story:
    """What became of it, span by span."""

    def __init__(self, folder: Path) -> None:
        project = streamed.write(folder / "logs")
        for span in (3, 4):
            streamed.announce(project, span)
        students = [streamed.student("compact"), streamed.student("steady")]
        self.project = on_cluster(project, folder / "work", folder / "logs", students=students)
        self.config = self.project.config()
        self.tasks: dict[int, dict[str, Any]] = {}
        for span in (None, 2, 3):
            self._run(folder, span)

    def _run(self, folder: Path, span: int | None) -> None:
        text = compile_pipeline(self.config, "kfp", span=span)
        with in_this_process(dies=lambda command: span == 2 and command.task == FAILING) as runner:
            states = cluster(folder / "cluster", "kfp", runner).run(text)
        self.tasks[1 if span is None else span] = dict(states)

    @property
    def summaries(self) -> dict[int, Summary]:
        return span_records.read(self.config.run_folder)


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Story:
    return Story(tmp_path_factory.mktemp("cluster"))


def test_the_bootstrap_and_its_students_succeed(story: Story) -> None:
    assert set(story.tasks[1].values()) == {"succeeded"}
    assert all(student.pushed for student in story.summaries[1].students)


def test_a_failing_student_stops_nobody_else_and_fails_the_run(story: Story) -> None:
    states = story.tasks[2]
    failed = {task for task, state in states.items() if state == "failed"}
    skipped = {task for task, state in states.items() if state == "skipped"}
    assert failed == {FAILING, "finish"}
    assert skipped
    assert all(task.endswith("-compact") for task in skipped)
    assert [s.name for s in story.summaries[2].students if s.pushed] == ["steady"]
    assert span_records.state(story.summaries[2]) == "partial"
    steps = {step.component: step for step in story.summaries[2].steps}
    assert steps["StudentTrainer.compact"].state == "failed"
    assert steps["StudentGate.compact"].state == "skipped"


def test_it_catches_up_on_the_span_that_it_missed(story: Story) -> None:
    assert set(story.tasks[3].values()) == {"succeeded"}
    trained = {
        made.item.get_string_custom_property("spans_trained")
        for record in records.read(story.config.run_folder)
        if record.component == "StudentTrainer.compact"
        for made in record.outputs["model"]
    }
    assert trained == {"1", "2,3"}


def test_the_teacher_of_the_span_before_labels(story: Story) -> None:
    assert [s.labels.labelled_by for s in story.summaries.values() if s.labels] == [1, 1, 2]


def test_commands_for_people_read_its_run_folder(story: Story) -> None:
    found = status.status(story.config)
    assert found.progress.done == (0, 1, 2, 3)
    assert found.newest_teacher is not None
    assert found.newest_teacher.span == 3
    assert {one.student: one.span for one in found.serving} == {"compact": 3, "steady": 3}
    report = story.config.run_folder / "report"
    assert "steady" in (report / "index.html").read_text()
    assert "not evaluated" in (report / "stream.html").read_text()


def test_spans_are_submitted_in_order(story: Story) -> None:
    for span in (1, 3, 5):
        with pytest.raises(ConfigError, match="come to span 3"):
            compile_pipeline(story.config, "kfp", span=span)
