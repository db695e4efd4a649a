"""Labels on a disk that has no room left, then again with room; run as a script by the tests.

Usage: python label_on_a_full_disk.py DISK SCRATCH FEATURES TRANSFORM_GRAPH FIRST SECOND CONFIG

DISK is a small file system that holds the label table of CONFIG, FIRST and SECOND are teachers.
Prints what happened as JSON.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

from small_examples import execute, made
from tfx.types import standard_artifacts

from tfx_distill.components.artifacts import TeacherLabels, read_snapshots
from tfx_distill.components.teacher_labeler import LabelerConfig, TeacherLabeler
from tfx_distill.labels.snapshot import Snapshot, read
from tfx_distill.schema.errors import DistillError

disk, scratch, features, graph, first, second, config = sys.argv[1:]


def label(model: str, number: int) -> Snapshot:
    blessing = made(standard_artifacts.ModelBlessing, "unused")
    blessing.set_int_custom_property("blessed", 1)
    examples = made(standard_artifacts.Examples, features)
    examples.span = 3
    examples.set_int_custom_property("watermark", 0)
    labels = made(TeacherLabels, Path(scratch) / f"labels-{number}")
    execute(
        TeacherLabeler,
        Path(scratch),
        {
            "features": examples,
            "transform_graph": made(standard_artifacts.TransformGraph, graph),
            "model": made(standard_artifacts.Model, model, number),
            "model_blessing": blessing,
        },
        {"teacher_labels": labels},
        config=config,
    )
    (snapshot,) = read_snapshots(labels.uri)
    return snapshot


def rows(snapshot: Snapshot) -> list[Any]:
    return [
        table.to_pydict()["logit_click"]
        for split in ("train", "eval")
        for table in read(snapshot, split, ["logit_click"])
    ]


told: dict[str, Any] = {"table": LabelerConfig.model_validate_json(config).table}
kept = label(first, 1)
before = rows(kept)
ballast = Path(disk, "ballast")
room = os.statvfs(disk)
ballast.write_bytes(b"\0" * (room.f_bavail * room.f_frsize - 4096))
try:
    label(second, 2)
except DistillError as error:
    told |= {"kind": type(error).__name__, "where": error.where, "got": error.got}
    told |= {"expected": error.expected, "fix": error.fix}
told["unfinished"] = [str(path) for path in Path(disk).rglob("*.partial")]
told["unharmed"] = rows(kept) == before
ballast.unlink()
again = label(second, 3)
told["labelled"] = sum(map(len, rows(again)))
told["versions"] = [kept.version, again.version]
told["still unharmed"] = rows(kept) == before
print(json.dumps(told))
