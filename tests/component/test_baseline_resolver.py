"""BlessedBefore: which model a candidate is compared with, alone and as a node of a pipeline."""

from pathlib import Path
from typing import Any

import pytest
from served_on_trial import Trials
from small_examples import made
from tfx.dsl.component.experimental.annotations import InputArtifact, OutputArtifact, Parameter
from tfx.dsl.component.experimental.decorators import component
from tfx.dsl.components.common.resolver import Resolver
from tfx.orchestration import metadata
from tfx.orchestration.pipeline import Pipeline
from tfx.orchestration.portable.input_resolution.exceptions import InputResolutionError
from tfx.types.standard_artifacts import InfraBlessing, Model, ModelBlessing

from tfx_distill.components.baseline_resolver import BlessedBefore, baseline_resolver
from tfx_distill.pipeline import lineage, local_runner


def resolve(
    candidate: list[int],
    models: list[int],
    blessings: list[tuple[int, int]],
    trials: list[tuple[int, int]] | None = None,
) -> Any:
    """Ids of the model and the blessing that are picked; blessings are (model id, blessed).

    Without `trials`, of the same form, every model can be served.
    """
    trial = Trials([(number, 1) for number in models] if trials is None else trials)
    given = {
        "candidate": [made(Model, f"model/{number}", number) for number in candidate],
        "model": [made(Model, f"model/{number}", number) for number in models],
        "model_blessing": [],
        "infra_blessing": trial.blessings,
    }
    for place, (number, blessed) in enumerate(blessings):
        blessing = made(ModelBlessing, f"blessing/{place}", 100 + place)
        blessing.set_int_custom_property("blessed", blessed)
        blessing.set_int_custom_property("current_model_id", number)
        given["model_blessing"].append(blessing)
    found = BlessedBefore().resolve_artifacts(trial, given)
    assert [model.id for model in found["candidate"]] == candidate
    return [m.id for m in found["model"]], [b.id for b in found["model_blessing"]]


@pytest.mark.parametrize(
    ("models", "blessings", "picked"),
    [
        # Nothing before; the candidate itself never, blessed or not.
        ([], [], ([], [])),
        ([9], [], ([], [])),
        ([9], [(9, 1)], ([], [])),
        # The newest of the older blessed ones, in whatever order they come.
        ([3, 9], [(3, 1)], ([3], [100])),
        ([5, 3, 9], [(5, 1), (3, 1)], ([5], [100])),
        ([3, 5, 9], [(3, 1), (5, 1), (9, 1)], ([5], [101])),
        # What was refused, or never judged, is passed over.
        ([3, 5, 9], [(3, 1), (5, 0)], ([3], [100])),
        ([3, 5, 9], [(3, 1)], ([3], [100])),
        ([3, 9], [(3, 0)], ([], [])),
        # What is newer than the candidate, when an old one comes from the cache.
        ([3, 9, 12], [(3, 1), (12, 1)], ([3], [100])),
        # A blessing whose model is gone.
        ([9], [(3, 1)], ([], [])),
        # Once blessed, a model is in service, whatever a later and stricter gate says.
        ([3, 9], [(3, 1), (3, 0)], ([3], [100])),
    ],
)
def test_the_newest_older_blessed_model_is_picked(
    models: list[int], blessings: list[tuple[int, int]], picked: Any
) -> None:
    assert resolve([9], models, blessings) == picked


@pytest.mark.parametrize(
    ("trials", "picked"),
    [
        # The newest that its gate blessed was too slow, or was never tried.
        ([(3, 1), (5, 0)], ([3], [100])),
        ([(3, 1)], ([3], [100])),
        ([(3, 0), (5, 0)], ([], [])),
        ([], ([], [])),
        # Once in service, a model stays what there is to beat.
        ([(3, 1), (5, 1), (5, 0)], ([5], [101])),
        # Being servable is not enough: its gate refused number 4.
        ([(3, 1), (4, 1)], ([3], [100])),
    ],
)
def test_a_model_that_could_not_be_served_is_not_what_there_is_to_beat(
    trials: list[tuple[int, int]], picked: Any
) -> None:
    assert resolve([9], [3, 4, 5], [(3, 1), (5, 1), (4, 0)], trials) == picked


