"""LabelImporter: teacher labels from a shared label table, where the teacher is somebody else's.

This module has no deferred annotations: TFX reads those of a component function at run time.
"""

from tfx.dsl.component.experimental.annotations import OutputArtifact, Parameter
from tfx.dsl.component.experimental.decorators import component

from tfx_distill.components.artifacts import TeacherLabels, publish
from tfx_distill.labels import catalogue
from tfx_distill.schema.errors import LabelError


@component
def LabelImporter(  # noqa: N802
    teacher_labels: OutputArtifact[TeacherLabels],
    table: Parameter[str],
    first: Parameter[int],
    last: Parameter[int],
    version: Parameter[int],
) -> None:
    """Points to the newest labels of some spans in a label table that others write.

    Args:
      teacher_labels: Output: a snapshot for each labelled span.
      table: Folder of the label table.
      first: First span of the chunk to be trained on.
      last: Last span of it.
      version: Newest version of the table that holds labels of these spans. Only recorded, but a
        part of the cache key: labels that are committed later are imported anew.

    Raises:
      LabelError: The table holds no labels of these spans.

    Example:
      LabelImporter(table="/shared/labels", first=7, last=7, version=12)
    """
    snapshots = catalogue.newest(table, (first, last))
    if not snapshots:
        raise unlabelled(table, first, last)
    publish(teacher_labels, snapshots)
    # The chunk's, also where its last span has no labels of its own.
    teacher_labels.span = last
    teacher_labels.set_int_custom_property("newest_version", version)


def unlabelled(table: str, first: int, last: int) -> LabelError:
    """The error for spans without labels."""
    there = sorted({labelling.span for labelling in catalogue.labellings(table)})
    spans = f"span {last}" if first == last else f"spans {first}..{last}"
    return LabelError(
        f"{table}, {spans}",
        got=f"labels of the spans {there}" if there else "no labels",
        expected=f"labels of {spans}",
        fix="Let the teacher's pipeline label them first (`distill watch` waits for it), or have "
        "them labelled with `distill backfill`.",
    )
