"""Vertex AI as far as its client asks for pipelines: the REST API v1 over HTTP, kept in memory."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from unittest.mock import patch

import json_server
from google.auth.credentials import AnonymousCredentials
from google.cloud import aiplatform
from google.cloud.aiplatform.utils import gcs_utils
from google.protobuf import json_format
from kfp.pipeline_spec import pipeline_spec_pb2

PLACE = "projects/shop/locations/europe-west4"


@dataclass
class VertexStub:
    """What the service has.

    Attributes:
      pipelineJobs: By resource name, like the schedules.
      refusal: Status and message that every request is answered with.
    """

    pipelineJobs: dict[str, dict[str, Any]] = field(default_factory=dict)  # noqa: N815 (a URL's)
    schedules: dict[str, dict[str, Any]] = field(default_factory=dict)
    refusal: tuple[int, str] | None = None
    numbers: Iterator[int] = field(default_factory=itertools.count)

    def jobs(self) -> dict[str, dict[str, Any]]:
        return {name.rpartition("/")[2]: job for name, job in self.pipelineJobs.items()}

    def answer(
        self, method: str, path: str, query: dict[str, str], body: Any
    ) -> tuple[int, dict[str, Any]]:
        if self.refusal is not None:
            status, message = self.refusal
            return status, {"error": {"code": status, "message": message}}
        found = re.fullmatch(rf"/v1/({PLACE}/(pipelineJobs|schedules)(?:/[-\w]+)?)", path)
        if found is None:
            return 404, {"error": {"code": 404, "message": f"no {path}"}}
        name, kind = found.groups()
        items: dict[str, dict[str, Any]] = getattr(self, kind)
        if method == "DELETE":
            del items[name]
            return 200, {
                "name": f"{PLACE}/operations/1",
                "done": True,
                "response": {"@type": "type.googleapis.com/google.protobuf.Empty"},
            }
        if method == "GET":
            return 200, items[name] if name in items else self._listed(kind, items, query)
        return self._made(kind, items, query, body)

    def _listed(
        self, kind: str, items: dict[str, dict[str, Any]], query: dict[str, str]
    ) -> dict[str, Any]:
        pattern = re.fullmatch(r'display_name:"([-\w]+)\*"', query["filter"])
        assert pattern is not None, query
        return {kind: [i for i in items.values() if i["displayName"].startswith(pattern[1])]}

    def _made(
        self, kind: str, items: dict[str, dict[str, Any]], query: dict[str, str], body: Any
    ) -> tuple[int, dict[str, Any]]:
        job = body if kind == "pipelineJobs" else body["createPipelineJobRequest"]["pipelineJob"]
        json_format.ParseDict(job["pipelineSpec"], pipeline_spec_pb2.PipelineSpec())
        number = query.get("pipelineJobId") or str(next(self.numbers))
        name = f"{PLACE}/{kind}/{number}"
        if name in items:
            return 409, {"error": {"code": 409, "message": f"{name} exists"}}
        state = "PIPELINE_STATE_PENDING" if kind == "pipelineJobs" else "ACTIVE"
        items[name] = body | {"name": name, "state": state}
        return 200, items[name]


@contextmanager
def serving() -> Iterator[VertexStub]:
    """Serves an empty project, and has Google's client ask there."""
    stub = VertexStub()
    buckets = "create_gcs_bucket_for_pipeline_artifacts_if_it_does_not_exist"
    with (
        json_server.serving(
            lambda asked: stub.answer(asked.method, asked.path, asked.query, asked.body)
        ) as address,
        patch.object(gcs_utils, buckets),
    ):
        aiplatform.init(
            credentials=AnonymousCredentials(), api_endpoint=address, api_transport="rest"
        )
        try:
            yield stub
        finally:
            aiplatform.initializer.global_config.__init__()
