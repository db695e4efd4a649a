"""GateOverride: what it writes, what later runs make of it, and that the lineage keeps it."""

import json
from pathlib import Path
from typing import Any

import ml_metadata as mlmd
import pytest
from small_examples import execute, made
from tfx.components.pusher.executor import Executor as Pusher
from tfx.dsl.component.experimental.annotations import InputArtifact, OutputArtifact, Parameter
from tfx.dsl.component.experimental.decorators import component
from tfx.orchestration import metadata
from tfx.orchestration.pipeline import Pipeline
from tfx.types.standard_artifacts import InfraBlessing, Model, ModelBlessing

from tfx_distill.components import verdict
from tfx_distill.components.baseline_resolver import baseline_resolver
from tfx_distill.components.chosen_resolver import Chosen, chosen_resolver
from tfx_distill.components.gate_override import GateOverride
from tfx_distill.components.verdict import Check, Override, Verdict
from tfx_distill.pipeline import lineage, local_runner, overrides

WHY = Override(because="a new market", by="ada", at="2024-01-01T00:00:00+00:00")
REFUSAL = Verdict(
    candidate="student small",
    blessed=False,
    baseline=None,
    baseline_reason="none in service",
    checks=(
        Check(
            task="click",
            metric="auc",
            rule="min",
            allowed=0.9,
            value=0.5,
            passed=False,
            sentence="auc of click is 0.5, below 0.9.",
        ),
    ),
    confidence=0.95,
    replicates=1000,
    seed=0,
)
INTERVALS = '{"estimates": []}'


def refuse(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "verdict.json").write_text(REFUSAL.model_dump_json())
    (folder / "intervals.json").write_text(INTERVALS)
    (folder / "NOT_BLESSED").write_text("")


def overridden(folder: Path, **properties: Any) -> Any:
    """The blessing by which an override answers a refusal with these properties."""
    refuse(folder / "refused")
    refused = made(ModelBlessing, folder / "refused", 8)
    for name, value in properties.items():
        setter = getattr(
            refused, f"set_{type(value).__name__.replace('str', 'string')}_custom_property"
        )
        setter(name, value)
    blessing = made(ModelBlessing, folder / "blessing", 9)
    model = made(Model, "/the/model", 7)
    inputs = {"model": model, "refused": refused}
    execute(GateOverride, folder, inputs, {"blessing": blessing}, **WHY.model_dump())
    return blessing


def test_the_blessing_says_yes_and_the_verdict_stays_as_it_was(tmp_path: Path) -> None:
    blessing = overridden(tmp_path, current_model_id=7, blessed=0)
    files = {file.name for file in Path(blessing.uri).iterdir()}
    assert files == {"BLESSED", "verdict.json", "intervals.json"}
    assert (Path(blessing.uri) / "intervals.json").read_text() == INTERVALS
    found = verdict.read(blessing.uri)
    assert not found.blessed
    assert found.overridden == WHY
    assert found.model_copy(update={"overridden": None}) == REFUSAL
    assert blessing.get_int_custom_property("blessed") == 1
    assert blessing.get_int_custom_property("current_model_id") == 7
    assert blessing.get_string_custom_property("current_model") == "/the/model"
    assert blessing.get_string_custom_property("override_because") == "a new market"
    assert blessing.get_string_custom_property("override_by") == "ada"
    assert Pusher().CheckBlessing({"model_blessing": [blessing]})


def test_the_refusal_stays_as_it_was(tmp_path: Path) -> None:
    overridden(tmp_path)
    assert json.loads((tmp_path / "refused/verdict.json").read_text())["overridden"] is None
    assert (tmp_path / "refused/NOT_BLESSED").exists()


@pytest.mark.parametrize("other", [{}, {"baseline_model": "/old", "baseline_model_id": 3}])
def test_what_it_was_compared_with_is_said_as_before(tmp_path: Path, other: Any) -> None:
    blessing = overridden(tmp_path, **other)
    assert blessing.has_custom_property("baseline_model_id") == bool(other)
    assert blessing.get_string_custom_property("baseline_model") == other.get("baseline_model", "")
    assert blessing.get_int_custom_property("baseline_model_id") == other.get(
        "baseline_model_id", 0
    )


@component
def Train(model: OutputArtifact[Model], number: Parameter[int]) -> None:  # noqa: N802
    (Path(model.uri).parent / "number").write_text(str(number))


@component
def Refuse(  # noqa: N802
    model: InputArtifact[Model],
    blessing: OutputArtifact[ModelBlessing],
    baseline: InputArtifact[Model] = None,
) -> None:
    refuse(Path(blessing.uri))
    blessing.set_int_custom_property("blessed", 0)
    blessing.set_int_custom_property("current_model_id", model.id)
    if baseline:
        blessing.set_int_custom_property("baseline_model_id", baseline.id)


@component
def Serve(  # noqa: N802
    model: InputArtifact[Model],
    model_blessing: InputArtifact[ModelBlessing],
    infra_blessing: OutputArtifact[InfraBlessing],
    fit: Parameter[int],
) -> None:
    blessed = model_blessing.get_int_custom_property("blessed")
    infra_blessing.set_int_custom_property("blessed", blessed * fit)


