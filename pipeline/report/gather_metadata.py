"""All of ML Metadata that a site needs, read once: artifacts, and the executions that made them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import ml_metadata as mlmd
from ml_metadata.proto import metadata_store_pb2

_INPUT = (metadata_store_pb2.Event.INPUT, metadata_store_pb2.Event.DECLARED_INPUT)
# What a Resolver finds it did not make: those are INTERNAL_OUTPUT.
_OUTPUT = (metadata_store_pb2.Event.OUTPUT, metadata_store_pb2.Event.DECLARED_OUTPUT)


@dataclass(frozen=True)
class Artifact:
    """An artifact; `created` is in seconds since the epoch."""

    id: int
    type: str
    uri: str
    created: float
    properties: Mapping[str, Any]


@dataclass(frozen=True)
class Execution:
    """An execution of a component; inputs and outputs are artifact ids by name of the channel."""

    id: int
    component: str
    run_id: str
    cached: bool
    started: float
    ended: float
    properties: Mapping[str, Any]
    inputs: Mapping[str, tuple[int, ...]]
    outputs: Mapping[str, tuple[int, ...]]


@dataclass(frozen=True)
class Metadata:
    """What is in a store, by id."""

    artifacts: Mapping[int, Artifact]
    executions: Mapping[int, Execution]

    @cached_property
    def makers(self) -> dict[int, Execution]:
        """By artifact, the execution that really made it, rather than found it in the cache."""
        found: dict[int, Execution] = {}
        for execution in sorted(self.executions.values(), key=lambda e: (e.cached, e.id)):
            for ids in execution.outputs.values():
                for id_ in ids:
                    found.setdefault(id_, execution)
        return found

    @cached_property
    def _by_run(self) -> dict[tuple[str, str, str], int]:
        return {
            (execution.run_id, execution.component, key): ids[-1]
            for execution in sorted(self.executions.values(), key=lambda e: e.id)
            for key, ids in execution.outputs.items()
            if ids
        }

    def output(self, run_id: str, component: str, key: str) -> Artifact | None:
        """What a component published in one run, made then or found in the cache."""
        id_ = self._by_run.get((run_id, component, key))
        return None if id_ is None else self.artifacts.get(id_)


NOTHING = Metadata({}, {})
"""The store of a run folder in which nothing was run."""


def metadata(folder: Path) -> Metadata:
    """Reads the store of a run folder, which may be in use."""
    file = folder / "metadata.sqlite"
    if not file.exists():
        return NOTHING
    config = metadata_store_pb2.ConnectionConfig()
    config.sqlite.filename_uri = str(file)
    config.sqlite.connection_mode = metadata_store_pb2.SqliteMetadataSourceConfig.READONLY
    return read(mlmd.MetadataStore(config))


def read(store: mlmd.MetadataStore) -> Metadata:
    """Reads all of a store."""
    types = {kind.id: kind.name for kind in store.get_artifact_types()}
    artifacts = {
        a.id: Artifact(
            a.id,
            types[a.type_id],
            a.uri,
            a.create_time_since_epoch / 1000,
            _values(a),
        )
        for a in store.get_artifacts()
    }
    inputs: dict[int, dict[str, tuple[int, ...]]] = {}
    outputs: dict[int, dict[str, tuple[int, ...]]] = {}
    found = store.get_executions()
    for event in store.get_events_by_execution_ids([e.id for e in found]) if found else ():
        sides = inputs if event.type in _INPUT else outputs if event.type in _OUTPUT else None
        if sides is not None:
            side = sides.setdefault(event.execution_id, {})
            key = next((step.key for step in event.path.steps if step.HasField("key")), "")
            side[key] = (*side.get(key, ()), event.artifact_id)
    component = _contexts(store, "node")
    run_id = _contexts(store, "pipeline_run")
    cached = metadata_store_pb2.Execution.CACHED
    return Metadata(
        artifacts,
        {
            e.id: Execution(
                e.id,
                # The context is called `pipeline.component`.
                component.get(e.id, ".").split(".", 1)[1],
                run_id.get(e.id, ""),
                e.last_known_state == cached,
                e.create_time_since_epoch / 1000,
                e.last_update_time_since_epoch / 1000,
                _values(e),
                inputs.get(e.id, {}),
                outputs.get(e.id, {}),
            )
            for e in found
        },
    )


def _contexts(store: mlmd.MetadataStore, kind: str) -> dict[int, str]:
    """By execution, the name of its context of that type."""
    return {
        execution.id: context.name
        for context in store.get_contexts_by_type(kind)
        for execution in store.get_executions_by_context(context.id)
    }


def _values(item: Any) -> dict[str, Any]:
    return {
        name: getattr(value, value.WhichOneof("value"))
        for values in (item.properties, item.custom_properties)
        for name, value in values.items()
        if value.WhichOneof("value") in ("int_value", "double_value", "string_value", "bool_value")
    }
