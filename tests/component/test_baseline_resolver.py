"""BlessedBefore: which model a candidate is compared with, alone and as a node of a pipeline."""

from pathlib import Path
from typing import Any

import pytest
from ml_metadata.proto import metadata_store_pb2
from small_examples import made
from tfx.dsl.component.experimental.annotations import InputArtifact, OutputArtifact, Parameter
from tfx.dsl.component.experimental.decorators import component
from tfx.orchestration import metadata
from tfx.orchestration.local.local_dag_runner import LocalDagRunner
from tfx.orchestration.pipeline import Pipeline
from tfx.types.standard_artifacts import Model, ModelBlessing

from tfx_distill.components.baseline_resolver import BlessedBefore, baseline_resolver


def resolve(candidate: list[int], models: list[int], blessings: list[tuple[int, int]]) -> Any:
    """Ids of the model and the blessing that are picked; blessings are (model id, blessed)."""
    given = {
        "candidate": [made(Model, f"model/{number}", number) for number in candidate],
        "model": [made(Model, f"model/{number}", number) for number in models],
        "model_blessing": [],
    }
    for place, (number, blessed) in enumerate(blessings):
        blessing = made(ModelBlessing, f"blessing/{place}", 100 + place)
        blessing.set_int_custom_property("blessed", blessed)
        blessing.set_int_custom_property("current_model_id", number)
        given["model_blessing"].append(blessing)
    found = BlessedBefore().resolve_artifacts(None, given)
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


def run(folder: Path, number: int, *, blessed: int) -> Any:
    """One run of a pipeline shaped like a student's; returns the state and output of Judge."""
    train = Train(number=number)
    resolver = baseline_resolver(train, "Judge").with_id("BaselineResolver")
    judge = Judge(model=train.outputs["model"], baseline=resolver.outputs["model"], blessed=blessed)
    connection = metadata.sqlite_metadata_connection_config(str(folder / "metadata.sqlite"))
    LocalDagRunner().run(
        Pipeline(
            pipeline_name="students",
            pipeline_root=str(folder / "root"),
            components=[train, resolver, judge],
            metadata_connection_config=connection,
            enable_cache=True,
        )
    )
    with metadata.Metadata(connection) as handle:
        store = handle.store
        (kind,) = (t for t in store.get_execution_types() if t.name.endswith("Judge"))
        last = max(store.get_executions_by_type(kind.name), key=lambda e: e.id)
        outputs = (metadata_store_pb2.Event.OUTPUT, metadata_store_pb2.Event.INTERNAL_OUTPUT)
        (blessing,) = store.get_artifacts_by_id(
            [
                event.artifact_id
                for event in store.get_events_by_execution_ids([last.id])
                if event.type in outputs
            ]
        )
    properties = blessing.custom_properties
    return (
        last.last_known_state == metadata_store_pb2.Execution.CACHED,
        properties["current_model_id"].int_value,
        properties["compared_with"].int_value,
    )


def test_a_stream_of_students_is_compared_with_what_was_blessed_before(tmp_path: Path) -> None:
    cached, first, baseline = run(tmp_path, 1, blessed=1)
    assert (cached, baseline) == (False, 0)
    # Blessed now, the same model is not compared with itself: its verdict comes from the cache.
    assert run(tmp_path, 1, blessed=1) == (True, first, 0)
    _, second, baseline = run(tmp_path, 2, blessed=0)
    assert baseline == first != second
    _, third, baseline = run(tmp_path, 3, blessed=1)
    assert baseline == first  # the second was refused
    assert run(tmp_path, 3, blessed=1) == (True, third, first)
    _, fourth, baseline = run(tmp_path, 4, blessed=1)
    assert baseline == third != fourth
