"""The pipeline as tasks: which component runs after which, and whose artifacts it is handed."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tfx.dsl.components.base.base_component import BaseComponent
from tfx.dsl.components.common.resolver import Resolver
from tfx.orchestration.pipeline import Pipeline
from tfx.types import artifact
from tfx.types.channel import BaseChannel

from tfx_distill.components.lineage_properties import TRANSFORM_GRAPH
from tfx_distill.kubeflow.records import Made, Record
from tfx_distill.kubeflow.resolution import Resolution
from tfx_distill.schema.errors import ConfigError


@dataclass(frozen=True)
class Output:
    """An artifact that is yet to be made: by which component, under which name."""

    component: str
    key: str


Source = Output | Made
"""Where an input comes from: this run, or an earlier one."""


@dataclass(frozen=True)
class Task:
    """A component.

    Attributes:
      component: Its id.
      inputs: Where the artifacts of each input come from; inputs without any are left out.
      outputs: Type of each output.
      after: Ids of the components that it runs after.
      needed: What its inputs name by a path, so that it has to be there as well: Transform graphs.
    """

    component: str
    inputs: Mapping[str, tuple[Source, ...]]
    outputs: Mapping[str, type[artifact.Artifact]]
    after: tuple[str, ...]
    needed: tuple[Source, ...] = ()

    @property
    def name(self) -> str:
        """As Kubernetes wants names: `StudentTrainer.compact` is `student-trainer-compact`."""
        words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "-", self.component)
        return re.sub(r"[^a-z0-9]+", "-", words.lower()).strip("-")


def tasks(pipeline: Pipeline, span: int, records: Sequence[Record]) -> list[Task]:
    """The components of a pipeline as tasks, in an order in which they can run.

    What a Resolver finds is known before the run: it is no task, and those who need it are handed
    the artifacts themselves.

    Args:
      pipeline: Of the graph.
      span: The last span of the run.
      records: Of earlier runs.

    Raises:
      ConfigError: A component needs what no earlier run made.
    """
    resolution = Resolution(span, records)
    found: dict[str, Task] = {}
    for node in pipeline.components:
        if isinstance(node, Resolver):
            resolution.resolve(node)
            continue
        if not isinstance(node, BaseComponent):
            raise TypeError(f"{node.id} is neither a component nor a Resolver")
        upstream = {other.id for other in node.upstream_nodes}
        inputs = _inputs(node, resolution)
        found[node.id] = Task(
            component=node.id,
            inputs=inputs,
            outputs={key: channel.type for key, channel in node.outputs.items()},
            after=tuple(component for component in found if component in upstream),
            needed=_needed(inputs, resolution, found),
        )
        resolution.add(node)
    return list(found.values())


def needs(pipeline: Pipeline) -> dict[str, set[str]]:
    """For each component, in an order in which they can run, those that it runs after."""
    found: dict[str, set[str]] = {}
    for node in pipeline.components:
        if not isinstance(node, Resolver):
            found[node.id] = {other.id for other in node.upstream_nodes} & found.keys()
    return found


def _inputs(node: BaseComponent, resolution: Resolution) -> dict[str, tuple[Source, ...]]:
    inputs: dict[str, tuple[Source, ...]] = {}
    for key, channel in node.inputs.items():
        sources = _sources(channel, resolution)
        if sources:
            inputs[key] = sources
        elif not node.spec.INPUTS[key].optional:
            raise ConfigError(
                node.id,
                got=f"no {channel.type.TYPE_NAME} for its input {key!r} in any earlier run",
                expected="one: this run goes on where an earlier one ended",
                fix="Run the bootstrap on the cluster first, and let it end; its records are in "
                "the folder 'lineage' of the run folder.",
            )
    return inputs


def _sources(channel: BaseChannel, resolution: Resolution) -> tuple[Source, ...]:
    component, key = channel.producer_component_id, channel.output_key
    resolved = resolution.of(component, key)
    if resolved is None:
        return (Output(component, key),)
    return tuple(
        Output(*resolution.current[item.id])
        if item.id in resolution.current
        else resolution.earlier[item.id]
        for item in resolved
    )


def _needed(
    inputs: Mapping[str, tuple[Source, ...]], resolution: Resolution, before: Mapping[str, Task]
) -> tuple[Source, ...]:
    """The Transform graphs that feature tables and models name, unless they are inputs anyway."""
    given = [source for sources in inputs.values() for source in sources]
    named: list[Source] = []
    for source in given:
        if isinstance(source, Output):
            named += before[source.component].inputs.get(TRANSFORM_GRAPH, ())
        else:
            path = source.item.get_string_custom_property(TRANSFORM_GRAPH)
            named += [resolution.graphs[path]] if path in resolution.graphs else []
    return tuple(source for source in dict.fromkeys(named) if source not in given)


def digest(pipeline: Pipeline) -> str:
    """Of the components and their connections.

    Two pipelines with the same digest are compiled to the same tasks, but for what earlier runs
    made.
    """
    shape = [
        [
            node.id,
            sorted(other.id for other in node.upstream_nodes),
            sorted(node.inputs),
            sorted(node.outputs),
        ]
        for node in pipeline.components
    ]
    return hashlib.sha256(json.dumps(shape).encode()).hexdigest()
