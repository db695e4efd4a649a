"""What artifacts say about the span they belong to, and which of several is meant."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from tfx.types import artifact

SPAN = "span"
WATERMARK = "watermark"
TRANSFORM_GRAPH = "transform_graph"
CODE = "code"
"""Of a model: the `code_version` that trained it."""


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


def ever_blessed(blessings: Iterable[artifact.Artifact]) -> dict[int, artifact.Artifact]:
    """By id of a model that was ever blessed, its newest blessing."""
    return {model: blessing for model, blessing in _judged(blessings) if _says_yes(blessing)}


def still_blessed(blessings: Iterable[artifact.Artifact]) -> dict[int, artifact.Artifact]:
    """By id of a model whose newest evaluation blessed it, that blessing."""
    newest = dict(_judged(blessings))
    return {model: blessing for model, blessing in newest.items() if _says_yes(blessing)}


def _judged(
    blessings: Iterable[artifact.Artifact],
) -> Iterator[tuple[int, artifact.Artifact]]:
    for blessing in sorted(blessings, key=lambda item: item.id):
        yield blessing.get_int_custom_property("current_model_id"), blessing


def _says_yes(blessing: artifact.Artifact) -> bool:
    return bool(blessing.get_int_custom_property("blessed") == 1)
