"""Where each pushed model comes from: its ancestors in ML Metadata, as a graph of artifacts."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from tfx_distill.pipeline.report.gather_metadata import Artifact, Execution, Metadata

_NOT_FOLLOWED = ("base_model", "baseline", "twin")
"""Inputs whose own ancestors are another model's story: they end a branch."""
_LEFT_OUT = ("previous",)
"""Inputs that only served a comparison."""
_REFRESHER = "VocabularyRefresher"
_KINDS = {
    "TeacherTrainer": "Teacher",
    "StudentTrainer": "Student",
    "TwinTrainer": "Twin",
    "FeatureMaterializer": "Features",
}
"""What artifacts are called after the component that made them; else after their type."""
_SETTINGS = ("custom_config", "config", "features")
"""Properties of executions that hold a config as JSON."""


@dataclass(frozen=True)
class Node:
    """An artifact, or the config or the code that made a model.

    `properties` are for people: name and text. `ends` says that its own ancestors are not shown.
    """

    id: str
    kind: str
    title: str
    properties: Mapping[str, str]
    ends: bool = False


@dataclass(frozen=True)
class Ancestry:
    """A pushed model and all that it comes from; an edge goes from a product to its source."""

    student: str
    span: int | None
    pushed: float
    path: str
    nodes: tuple[Node, ...]
    edges: tuple[tuple[str, str], ...]


def ancestries(found: Metadata, most: int) -> list[Ancestry]:
    """The pushed models, newest first, at most so many."""
    pushes = [
        artifact
        for artifact in found.artifacts.values()
        if artifact.type == "PushedModel"
        and artifact.properties.get("pushed") == 1
        and artifact.id in found.makers
    ]
    pushes.sort(key=lambda artifact: -artifact.id)
    return [_ancestry(found, artifact) for artifact in pushes[:most]]


def _ancestry(found: Metadata, pushed: Artifact) -> Ancestry:
    nodes: dict[str, Node] = {}
    edges: dict[tuple[str, str], None] = {}
    model = _pushed_model(found, pushed)
    waiting = [(pushed, False)]
    while waiting:
        artifact, ends = waiting.pop()
        name = str(artifact.id)
        # A model that ends one branch may be followed on another.
        if name in nodes and (ends or not nodes[name].ends):
            continue
        maker = found.makers.get(artifact.id)
        nodes[name] = _node(artifact, maker, ends)
        if ends or maker is None:
            continue
        for key, source in _sources(found, maker):
            edges[name, str(source.id)] = None
            waiting.append((source, key in _NOT_FOLLOWED))
        if artifact is model:
            for extra in _made_with(artifact, maker):
                nodes[extra.id] = extra
                edges[name, extra.id] = None
    maker = found.makers[pushed.id]
    span = None if model is None else model.properties.get("span")
    return Ancestry(
        student=maker.component.partition(".")[2],
        span=None if span is None else int(span),
        pushed=pushed.created,
        path=str(pushed.properties.get("pushed_destination", pushed.uri)),
        nodes=tuple(nodes.values()),
        edges=tuple(edges),
    )


def _pushed_model(found: Metadata, pushed: Artifact) -> Artifact | None:
    ids = found.makers[pushed.id].inputs.get("model", ())
    return found.artifacts.get(ids[0]) if ids else None


def _sources(found: Metadata, maker: Execution) -> Iterator[tuple[str, Artifact]]:
    for key, ids in maker.inputs.items():
        if key not in _LEFT_OUT:
            for id_ in ids:
                if maker.component == _REFRESHER and key == "transform_graph":
                    id_ = _first_graph(found, id_)
                if id_ in found.artifacts:
                    yield key, found.artifacts[id_]


def _first_graph(found: Metadata, graph: int) -> int:
    """The graph that others were refreshed from: as a stream goes on, they become many."""
    while (maker := found.makers.get(graph)) is not None and maker.component == _REFRESHER:
        (graph,) = maker.inputs["transform_graph"]
    return graph


def _node(artifact: Artifact, maker: Execution | None, ends: bool) -> Node:
    properties = {"artifact": f"{artifact.type} {artifact.id}", "uri": artifact.uri}
    if maker is not None:
        properties |= {"made by": maker.component, "in run": maker.run_id}
        settings = _settings(maker)
        if settings:
            properties["config digest"] = _digest(settings)
    properties |= {name: str(value) for name, value in sorted(artifact.properties.items())}
    return Node(str(artifact.id), _kind(artifact, maker), _title(artifact), properties, ends)


def _kind(artifact: Artifact, maker: Execution | None) -> str:
    component = "" if maker is None else maker.component.partition(".")[0]
    return _KINDS.get(component, artifact.type)


def _title(artifact: Artifact) -> str:
    """What tells this artifact from others of its type."""
    get = artifact.properties.get
    first, _, last = str(get("spans", get("span", ""))).partition("-")
    span = f"span {first}" if last in ("", first) else f"spans {first} to {last}"
    if artifact.type == "PushedModel":
        return f"version {get('pushed_version')}"
    if artifact.type in ("ModelBlessing", "InfraBlessing"):
        state = get("blessed")
        return "blessed" if state in (1, "INFRA_BLESSED") else "not blessed"
    if artifact.type == "TeacherLabels":
        return f"table version {get('table_version')}, {span}"
    return f"{artifact.id}, {span}" if first else f"{artifact.id}"


def _made_with(artifact: Artifact, maker: Execution) -> Iterator[Node]:
    """The config and the code of a training, which are no artifacts."""
    settings = _settings(maker)
    if settings:
        digest = _digest(settings)
        yield Node(f"config-{digest}", "Config", digest, _flat(settings))
    version = artifact.properties.get("tfx_version")
    if version is not None:
        code = {"tfx": str(version)}
        if "code" in artifact.properties:
            code["tfx-distill"] = str(artifact.properties["code"])
        yield Node(f"code-{'-'.join(code.values())}", "Code", f"tfx {version}", code)


def _settings(maker: Execution) -> dict[str, Any]:
    found = {}
    for name in _SETTINGS:
        if isinstance(maker.properties.get(name), str):
            found[name] = _unpacked(maker.properties[name])
    return found


def _unpacked(value: Any) -> Any:
    """JSON within JSON, as TFX nests it, all taken apart."""
    if isinstance(value, str) and value[:1] in "{[":
        try:
            return _unpacked(json.loads(value))
        except ValueError:
            return value
    if isinstance(value, dict):
        return {name: _unpacked(part) for name, part in value.items()}
    if isinstance(value, list):
        return [_unpacked(part) for part in value]
    return value


def _digest(settings: Mapping[str, Any]) -> str:
    text = json.dumps(settings, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _flat(settings: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Nested settings as `a.b: value`; lists stay on one line."""
    out: dict[str, str] = {}
    for name, value in settings.items():
        key = f"{prefix}{name}"
        if isinstance(value, dict):
            out |= _flat(value, f"{key}.")
        else:
            out[key] = value if isinstance(value, str) else json.dumps(value, default=str)
    return out
