"""Labels spans that a stream has already processed, with a teacher of one's choice."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from tfx_distill.components.artifacts import read_snapshots
from tfx_distill.components.lineage_properties import SPAN
from tfx_distill.labels.catalogue import labellings
from tfx_distill.labels.snapshot import Snapshot
from tfx_distill.pipeline import graph, lineage, local_runner, span_records
from tfx_distill.schema.config import RunConfig
from tfx_distill.schema.errors import ConfigError


@dataclass(frozen=True)
class Teacher:
    """A trained teacher of a run folder.

    Attributes:
      version: Id of its model artifact, which is `teacher_version` in the label table.
      span: Span up to which it was trained.
    """

    version: int
    span: int


def teachers(config: RunConfig) -> list[Teacher]:
    """All teachers that were trained, oldest first."""
    store = lineage.sqlite(str(config.run_folder / "metadata.sqlite"))
    models = lineage.produced(store, config.name, graph.TEACHER_TRAINER, "Model")
    return [Teacher(model.id, int(model.properties.get(SPAN, -1))) for model in models]


def chosen(config: RunConfig, version: str) -> Teacher:
    """The teacher with this version or partition of the label table.

    Raises:
      ConfigError: There is none, or several.
    """
    there = teachers(config)
    partitions = {
        one.provenance.teacher_version: one.teacher for one in labellings(config.label_table)
    }
    found = []
    for teacher in there:
        partition = partitions.get(str(teacher.version), "")
        if version in (str(teacher.version), partition) or (
            len(version) >= 6 and partition.startswith(version)
        ):
            found.append(teacher)
    if len(found) == 1:
        return found[0]
    known = ", ".join(f"{t.version} (span {t.span})" for t in there) or "none"
    raise ConfigError(
        "--teacher",
        got=repr(version),
        expected=f"one of the trained teachers: {known}",
        fix="Name a teacher by its number, or by the first digits of its partition.",
    )


def backfill(
    config: RunConfig, spans: tuple[int, int], teacher: Teacher
) -> Iterator[tuple[int, Snapshot | Exception]]:
    """Labels the stored chunks of some spans; what this teacher has labelled before is kept.

    The spans of a bootstrap are one chunk: naming one of them labels all.

    Yields:
      The last span of each chunk with the snapshot of its labels, or with what went wrong.

    Raises:
      ConfigError: None of the spans was processed.
    """
    records = span_records.read(config.run_folder)
    chunks = [
        span
        for span, record in records.items()
        if record.first_span <= spans[1] and span >= spans[0]
    ]
    if not chunks:
        raise ConfigError(
            f"--spans {spans[0]}..{spans[1]}",
            got=f"processed spans {sorted(records)}",
            expected="spans that were processed: their stored features are labelled",
            fix="`distill run` processes and labels new spans.",
        )
    store = lineage.sqlite(str(config.run_folder / "metadata.sqlite"))
    for span in chunks:
        nodes = graph.relabelling(config, span, teacher.version)
        outcome = local_runner.run(graph.pipeline_of(config, nodes))
        if outcome.error is not None:
            yield span, outcome.error
            return
        labels = lineage.outputs(store, outcome.run_id)[graph.LABELER]["teacher_labels"]
        yield span, read_snapshots(labels.uri)[-1]
