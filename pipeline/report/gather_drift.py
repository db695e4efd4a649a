"""How far each column of a span is from that of the span before, as the ExampleValidator found."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tensorflow_metadata.proto.v0 import anomalies_pb2

from tfx_distill.pipeline.report.gather_metadata import Metadata

VALIDATOR = "ExampleValidator"
_MEASURES = anomalies_pb2.DriftSkewInfo.Measurement
_NAMES = {
    _MEASURES.L_INFTY: "largest change of a share",
    _MEASURES.JENSEN_SHANNON_DIVERGENCE: "Jensen-Shannon divergence",
}


@dataclass(frozen=True)
class Drift:
    """A column's distance from the span before; at `limit` it becomes an anomaly."""

    span: int
    split: str
    column: str
    measure: str
    value: float
    limit: float

    @property
    def share(self) -> float:
        """The distance as a share of the limit."""
        return self.value / self.limit if self.limit else 0.0


def drifts(found: Metadata, run_ids: tuple[str, ...]) -> tuple[Drift, ...]:
    """All distances that were measured in some runs, by span, split and column."""
    out: list[Drift] = []
    for run_id in run_ids:
        artifact = found.output(run_id, VALIDATOR, "anomalies")
        if artifact is not None:
            span = int(artifact.properties.get("span", -1))
            for file in sorted(Path(artifact.uri).glob("Split-*/SchemaDiff.pb")):
                out += _of_file(file, span)
    return tuple(out)


def _of_file(file: Path, span: int) -> Iterator[Drift]:
    split = file.parent.name.removeprefix("Split-")
    for info in anomalies_pb2.Anomalies.FromString(file.read_bytes()).drift_skew_info:
        for measured in info.drift_measurements:
            yield Drift(
                span,
                split,
                ".".join(info.path.step),
                _NAMES.get(measured.type, "distance"),
                measured.value,
                measured.threshold,
            )
