"""What every step made, kept on the shared file system: the lineage of a pipeline without a store.

One file per step of a run, written when the step has ended well. Kubeflow Pipelines is dropping ML
Metadata, and steps that run side by side could not share a SQLite file.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from google.protobuf import json_format
from ml_metadata.proto import metadata_store_pb2
from tfx.types import artifact, standard_artifacts

from tfx_distill.components.artifacts import TeacherLabels
from tfx_distill.schema.sections import Section

FOLDER = "lineage"
_RECORD = ".made.json"
_FAILURE = ".failed.json"
_BEGUN = ".begun"
_CLASSES: list[Any] = [c for c in vars(standard_artifacts).values() if inspect.isclass(c)]
KINDS: dict[str, type[artifact.Artifact]] = {
    kind.TYPE_NAME: kind
    for kind in (*_CLASSES, TeacherLabels)
    if issubclass(kind, artifact.Artifact) and kind.TYPE_NAME
}
"""Artifact types by name."""


class Made(Section):
    """An artifact.

    Attributes:
      kind: Name of its type.
      content: ML Metadata's message as JSON: id, properties, and its URI in the object store.
      kept: Folder on the shared file system that holds a copy; None where there is none.
    """

    kind: str
    content: str
    kept: str | None = None

    @classmethod
    def of(cls, item: artifact.Artifact, kept: Path | None = None) -> Made:
        """Describes an artifact."""
        return cls(
            kind=item.type_name,
            content=encoded(item),
            kept=None if kept is None else str(kept),
        )

    @property
    def item(self) -> artifact.Artifact:
        """The artifact, with its URI in the object store."""
        return decoded(KINDS[self.kind], self.content)


class Record(Section):
    """A step that has ended well.

    Attributes:
      run: Id of the run.
      component: Id of the component.
      inputs: Ids of the artifacts that it read, by input.
      outputs: What it made, by output.
      seconds: Wall time.
      cpu_seconds: CPU time of its process and children.
      peak_mib: Largest resident memory, in MiB.
      finished: Seconds since the epoch.
    """

    run: str
    component: str
    inputs: dict[str, tuple[int, ...]]
    outputs: dict[str, tuple[Made, ...]]
    seconds: float
    cpu_seconds: float
    peak_mib: float
    finished: float


class Failure(Section):
    """A step that failed, and how; `labels_refused` if it was for the quality of labels."""

    run: str
    component: str
    error: str
    labels_refused: bool


def encoded(item: artifact.Artifact) -> str:
    """An artifact's message as JSON on one line."""
    text: str = json_format.MessageToJson(item.mlmd_artifact, indent=None, sort_keys=True)
    return text


def decoded(kind: type[artifact.Artifact], content: str) -> artifact.Artifact:
    """The artifact of a message as `encoded` wrote it."""
    item = kind()
    item.set_mlmd_artifact(json_format.Parse(content, metadata_store_pb2.Artifact()))
    return item


def begin(run: str, component: str, run_folder: Path) -> None:
    """Notes that a step has begun: one that is killed leaves nothing else."""
    file = run_folder / FOLDER / run / f"{component}{_BEGUN}"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.touch()


def begun(run_folder: Path, run: str) -> set[str]:
    """The components of a run whose steps have begun, however they ended."""
    files = (run_folder / FOLDER / run).glob(f"*{_BEGUN}")
    return {file.name.removesuffix(_BEGUN) for file in files}


def write(record: Record, run_folder: Path) -> None:
    """Keeps a record, in place of that of an earlier attempt."""
    _write(record, run_folder, _RECORD)
    _file(record, run_folder, _FAILURE).unlink(missing_ok=True)


def write_failure(failure: Failure, run_folder: Path) -> None:
    """Keeps the reason why a step failed, until an attempt ends well."""
    _write(failure, run_folder, _FAILURE)
    _file(failure, run_folder, _RECORD).unlink(missing_ok=True)


def read(run_folder: Path, run: str = "*") -> list[Record]:
    """The records of a run, or of all, by the time at which the steps ended."""
    files = (run_folder / FOLDER).glob(f"{run}/*{_RECORD}")
    found = [Record.model_validate_json(file.read_text()) for file in files]
    return sorted(found, key=lambda record: record.finished)


def read_failures(run_folder: Path, run: str) -> list[Failure]:
    """Of a run, by component."""
    files = sorted((run_folder / FOLDER).glob(f"{run}/*{_FAILURE}"))
    return [Failure.model_validate_json(file.read_text()) for file in files]


def _file(of: Record | Failure, run_folder: Path, ending: str) -> Path:
    return run_folder / FOLDER / of.run / f"{of.component}{ending}"


def _write(content: Record | Failure, run_folder: Path, ending: str) -> None:
    file = _file(content, run_folder, ending)
    file.parent.mkdir(parents=True, exist_ok=True)
    unfinished = file.with_suffix(".partial")
    unfinished.write_text(content.model_dump_json(indent=1))
    unfinished.replace(file)


def made_by(records: Iterable[Record], component: str, kind: str) -> Iterator[Made]:
    """The artifacts of a type that a component made in all runs."""
    for record in records:
        if record.component == component:
            yield from (m for made in record.outputs.values() for m in made if m.kind == kind)