def test_without_a_candidate_there_is_no_baseline() -> None:
    assert resolve([], [3], [(3, 1)]) == ([], [])


@component
def Train(model: OutputArtifact[Model], number: Parameter[int]) -> None:  # noqa: N802
    (Path(model.uri).parent / "number").write_text(str(number))


@component
def Judge(  # noqa: N802
    model: InputArtifact[Model],
    blessing: OutputArtifact[ModelBlessing],
    blessed: Parameter[int],
    baseline: InputArtifact[Model] = None,
) -> None:
    blessing.set_int_custom_property("blessed", blessed)
    blessing.set_int_custom_property("current_model_id", model.id)
    blessing.set_int_custom_property("compared_with", baseline.id if baseline else 0)


@component
def Serve(  # noqa: N802
    model: InputArtifact[Model],
    model_blessing: InputArtifact[ModelBlessing],
    infra_blessing: OutputArtifact[InfraBlessing],
    fit: Parameter[int],
    baseline: InputArtifact[Model] = None,
) -> None:
    infra_blessing.set_int_custom_property("blessed", fit)


def run(folder: Path, nodes: list[Any]) -> tuple[local_runner.Outcome, Any]:
    """Runs a pipeline; returns what became of it and the output of Judge."""
    connection = metadata.sqlite_metadata_connection_config(str(folder / "metadata.sqlite"))
    outcome = local_runner.run(
        Pipeline(
            pipeline_name="students",
            pipeline_root=str(folder / "root"),
            components=nodes,
            metadata_connection_config=connection,
            enable_cache=True,
        ),
        report=lambda line: None,
    )
    store = lineage.sqlite(connection.sqlite.filename_uri)
    return outcome, lineage.outputs(store, outcome.run_id).get("Judge", {}).get("blessing")


def run_student(folder: Path, number: int, *, blessed: int, fit: int = 1) -> tuple[str, int, int]:
    """A pipeline shaped like a student's: state of Judge, the model it judged and the baseline."""
    train = Train(number=number)
    resolver = baseline_resolver(train, "Judge", "Serve").with_id("BaselineResolver")
    model, baseline = train.outputs["model"], resolver.outputs["model"]
    judge = Judge(model=model, baseline=baseline, blessed=blessed)
    serve = Serve(model=model, baseline=baseline, model_blessing=judge.outputs["blessing"], fit=fit)
    outcome, blessing = run(folder, [train, resolver, judge, serve])
    assert outcome.error is None
    properties = blessing.properties
    return outcome.steps[2].state, properties["current_model_id"], properties["compared_with"]


def test_a_stream_of_students_is_compared_with_what_was_blessed_before(tmp_path: Path) -> None:
    state, first, baseline = run_student(tmp_path, 1, blessed=1)
    assert (state, baseline) == ("ran", 0)
    # Blessed now, the same model is not compared with itself: its verdict comes from the cache.
    assert run_student(tmp_path, 1, blessed=1) == ("cached", first, 0)
    _, second, baseline = run_student(tmp_path, 2, blessed=0)
    assert baseline == first != second
    _, third, baseline = run_student(tmp_path, 3, blessed=1)
    assert baseline == first  # the second was refused
    assert run_student(tmp_path, 3, blessed=1) == ("cached", third, first)
    _, fourth, baseline = run_student(tmp_path, 4, blessed=1, fit=0)
    assert baseline == third != fourth
    _, fifth, baseline = run_student(tmp_path, 5, blessed=1)
    assert baseline == third != fifth  # the fourth could not be served


class Broken(BlessedBefore):
    def resolve_artifacts(self, store: Any, input_dict: Any) -> Any:
        raise InputResolutionError("no reason")


def test_a_resolver_that_fails_is_not_taken_for_one_without_a_result(tmp_path: Path) -> None:
    # TFX publishes a failed execution and raises nothing.
    train = Train(number=1)
    resolver = Resolver(strategy_class=Broken, model=train.outputs["model"])
    judge = Judge(model=train.outputs["model"], baseline=resolver.outputs["model"], blessed=1)
    outcome, _ = run(tmp_path, [train, resolver, judge])
    assert [step.state for step in outcome.steps] == ["ran", "failed", "skipped"]
    assert "inputs of " in str(outcome.error)
    assert "could not be resolved" in str(outcome.error)
