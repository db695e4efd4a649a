"""The losses of trainings, from the event files that they wrote for TensorBoard.

The files are framed records of protocol buffers; TensorBoard brings the buffers, so that nothing
needs TensorFlow. The framing is that of TFRecord: length (8 bytes), its checksum (4), the content,
the checksum of that (4); see the TensorFlow guide "TFRecord and tf.train.Example".
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tensorboard.compat.proto import event_pb2

from tfx_distill.pipeline.report.gather_metadata import Metadata

SPLITS = ("train", "validation")
"""Folders of event files: of the train split and of the eval split."""
_PREFIX = "epoch_"


@dataclass(frozen=True)
class Point:
    """A loss after one epoch; `epoch` counts within its span."""

    model: str
    span: int
    epoch: int
    split: str
    loss: str
    value: float


def points(found: Metadata, run_ids: tuple[str, ...]) -> tuple[Point, ...]:
    """All losses of the trainings of some runs, by model, in order of span and epoch.

    Models are called `teacher`, `<student>` and `<student> (twin)`, in the order of their training.
    """
    wanted = set(run_ids)
    out: dict[tuple[str, int], list[Point]] = {}
    for execution in sorted(found.executions.values(), key=lambda e: e.id):
        title = title_of(execution.component)
        if title is None or execution.run_id not in wanted:
            continue
        models = execution.outputs.get("model", ())
        spans = [int(found.artifacts[m].properties.get("span", -1)) for m in models]
        for id_ in execution.outputs.get("model_run", ()):
            span = spans[0] if spans else -1
            # A span that was run again replaces what was there.
            out[title, span] = list(of_log(Path(found.artifacts[id_].uri), title, span))
    titles = list(dict.fromkeys(title for title, _ in out))
    ordered = sorted(out, key=lambda key: (titles.index(key[0]), key[1]))
    return tuple(point for key in ordered for point in out[key])


def title_of(component: str) -> str | None:
    """What the model of a trainer is called; None if the component trains nothing."""
    kind, _, student = component.partition(".")
    titles = {
        "TeacherTrainer": "teacher",
        "StudentTrainer": student,
        "TwinTrainer": f"{student} (twin)",
    }
    return titles.get(kind)


def of_log(folder: Path, model: str, span: int) -> Iterator[Point]:
    """The losses in one log; a file that ends too soon yields what it has."""
    for split in SPLITS:
        by_loss: dict[str, list[float]] = {}
        for file in sorted((folder / split).glob("events.out.tfevents.*")):
            for record in _records(file):
                for value in event_pb2.Event.FromString(record).summary.value:
                    by_loss.setdefault(value.tag, []).append(_number(value))
        for tag, values in by_loss.items():
            for epoch, number in enumerate(values, 1):
                yield Point(model, span, epoch, split, tag.removeprefix(_PREFIX), number)


def _records(file: Path) -> Iterator[bytes]:
    content = file.read_bytes()
    at = 0
    while at + 12 <= len(content):
        (length,) = struct.unpack_from("<Q", content, at)
        start = at + 12
        if start + length + 4 > len(content):
            return
        yield content[start : start + length]
        at = start + length + 4


def _number(value: event_pb2.Summary.Value) -> float:
    """A scalar: newer TensorFlow writes a tensor, older a plain number."""
    if value.HasField("simple_value"):
        return float(value.simple_value)
    tensor = value.tensor
    if tensor.float_val:
        return float(tensor.float_val[0])
    return float(struct.unpack_from("<f", tensor.tensor_content)[0])
