"""What artifacts say about the span they belong to, and which of several is meant."""

from __future__ import annotations

from collections.abc import Iterable

from tfx.types import artifact

SPAN = "span"
WATERMARK = "watermark"
TRANSFORM_GRAPH = "transform_graph"


def span_of(item: artifact.Artifact) -> int:
    """Last span that an artifact has seen; -1 where it says nothing."""
    if SPAN in (type(item).PROPERTIES or {}):
        return int(getattr(item, SPAN))
    value = item.get_custom_property(SPAN)
    return -1 if value is None else int(value)


def order(item: artifact.Artifact) -> tuple[int, int]:
    """Sorts by span, then by age: of one span, the later artifact is the valid one."""
    return span_of(item), item.id


def newest_by_span(items: Iterable[artifact.Artifact]) -> dict[int, artifact.Artifact]:
    """The valid artifact of each span, in order of spans."""
    return {span_of(item): item for item in sorted(items, key=order)}


def blessed_models(blessings: Iterable[artifact.Artifact]) -> dict[int, artifact.Artifact]:
    """By id of a model that was ever blessed, its newest blessing."""
    return {
        blessing.get_int_custom_property("current_model_id"): blessing
        for blessing in sorted(blessings, key=lambda item: item.id)
        if blessing.get_int_custom_property("blessed") == 1
    }
