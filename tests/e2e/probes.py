"""A pipeline of two steps that look around in their containers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml

MADE = ("declared", "undeclared")
"""What the first step makes; the second one declares only one of them."""
WRITE = """
import json, pathlib, sys
outputs = json.loads(sys.argv[1])["outputs"]["artifacts"]
for name in ("declared", "undeclared"):
    path = pathlib.Path("/minio", outputs[name]["artifacts"][0]["uri"][len("minio://"):])
    path.write_text(name)
"""
LOOK = """
import json, os, pathlib, socket, sys, tempfile
given = json.loads(sys.argv[1])
def place(side, name):
    uri = given[side]["artifacts"][name]["artifacts"][0]["uri"]
    return pathlib.Path("/minio", uri[len("minio://"):])
def writable(path):
    try:
        path.open("a").close()
    except OSError:
        return False
    return True
status = dict(line.split(":", 1) for line in open("/proc/self/status"))
seen = {
    "user": os.getuid(),
    "capabilities": int(status["CapEff"], 16) | int(status["CapPrm"], 16),
    "interfaces": [name for _, name in socket.if_nameindex()],
    "artifacts": {p.name: p.read_text() for p in pathlib.Path("/minio").rglob("*") if p.is_file()},
    "writable": {
        "input": writable(place("inputs", "declared")),
        "other": writable(place("inputs", "declared").with_name("other")),
        "code": writable(pathlib.Path(json.__file__)),
        "scratch": writable(pathlib.Path(tempfile.gettempdir(), "scratch")),
    },
}
place("outputs", "seen").write_text(json.dumps(seen))
"""


def pipeline(image: str) -> str:
    """The compiled pipeline: `write`, then `look`."""
    kind = {"artifactType": {"schemaTitle": "system.Artifact", "schemaVersion": "0.0.1"}}
    source = {"taskOutputArtifact": {"producerTask": "write", "outputArtifactKey": "declared"}}
    return yaml.safe_dump(
        {
            "components": {
                "write": _component("write", made=dict.fromkeys(MADE, kind)),
                "look": _component("look", given={"declared": kind}, made={"seen": kind}),
            },
            "deploymentSpec": {
                "executors": {"write": _executor(image, WRITE), "look": _executor(image, LOOK)}
            },
            "root": {
                "dag": {
                    "tasks": {
                        "write": {"componentRef": {"name": "write"}},
                        "look": {
                            "componentRef": {"name": "look"},
                            "inputs": {"artifacts": {"declared": source}},
                        },
                    }
                },
                "inputDefinitions": {"parameters": {}},
            },
        }
    )


def seen(store: Path) -> dict[str, Any]:
    """What `look` saw, from the object store."""
    (file,) = store.glob("**/look/seen")
    return dict(json.loads(file.read_text()))


def _component(
    name: str, *, made: dict[str, Any], given: dict[str, Any] | None = None
) -> dict[str, Any]:
    return {
        "executorLabel": name,
        "inputDefinitions": {"artifacts": given or {}},
        "outputDefinitions": {"artifacts": made},
    }


def _executor(image: str, program: str) -> dict[str, Any]:
    return {"container": {"image": image, "command": ["python", "-c", program], "args": ["{{$}}"]}}
