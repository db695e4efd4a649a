"""The tasks of a pipeline: what its Resolvers find in the records of earlier runs."""

from __future__ import annotations

from pathlib import Path

import pytest
from compiled import STORE, by_component, config, run_before, sources

from tfx_distill.components import teacher_resolver, window_resolver
from tfx_distill.kubeflow import dag, records
from tfx_distill.pipeline import graph
from tfx_distill.schema.config import RunConfig
from tfx_distill.schema.errors import ConfigError


def later(of: RunConfig, span: int, age: int) -> dict[str, dag.Task]:
    """The tasks of a later span of a stream."""
    source = graph.Input(
        first=span,
        last=span,
        fingerprint="",
        schema_file=Path("schema.pbtxt"),
        carried=span - 1,
        age=age,
    )
    found = dag.tasks(graph.build(of, source), span, records.read(of.run_folder))
    return by_component(found)


@pytest.fixture(autouse=True)
def nothing_expired(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (window_resolver, teacher_resolver):
        monkeypatch.setattr(module, "is_readable", lambda uri: True)


@pytest.fixture
def stream(tmp_path: Path) -> RunConfig:
    """A stream whose bootstrap, up to span 1, has ended."""
    of = config("stream", tmp_path)
    run_before(of, span=1, first_id=1)
    return of


def test_a_batch_reads_nothing_of_earlier_runs_but_what_serves(tmp_path: Path) -> None:
    of = config("video", tmp_path)
    pipeline = graph.build(of, graph.Input(0, 1, "", Path("schema.pbtxt")))
    first = by_component(dag.tasks(pipeline, 1, []))
    assert "baseline" not in first["StudentEvaluator.compact"].inputs
    assert sources(first["StudentTrainer.compact"], "examples") == ["FeatureMaterializer.features"]
    assert not [name for name in first if name.startswith("BaselineResolver")]

    run_before(of, span=1, first_id=1)
    second = by_component(dag.tasks(pipeline, 1, records.read(of.run_folder)))
    served = [f"{STORE}/1/StudentTrainer.compact/model"]
    assert sources(second["StudentEvaluator.compact"], "baseline") == served
    assert sources(second["ServingValidator.compact"], "baseline") == served


def test_a_later_span_goes_on_from_the_models_of_the_one_before(stream: RunConfig) -> None:
    tasks = later(stream, span=2, age=1)
    trainer = tasks["StudentTrainer.compact"]
    assert sources(trainer, "examples") == ["FeatureMaterializer.features"]
    assert sources(trainer, "teacher_labels") == ["TeacherLabeler.teacher_labels"]
    assert sources(trainer, "base_model") == [f"{STORE}/1/StudentTrainer.compact/model"]
    labeler = tasks["TeacherLabeler"]
    assert sources(labeler, "model") == [f"{STORE}/1/TeacherTrainer/model"]
    assert sources(labeler, "model_blessing") == [f"{STORE}/1/TeacherGate/blessing"]
    assert sources(tasks["ExampleValidator"], "previous") == [f"{STORE}/1/StatisticsGen/statistics"]


def test_a_teacher_that_was_refused_does_not_label(stream: RunConfig) -> None:
    source = graph.Input(2, 2, "", Path("schema.pbtxt"), carried=1, age=1)
    run_before(stream, span=2, first_id=1000, source=source, TeacherGate=False)
    tasks = later(stream, span=3, age=2)
    assert sources(tasks["TeacherLabeler"], "model") == [f"{STORE}/1/TeacherTrainer/model"]
    # It is trained on all the same.
    assert sources(tasks["TeacherTrainer"], "base_model") == [f"{STORE}/2/TeacherTrainer/model"]


def test_a_student_that_failed_catches_up(stream: RunConfig) -> None:
    source = graph.Input(2, 2, "", Path("schema.pbtxt"), carried=1, age=1)
    run_before(stream, span=2, first_id=1000, source=source)
    (stream.run_folder / "lineage/run-2/StudentTrainer.compact.made.json").unlink()
    trainer = later(stream, span=3, age=2)["StudentTrainer.compact"]
    assert sources(trainer, "base_model") == [f"{STORE}/1/StudentTrainer.compact/model"]
    assert sources(trainer, "examples") == [
        f"{STORE}/2/FeatureMaterializer/features",
        "FeatureMaterializer.features",
    ]


def test_nothing_runs_before_what_it_needs(stream: RunConfig) -> None:
    seen: set[str] = set()
    for name, task in later(stream, span=2, age=1).items():
        needed = {
            source.component
            for of_key in task.inputs.values()
            for source in of_key
            if isinstance(source, dag.Output)
        }
        assert needed | set(task.after) <= seen, name
        seen.add(name)


def test_a_later_span_without_a_bootstrap_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="bootstrap"):
        later(config("stream", tmp_path), span=2, age=1)