class Store:
    """Pipelines of the same name in one folder, and what they left in ML Metadata."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._file = str(folder / "metadata.sqlite")

    @property
    def metadata(self) -> mlmd.MetadataStore:
        return lineage.sqlite(self._file)

    def run(self, nodes: list[Any]) -> lineage.Outputs:
        outcome = local_runner.run(
            Pipeline(
                pipeline_name="students",
                pipeline_root=str(self._folder / "root"),
                components=nodes,
                metadata_connection_config=metadata.sqlite_metadata_connection_config(self._file),
                enable_cache=True,
            ),
            report=lambda line: None,
        )
        assert outcome.error is None
        return lineage.outputs(self.metadata, outcome.run_id)

    def refused(self, number: int) -> lineage.Outputs:
        """A run whose gate refuses its student, whatever it is."""
        train = Train(number=number)
        resolver = baseline_resolver(train, "Gate", "Serve").with_id("BaselineResolver")
        model = train.outputs["model"]
        gate = Refuse(model=model, baseline=resolver.outputs["model"]).with_id("Gate")
        serve = Serve(model=model, model_blessing=gate.outputs["blessing"], fit=1)
        return self.run([train, resolver, gate, serve])

    def let_through(self, made: lineage.Outputs, *, fit: int = 1, at: str = WHY.at) -> Any:
        """A run that overrides the gate of such a run."""
        chosen = chosen_resolver(
            model=Chosen(made["Train"]["model"].id, Model, "Train"),
            # As in `bless`: a second artifact of the same producer.
            baseline=Chosen(made["BaselineResolver"]["model"].id, Model, "Train")
            if "model" in made.get("BaselineResolver", {})
            else Chosen(0, Model, "Train"),
            blessing=Chosen(made["Gate"]["blessing"].id, ModelBlessing, "Gate"),
        ).with_id("Refused")
        model = chosen.outputs["model"]
        why = WHY.model_dump() | {"at": at}
        gate = GateOverride(model=model, refused=chosen.outputs["blessing"], **why).with_id("Gate")
        serve = Serve(model=model, model_blessing=gate.outputs["blessing"], fit=fit)
        return self.run([chosen, gate, serve])


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path)


def compared_with(made: lineage.Outputs) -> int | None:
    """Id of the model that a run's student was compared with."""
    found = made["Gate"]["blessing"].properties.get("baseline_model_id")
    return None if found is None else int(found)


def test_the_next_student_is_compared_with_the_one_that_was_let_through(store: Store) -> None:
    first = store.refused(1)
    assert compared_with(store.refused(2)) is None
    store.let_through(first)
    third = store.refused(3)
    assert compared_with(third) == first["Train"]["model"].id
    # It takes the place of the one in service, and its predecessor is found beside it.
    made = store.let_through(third)
    assert made["Refused"]["model"].id == third["Train"]["model"].id
    assert made["Refused"]["baseline"].id == first["Train"]["model"].id
    assert compared_with(store.refused(4)) == third["Train"]["model"].id


def test_one_that_cannot_be_served_does_not_come_into_service(store: Store) -> None:
    first = store.refused(1)
    store.let_through(first, fit=0)
    assert compared_with(store.refused(2)) is None
    # What kept it from being served may be mended: a second attempt is a trial of its own.
    store.let_through(first, at="2024-01-02T00:00:00+00:00")
    assert compared_with(store.refused(3)) == first["Train"]["model"].id


def test_an_unchanged_run_afterwards_still_comes_from_the_cache(store: Store) -> None:
    first = store.refused(1)
    store.let_through(first)
    again = store.refused(1)
    assert again["Gate"]["blessing"].id == first["Gate"]["blessing"].id


def test_the_lineage_says_who_let_it_through_and_why(store: Store) -> None:
    first, second = store.refused(1), store.refused(2)
    model = first["Train"]["model"].id
    store.let_through(first, fit=0)
    later = "2024-01-02T00:00:00+00:00"
    made = store.let_through(first, at=later)
    kept = store.metadata
    found = overrides.newest(kept, "students", "Gate", model)
    assert found == (WHY.model_copy(update={"at": later}), made)
    assert found.outputs["Serve"]["infra_blessing"].properties["blessed"] == 1
    assert overrides.newest(kept, "students", "Gate", second["Train"]["model"].id) is None
    # From the blessing, one step back: an execution that names them, of the refused model.
    (blessing,) = kept.get_artifacts_by_id([made["Gate"]["blessing"].id])
    assert blessing.custom_properties["override_because"].string_value == "a new market"
    assert blessing.custom_properties["override_by"].string_value == "ada"
    ids = {
        event.execution_id
        for event in kept.get_events_by_artifact_ids([blessing.id])
        if event.type == mlmd.proto.Event.OUTPUT
    }
    (execution,) = kept.get_executions_by_id(list(ids))
    assert execution.type.endswith("GateOverride")
    assert execution.custom_properties["because"].string_value == "a new market"
    assert execution.custom_properties["at"].string_value == later
    inputs = {
        event.artifact_id
        for event in kept.get_events_by_execution_ids(list(ids))
        if event.type == mlmd.proto.Event.INPUT
    }
    assert inputs == {model, first["Gate"]["blessing"].id}
