"""The intervals that a gate computed, as its `intervals.json` has them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from tfx_distill.pipeline.report.gather_metadata import Metadata

FILE = "intervals.json"


class Interval(NamedTuple):
    """A value and its interval; None where it is undefined. `queries` are those that count."""

    value: float | None
    low: float | None
    high: float | None
    queries: int | None


class Key(NamedTuple):
    """What an interval is of: `slice` is empty for all examples.

    `model` is the model that has the value, or of a difference the one that is subtracted from the
    candidate.
    """

    slice: str
    task: str
    metric: str
    model: str


@dataclass(frozen=True)
class Intervals:
    """The intervals of one evaluation: of each model's values, and of the candidate's leads."""

    values: Mapping[Key, Interval] = field(default_factory=dict)
    differences: Mapping[Key, Interval] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.values or self.differences)

    @property
    def slices(self) -> tuple[str, ...]:
        """All slices but that of all examples."""
        return tuple(sorted({key.slice for key in self.values} - {""}))


def intervals(found: Metadata, run_id: str, gate: str) -> Intervals:
    """The intervals that a gate published in one run; none if it did not, or an older version ran.

    Args:
      found: ML Metadata of the run folder.
      run_id: Which run.
      gate: Id of the component, `TeacherGate` or `StudentGate.<name>`.
    """
    artifact = found.output(run_id, gate, "blessing")
    file = None if artifact is None else Path(artifact.uri) / FILE
    return read(file) if file is not None and file.exists() else Intervals()


def read(file: Path) -> Intervals:
    """The intervals in a file.

    Raises:
      ValueError, KeyError: It holds something else.
    """
    content = json.loads(file.read_text())
    return Intervals(
        {_key(one, one["model"]): _interval(one) for one in content["estimates"]},
        {_key(one, one["other"]): _interval(one) for one in content["differences"]},
    )


def _key(content: Mapping[str, Any], model: str) -> Key:
    return Key(content.get("slice") or "", content["task"], content["metric"], model)


def _interval(content: Mapping[str, Any]) -> Interval:
    return Interval(
        content.get("value"), content.get("low"), content.get("high"), content.get("queries")
    )
