"""What a run produced, read from ML Metadata."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import ml_metadata as mlmd
from ml_metadata.proto import metadata_store_pb2


@dataclass(frozen=True)
class Produced:
    """One output artifact: where it is and what it says about itself."""

    id: int
    uri: str
    properties: dict[str, Any] = field(default_factory=dict)


Outputs = dict[str, dict[str, Produced]]
"""By component id and output name; the last one where there are several."""


def outputs(store: mlmd.MetadataStore, run_id: str) -> Outputs:
    """The outputs of every component that ran, or was served from the cache, in one run."""
    context = store.get_context_by_type_and_name("pipeline_run", run_id)
    if context is None:
        return {}
    executions = store.get_executions_by_context(context.id)
    nodes = {}
    for execution in executions:
        for other in store.get_contexts_by_execution(execution.id):
            if other.type == "node":
                nodes[execution.id] = other.name.split(".", 1)[1]
    written = (metadata_store_pb2.Event.OUTPUT, metadata_store_pb2.Event.INTERNAL_OUTPUT)
    events = [
        event for event in store.get_events_by_execution_ids(list(nodes)) if event.type in written
    ]
    artifacts = {
        a.id: a for a in store.get_artifacts_by_id([event.artifact_id for event in events])
    }
    found: Outputs = {}
    for event in events:
        artifact = artifacts[event.artifact_id]
        key = next(step.key for step in event.path.steps if step.HasField("key"))
        found.setdefault(nodes[event.execution_id], {})[key] = Produced(
            artifact.id, artifact.uri, _values(artifact)
        )
    return found


def produced(store: mlmd.MetadataStore, pipeline: str, component: str, kind: str) -> list[Produced]:
    """The artifacts of a type that a component published in all runs of a pipeline, by id."""
    context = store.get_context_by_type_and_name("node", f"{pipeline}.{component}")
    if context is None:
        return []
    kinds = {found.id for found in store.get_artifact_types() if found.name == kind}
    return [
        Produced(artifact.id, artifact.uri, _values(artifact))
        for artifact in sorted(store.get_artifacts_by_context(context.id), key=lambda a: a.id)
        if artifact.type_id in kinds and artifact.state == metadata_store_pb2.Artifact.LIVE
    ]


def sqlite(path: str) -> mlmd.MetadataStore:
    """The store in a SQLite file."""
    config = metadata_store_pb2.ConnectionConfig()
    config.sqlite.filename_uri = path
    return mlmd.MetadataStore(config)


def _values(artifact: metadata_store_pb2.Artifact) -> dict[str, Any]:
    out = {}
    for values in (artifact.properties, artifact.custom_properties):
        for name, value in values.items():
            out[name] = getattr(value, value.WhichOneof("value"))
    return out
