"""What Resolvers find, without ML Metadata: from the records of earlier runs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ml_metadata.proto.metadata_store_pb2 import Event
from tfx.dsl.components.base.base_node import BaseNode
from tfx.dsl.components.common import resolver
from tfx.dsl.components.common.resolver import Resolver
from tfx.types import artifact
from tfx.types.channel import BaseChannel, UnionChannel
from tfx.types.standard_artifacts import TransformGraph

from tfx_distill.components.lineage_properties import SPAN
from tfx_distill.kubeflow.records import Made, Record, made_by
from tfx_distill.kubeflow.uris import local_path

_FIRST_ID = 1 << 62
"""Ids of artifacts that are yet to be made; those of earlier ones are smaller."""


class Resolution:
    """Runs the strategies of Resolvers.

    Args:
      span: The last span of the run.
      records: Of earlier runs.

    Attributes:
      earlier: What earlier runs made, by id.
      graphs: The Transform graphs among it, by their paths in a container.
      current: For the ids of artifacts that are yet to be made, which component makes each under
        which name.
    """

    def __init__(self, span: int, records: Sequence[Record]) -> None:
        self._span = span
        self._records = records
        self._found: dict[str, dict[str, list[artifact.Artifact]]] = {}
        self._coming: dict[tuple[str, str], artifact.Artifact] = {}
        self.earlier: dict[int, Made] = {}
        self.current: dict[int, tuple[str, str]] = {}
        self.graphs: dict[str, Made] = {}
        for record in records:
            for made in (m for of_key in record.outputs.values() for m in of_key):
                item = made.item
                self.earlier[item.id] = made
                if isinstance(item, TransformGraph):
                    self.graphs[local_path(item.uri)] = made

    def add(self, node: BaseNode) -> None:
        """A component of this run, after which Resolvers may look for what it will have made."""
        for key, channel in node.outputs.items():
            item = channel.type()
            item.id = _FIRST_ID + len(self.current)
            if SPAN in (channel.type.PROPERTIES or {}):
                item.span = self._span
            else:
                item.set_int_custom_property(SPAN, self._span)
            self.current[item.id] = (node.id, key)
            self._coming[node.id, key] = item

    def of(self, component: str, key: str | None) -> list[artifact.Artifact] | None:
        """What a Resolver found; None of a component that is none."""
        found = self._found.get(component)
        return None if found is None else found.get(key or "", [])

    def resolve(self, node: Resolver) -> None:
        """Asks a Resolver's strategy."""
        properties = node.exec_properties
        strategy = properties[resolver.RESOLVER_STRATEGY_CLASS](
            **(properties[resolver.RESOLVER_CONFIG] or {})
        )
        candidates = {key: self._candidates(channel) for key, channel in node.raw_inputs.items()}
        self._found[node.id] = strategy.resolve_artifacts(_Events(self._records), candidates) or {}

    def _candidates(self, channel: BaseChannel) -> list[artifact.Artifact]:
        if isinstance(channel, UnionChannel):
            return [item for part in channel.channels for item in self._candidates(part)]
        component, key = channel.producer_component_id, channel.output_key
        resolved = self.of(component, key)
        if resolved is not None:
            return resolved
        if key is not None:
            return [self._coming[component, key]]
        earlier = (m for m in made_by(self._records, component, channel.type.TYPE_NAME))
        coming = (
            item
            for (producer, _), item in self._coming.items()
            if producer == component and isinstance(item, channel.type)
        )
        return [*map(_readable, earlier), *coming]


def _readable(made: Made) -> artifact.Artifact:
    """An earlier artifact, at the place where its content can be looked at."""
    item = made.item
    if made.kept is not None:
        item.uri = made.kept
    return item


class _Events:
    """The part of a MetadataStore that strategies ask for: who read and made what."""

    def __init__(self, records: Sequence[Record]) -> None:
        self._events = [event for number, r in enumerate(records) for event in _of(number, r)]

    def get_events_by_artifact_ids(self, ids: Sequence[int]) -> list[Event]:
        """Events of these artifacts."""
        wanted = set(ids)
        return [event for event in self._events if event.artifact_id in wanted]

    def get_events_by_execution_ids(self, ids: Sequence[int]) -> list[Event]:
        """Events of these executions."""
        wanted = set(ids)
        return [event for event in self._events if event.execution_id in wanted]


def _of(execution: int, record: Record) -> Iterator[Event]:
    outputs = {key: [m.item.id for m in made] for key, made in record.outputs.items()}
    for kind, by_key in ((Event.INPUT, record.inputs), (Event.OUTPUT, outputs)):
        for key, ids in by_key.items():
            for index, number in enumerate(ids):
                steps = [Event.Path.Step(key=key), Event.Path.Step(index=index)]
                yield Event(
                    artifact_id=number,
                    execution_id=execution,
                    type=kind,
                    path=Event.Path(steps=steps),
                )
