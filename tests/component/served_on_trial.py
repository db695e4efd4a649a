"""What ServingValidators said of models, as ML Metadata would tell it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ml_metadata.proto.metadata_store_pb2 import Event
from small_examples import made
from tfx.types.standard_artifacts import InfraBlessing

FIRST = 1000
"""Id of the first blessing."""


class Trials:
    """The blessings of some models, and the events of the executions that made them."""

    def __init__(self, models_and_verdicts: Sequence[tuple[int, int]]) -> None:
        """Takes the id of each model, and 1 where it was let through, else 0."""
        self.blessings = []
        self._events = []
        for place, (model, blessed) in enumerate(models_and_verdicts):
            blessing = made(InfraBlessing, f"trial/{place}", FIRST + place)
            blessing.set_int_custom_property("blessed", blessed)
            self.blessings.append(blessing)
            # The trial reads the model that it tries, and the one that is in service.
            self._events += [
                _event(place, model, Event.INPUT, "model"),
                _event(place, model + 2, Event.INPUT, "baseline"),
                _event(place, blessing.id, Event.OUTPUT, "infra_blessing"),
                # The Pusher reads the blessing.
                _event(place + 100, blessing.id, Event.INPUT, "infra_blessing"),
                _event(place + 100, model + 600, Event.INPUT, "model"),
            ]

    def get_events_by_artifact_ids(self, ids: Sequence[int]) -> list[Any]:
        """As of the MetadataStore."""
        return [event for event in self._events if event.artifact_id in ids]

    def get_events_by_execution_ids(self, ids: Sequence[int]) -> list[Any]:
        """As of the MetadataStore."""
        return [event for event in self._events if event.execution_id in ids]


def _event(execution: int, artifact: int, kind: Any, key: str) -> Any:
    steps = [Event.Path.Step(key=key), Event.Path.Step(index=0)]
    return Event(
        artifact_id=artifact, execution_id=execution, type=kind, path=Event.Path(steps=steps)
    )
