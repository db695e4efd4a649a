"""What a model is trained on, piece by piece: the feature tables of the bootstrap and of spans."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass

from tfx_distill.labels.join import LabelJoiner
from tfx_distill.labels.snapshot import Snapshot


@dataclass(frozen=True)
class Chunk:
    """One feature table with its teacher labels.

    Attributes:
      span: Its last span.
      examples: Folder of the feature table.
      transform_graph: The Transform output that made it.
      watermark: Newest event time of its train split, seconds since 1970.
      snapshots: Teacher labels of its examples, as JSON; none where nothing is distilled.
    """

    span: int
    examples: str
    transform_graph: str
    watermark: int
    snapshots: tuple[str, ...] = ()

    def labels(self, kinds: dict[str, str]) -> LabelJoiner | None:
        """Joins the teacher labels of the train split; None where no task is taught.

        Args:
          kinds: Kind of each taught task.
        """
        if not kinds:
            return None
        return LabelJoiner([Snapshot.from_json(s) for s in self.snapshots], "train", kinds)


def to_json(chunks: Iterable[Chunk]) -> str:
    """Chunks as JSON, in order of span."""
    return json.dumps([asdict(chunk) for chunk in sorted(chunks, key=lambda chunk: chunk.span)])


def from_json(text: str) -> list[Chunk]:
    """The chunks that `to_json` wrote."""
    return [
        Chunk(**{**fields, "snapshots": tuple(fields["snapshots"])}) for fields in json.loads(text)
    ]
