"""What Kubeflow hands to a step, and what it wants back: ExecutorInput and ExecutorOutput.

Only what the launchers of Kubeflow Pipelines and of Vertex AI agree on is relied on: the URI and
the metadata of each artifact. Types are those of the graph, since the launcher of Kubeflow
Pipelines leaves them out; its output `executor-logs` is nobody's.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tfx.types import artifact

from tfx_distill.kubeflow.compiler import input_name
from tfx_distill.kubeflow.records import decoded, encoded
from tfx_distill.kubeflow.uris import local_path

TFX = "tfx"
"""Key of an artifact's metadata that holds TFX's: Kubeflow's own keeps no integers."""
_RANDOM_BITS = 20

Artifacts = dict[str, list[artifact.Artifact]]


@dataclass(frozen=True)
class Execution:
    """One attempt of a step."""

    content: Mapping[str, Any]

    @classmethod
    def parse(cls, text: str) -> Execution:
        """Reads an ExecutorInput message in JSON."""
        return cls(json.loads(text))

    def parameter(self, name: str, default: Any = None) -> Any:
        """The value of an input parameter; `default` if the step has no such parameter."""
        return self.content["inputs"]["parameterValues"].get(name, default)

    def path(self, side: str, name: str) -> Path:
        """Where the one artifact of an input or output lies; `side` is `inputs` or `outputs`."""
        (found,) = self.content[side]["artifacts"][name]["artifacts"]
        return Path(local_path(found["uri"]))

    def inputs(self, kinds: Mapping[str, type[artifact.Artifact]]) -> Artifacts:
        """The artifacts of each input, at their local paths; inputs without any are left out."""
        given = self.content.get("inputs", {}).get("artifacts", {})
        found: Artifacts = {}
        for key, kind in kinds.items():
            place = 0
            while (name := input_name(key, place)) in given:
                (content,) = given[name]["artifacts"]
                item = decoded(kind, content["metadata"][TFX])
                item.uri = local_path(content["uri"])
                found.setdefault(key, []).append(item)
                place += 1
        return found

    def outputs(self, kinds: Mapping[str, type[artifact.Artifact]]) -> Artifacts:
        """A new artifact for each output, with an id of its own and an empty folder."""
        found: Artifacts = {}
        for key, kind in kinds.items():
            item = kind()
            item.id = _new_id()
            item.uri = str(self.path("outputs", key))
            Path(item.uri).mkdir(parents=True, exist_ok=True)
            found[key] = [item]
        return found

    def published(self, outputs: Artifacts) -> Artifacts:
        """Writes the ExecutorOutput.

        Returns:
          The outputs with their URIs in the object store.
        """
        announced = self.content["outputs"]["artifacts"]
        stored: Artifacts = {}
        content: dict[str, Any] = {}
        for key, (item,) in outputs.items():
            (given,) = announced[key]["artifacts"]
            copy = decoded(type(item), encoded(item))
            copy.uri = given["uri"]
            stored[key] = [copy]
            entry = {"uri": given["uri"], "metadata": {TFX: encoded(copy)}}
            if "name" in given:
                entry["name"] = given["name"]
            content[key] = {"artifacts": [entry]}
        file = Path(local_path(self.content["outputs"]["outputFile"]))
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps({"artifacts": content}))
        return stored


def _new_id() -> int:
    """Larger than that of everything made before, since Resolvers go by age; below 2^62."""
    noise = int.from_bytes(os.urandom(3), "big") >> (24 - _RANDOM_BITS)
    return (time.time_ns() // 1_000_000 << _RANDOM_BITS) | noise
