"""The last step of a run: its lineage and its summary, as a local run leaves them."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from tfx.components.evaluator.constants import (
    ARTIFACT_PROPERTY_BASELINE_MODEL_ID_KEY,
    ARTIFACT_PROPERTY_CURRENT_MODEL_ID_KEY,
)
from tfx.dsl.compiler import compiler, constants
from tfx.orchestration import metadata
from tfx.orchestration.pipeline import Pipeline
from tfx.orchestration.portable import execution_publish_utils, runtime_parameter_utils
from tfx.orchestration.portable.mlmd import context_lib
from tfx.proto.orchestration import pipeline_pb2
from tfx.types import artifact

from tfx_distill.kubeflow import dag, records
from tfx_distill.kubeflow.executor import exec_properties
from tfx_distill.kubeflow.preparation import Prepared
from tfx_distill.kubeflow.records import KINDS, Failure, Made, Record
from tfx_distill.pipeline import gathering, graph, stream, summary
from tfx_distill.pipeline.local_runner import Outcome, Step
from tfx_distill.schema.errors import LabelsRefused

STORE = "metadata.sqlite"
_OWN_ID = "kubeflow_id"
"""Custom property of an artifact in ML Metadata: its id in the records, by which others name it."""
_NAMED_MODELS = (ARTIFACT_PROPERTY_CURRENT_MODEL_ID_KEY, ARTIFACT_PROPERTY_BASELINE_MODEL_ID_KEY)


def finish(prepared: Prepared) -> Outcome:
    """Puts the lineage of a run into ML Metadata, and its summary into the run folder.

    Nobody else writes to the store meanwhile: a run has one last step, and the next one is begun
    when it has ended.

    Returns:
      What became of the run.
    """
    config, source = prepared.run_config, prepared.source
    pipeline = graph.build(config, source)
    for component, error in _unrecorded(dag.needs(pipeline), prepared).items():
        failure = Failure(run=prepared.run, component=component, error=error, labels_refused=False)
        records.write_failure(failure, config.run_folder)
    made = records.read(config.run_folder, prepared.run)
    _publish(prepared, pipeline, made)
    failures = {f.component: f for f in records.read_failures(config.run_folder, prepared.run)}
    ended = {record.component: record for record in made}
    outcome = Outcome(
        prepared.run,
        tuple(_step(name, ended, failures) for name in dag.needs(pipeline)),
        tuple(_error(failure) for failure in failures.values()),
    )
    result = gathering.summarise(config, outcome, source)
    summary.write(result, config.run_folder)
    if config.stream is not None:
        stream.conclude(config, result, students_only=source.students_only)
    return outcome


def _unrecorded(needs: Mapping[str, set[str]], prepared: Prepared) -> dict[str, str]:
    """Components that failed without a word, and how.

    A container that is killed says no more. One may also die when its work is done: then somebody
    is never begun, although all that it needs says that it ended well. Of these it is the ones
    whose outputs nobody else got.
    """
    folder = prepared.run_config.run_folder
    begun = records.begun(folder, prepared.run)
    ended = {record.component for record in records.read(folder, prepared.run)}
    failed = {failure.component for failure in records.read_failures(folder, prepared.run)}
    found = dict.fromkeys(sorted(begun - ended - failed), "its container was killed")
    arrived = {other for name in begun for other in needs[name]}
    for name in needs.keys() - begun:
        if needs[name] <= ended:
            lost = sorted(needs[name] - arrived)
            found |= dict.fromkeys(
                lost, "it ended well, but what it made did not get to the object store"
            )
    return found


def _step(component: str, ended: Mapping[str, Record], failures: Mapping[str, Failure]) -> Step:
    if component in ended:
        done = ended[component]
        return Step(component, "ran", done.seconds, done.cpu_seconds, done.peak_mib)
    if component in failures:
        return Step(component, "failed", error=failures[component].error)
    return Step(component, "skipped")


def _error(failure: Failure) -> Exception:
    """As `gathering` tells labels that were refused from other failures."""
    if failure.labels_refused:
        return LabelsRefused(failure.component, got=failure.error, expected="", fix="")
    return RuntimeError(f"{failure.component}: {failure.error}")


def _publish(prepared: Prepared, pipeline: Pipeline, made: Sequence[Record]) -> None:
    """Adds the executions of a run to the store; those that are there stay as they are."""
    ir = compiler.Compiler().compile(pipeline)
    runtime_parameter_utils.substitute_runtime_parameter(
        ir, {constants.PIPELINE_RUN_ID_PARAMETER_NAME: prepared.run}
    )
    nodes = {one.pipeline_node.node_info.id: one.pipeline_node for one in ir.nodes}
    store = prepared.run_config.run_folder / STORE
    # SQLite wants locks that shared file systems do not always have.
    with TemporaryDirectory() as scratch:
        copy = Path(scratch) / STORE
        if store.exists():
            shutil.copy(store, copy)
        with metadata.Metadata(metadata.sqlite_metadata_connection_config(str(copy))) as handle:
            store_of = _Store(handle)
            for record in made:
                store_of.add(record, nodes[record.component])
        unfinished = store.with_suffix(".partial")
        shutil.copy(copy, unfinished)
        unfinished.replace(store)


class _Store:
    """ML Metadata, in which artifacts are found by their ids in the records."""

    def __init__(self, handle: metadata.Metadata) -> None:
        self._handle = handle
        self._ids = {
            a.custom_properties[_OWN_ID].int_value: a.id
            for a in handle.store.get_artifacts()
            if _OWN_ID in a.custom_properties
        }

    def add(self, record: Record, node: pipeline_pb2.PipelineNode) -> None:
        """Adds an execution, unless it is there."""
        made = {key: [m.item.id for m in of_key] for key, of_key in record.outputs.items()}
        if any(own in self._ids for ids in made.values() for own in ids):
            return
        contexts = context_lib.prepare_contexts(self._handle, node.contexts)
        execution = execution_publish_utils.register_execution(
            self._handle,
            node.node_info.type,
            contexts,
            {key: [self._known(own) for own in ids] for key, ids in record.inputs.items()},
            exec_properties(node),
        )
        published, _ = execution_publish_utils.publish_succeeded_execution(
            self._handle,
            execution.id,
            contexts,
            {key: [self._new(m) for m in of_key] for key, of_key in record.outputs.items()},
        )
        for key, items in (published or {}).items():
            self._ids |= {own: item.id for own, item in zip(made[key], items, strict=True)}

    def _known(self, own: int) -> artifact.Artifact:
        (found,) = self._handle.store.get_artifacts_by_id([self._ids[own]])
        (kind,) = self._handle.store.get_artifact_types_by_id([found.type_id])
        item = KINDS[kind.name]()
        item.set_mlmd_artifact(found)
        item.set_mlmd_artifact_type(kind)
        return item

    def _new(self, made: Made) -> artifact.Artifact:
        """As ML Metadata is to know it: at the place where people find it."""
        item = made.item
        item.set_int_custom_property(_OWN_ID, item.id)
        for name in _NAMED_MODELS:
            own = item.get_int_custom_property(name)
            if own in self._ids:
                item.set_int_custom_property(name, self._ids[own])
        if made.kept is not None:
            item.uri = made.kept
        item.mlmd_artifact.ClearField("id")
        return item
