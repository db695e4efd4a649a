"""Kubeflow Pipelines as far as its client asks: the REST API v2beta1 over HTTP, kept in memory.

It refuses what the API server would refuse: specs that are no PipelineSpec, unknown fields, filters
and experiments that there are not.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from unittest.mock import patch

import json_server
import kfp
import kfp_server_api
import yaml
from google.protobuf import json_format
from json_server import Request
from kfp.pipeline_spec import pipeline_spec_pb2

PAGE = 2
"""Most items of one page, however many are asked for: clients have to ask for the next one."""
FIELDS = {
    "experiments": kfp_server_api.V2beta1Experiment,
    "runs": kfp_server_api.V2beta1Run,
    "recurringruns": kfp_server_api.V2beta1RecurringRun,
}
IDS = {"experiments": "experiment_id", "runs": "run_id", "recurringruns": "recurring_run_id"}
LISTS = {"experiments": "experiments", "runs": "runs", "recurringruns": "recurringRuns"}


class Refused(Exception):
    """What a request is answered with in place of 200."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


@dataclass
class KfpStub:
    """What the server has.

    Attributes:
      host: Its address.
      experiments: By id, like the others.
      headers: Of the last request.
      refusal: Answers every request but that for its health.
    """

    host: str = ""
    experiments: dict[str, dict[str, Any]] = field(default_factory=dict)
    runs: dict[str, dict[str, Any]] = field(default_factory=dict)
    recurringruns: dict[str, dict[str, Any]] = field(default_factory=dict)
    headers: dict[str, str] = field(default_factory=dict)
    refusal: Refused | None = None
    numbers: Iterator[int] = field(default_factory=itertools.count)

    def by_name(self) -> dict[str, dict[str, Any]]:
        """The runs by their names, of which no two may be equal."""
        named = {run["display_name"]: run for run in self.runs.values()}
        assert len(named) == len(self.runs)
        return named

    def schedules(self) -> list[dict[str, Any]]:
        return list(self.recurringruns.values())

    def end(self, name: str, state: str) -> None:
        self.by_name()[name]["state"] = state

    def answer(self, method: str, path: str, query: dict[str, str], body: Any) -> Any:
        *_, kind = path.removeprefix("/apis/v2beta1/").split("/")[:1]
        if kind == "healthz":
            return {"multi_user": False}
        if self.refusal is not None:
            raise self.refusal
        if kind not in FIELDS:
            raise Refused(404, f"no {path}")
        items: dict[str, dict[str, Any]] = getattr(self, kind)
        if method == "DELETE":
            del items[path.rpartition("/")[2]]
            return {}
        return (
            self._listed(kind, items, query) if method == "GET" else self._made(kind, items, body)
        )

    def _made(self, kind: str, items: dict[str, dict[str, Any]], body: dict[str, Any]) -> Any:
        unknown = set(body) - set(FIELDS[kind].attribute_map.values())
        if unknown:
            raise Refused(400, f"unknown fields {unknown}")
        if kind != "experiments":
            self._require_experiment(body["experiment_id"])
            require_pipeline(body["pipeline_spec"], body["runtime_config"].get("parameters") or {})
        number = f"{kind}-{next(self.numbers)}"
        content = body | {IDS[kind]: number, "storage_state": "AVAILABLE"}
        if kind == "runs":
            content["state"] = "PENDING"
        if kind == "recurringruns":
            content |= {"status": "ENABLED" if body["mode"] == "ENABLE" else "DISABLED"}
            del content["storage_state"]
        items[number] = content
        return content

    def _listed(
        self, kind: str, items: dict[str, dict[str, Any]], query: dict[str, str]
    ) -> dict[str, Any]:
        found = list(items.values())
        if "experiment_id" in query:
            self._require_experiment(query["experiment_id"])
            found = [one for one in found if one["experiment_id"] == query["experiment_id"]]
        for predicate in json.loads(query.get("filter") or "{}").get("predicates", ()):
            found = [one for one in found if matches(one, predicate)]
        start = int(query.get("page_token") or 0)
        end = start + min(PAGE, int(query.get("page_size") or PAGE))
        page: dict[str, Any] = {LISTS[kind]: found[start:end], "total_size": len(found)}
        if end < len(found):
            page["next_page_token"] = str(end)
        return page

    def _require_experiment(self, number: str) -> None:
        if number not in self.experiments:
            raise Refused(404, f"no experiment {number}")


def matches(one: dict[str, Any], predicate: dict[str, Any]) -> bool:
    key, value = predicate["key"], predicate["stringValue"]
    if predicate["operation"] == 1:
        return bool(one[key] == value)
    if predicate["operation"] == 9:
        return value in one[key]
    raise Refused(400, f"operation {predicate['operation']}")


def require_pipeline(package: dict[str, Any], parameters: dict[str, Any]) -> None:
    """Parses it into the messages that the server and the SDK have, and loads it with the SDK."""
    content = package.get("pipeline_spec", package)
    try:
        spec = json_format.ParseDict(content, pipeline_spec_pb2.PipelineSpec())
        json_format.ParseDict(package.get("platform_spec", {}), pipeline_spec_pb2.PlatformSpec())
        loaded = kfp.components.load_component_from_text(yaml.safe_dump(content))
    except (json_format.ParseError, ValueError, TypeError) as error:
        raise Refused(400, f"no pipeline: {error}") from error
    declared = set(spec.root.input_definitions.parameters)
    if set(loaded.component_spec.inputs or {}) != declared or not set(parameters) <= declared:
        raise Refused(400, f"parameters {parameters} of {declared}")


@contextmanager
def serving() -> Iterator[KfpStub]:
    """Serves an empty installation on a free port."""
    stub = KfpStub()

    def answer(request: Request) -> tuple[int, Any]:
        stub.headers = request.headers
        try:
            return 200, stub.answer(request.method, request.path, request.query, request.body)
        except Refused as refused:
            return refused.status, {"code": 3, "message": str(refused)}

    with (
        json_server.serving(answer) as stub.host,
        # The client reads a file of the home folder.
        patch.object(kfp.Client, "_LOCAL_KFP_CONTEXT", "/none/context.json"),
    ):
        yield stub
