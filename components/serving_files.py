"""The files of a SavedModel: how large they are, and which others it would need."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from tensorflow.core.framework.node_def_pb2 import NodeDef
from tensorflow.core.protobuf import saved_model_pb2

BUCKETS = ("gs://", "s3://", "minio://", "hdfs://")
"""How the names of files begin that are on no disk."""


def size_mib(folder: str) -> float:
    """All files of a folder, in MiB."""
    return sum(file.stat().st_size for file in Path(folder).rglob("*") if file.is_file()) / 2**20


def foreign_files(folder: str) -> tuple[str, ...]:
    """Files outside of a SavedModel's folder that a constant of its graphs names.

    Such a model, one with a vocabulary that was not saved as an asset, works on the machine where
    it was trained and nowhere else, or as long as a bucket keeps the file. Whether there is such an
    object in a bucket is not looked up.
    """
    model = saved_model_pb2.SavedModel()
    model.ParseFromString((Path(folder) / "saved_model.pb").read_bytes())
    found = set()
    for meta in model.meta_graphs:
        functions = (node for f in meta.graph_def.library.function for node in f.node_def)
        for node in (*meta.graph_def.node, *functions):
            if node.op == "Const":
                found |= {value.decode(errors="replace") for value in _strings(node)}
    own = Path(folder).resolve()
    local = (Path(value) for value in found if value[:1] == "/" and "\0" not in value)
    foreign = {str(p) for p in local if _is_file(p) and not p.resolve().is_relative_to(own)}
    return tuple(sorted(foreign | {value for value in found if value.startswith(BUCKETS)}))


def _strings(node: NodeDef) -> Iterable[bytes]:
    strings: Iterable[bytes] = node.attr["value"].tensor.string_val
    return strings


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # no path at all, a long text
        return False
