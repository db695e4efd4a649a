"""Finds artifacts of certain spans, whichever run made them."""

from __future__ import annotations

from collections.abc import Sequence

import ml_metadata as mlmd
from tfx.dsl.components.common.resolver import Resolver, ResolverStrategy
from tfx.types import artifact
from tfx.types.channel import BaseChannel, Channel, union

from tfx_distill.components.lineage_properties import newest_by_span, order, span_of


def span_resolver(
    kind: type[artifact.Artifact],
    producer_id: str | Sequence[str],
    *,
    first: int,
    last: int,
    newest: bool = False,
) -> Resolver:
    """A Resolver with the output `found`: artifacts of the spans `first` to `last`.

    Args:
      kind: Their type.
      producer_id: Id of the component that made them, or ids of several.
      first: First span; -1 includes artifacts that name no span.
      last: Last span.
      newest: Only the one of the newest span.

    Example:
      before = span_resolver(ExampleStatistics, "StatisticsGen", first=6, last=6).with_id("Before")
      SpanValidator(previous=before.outputs["found"], ...)
    """
    producers = [producer_id] if isinstance(producer_id, str) else producer_id
    # Named, so that TFX looks among their executions and not among all of the pipeline.
    made = [Channel(type=kind, producer_component_id=producer) for producer in producers]
    channels: dict[str, BaseChannel] = {"found": made[0] if len(made) == 1 else union(made)}
    return Resolver(
        strategy_class=OfSpans,
        config={"first": first, "last": last, "newest": newest},
        **channels,
    )


class OfSpans(ResolverStrategy):
    """The valid artifact of each span in a range, in order; none if there is none."""

    def __init__(self, first: int, last: int, newest: bool) -> None:
        self._first, self._last, self._newest = first, last, newest

    def resolve_artifacts(
        self, store: mlmd.MetadataStore, input_dict: dict[str, list[artifact.Artifact]]
    ) -> dict[str, list[artifact.Artifact]]:
        """Picks by span."""
        return {key: self._picked(items) for key, items in input_dict.items()}

    def _picked(self, items: list[artifact.Artifact]) -> list[artifact.Artifact]:
        inside = [item for item in items if self._first <= span_of(item) <= self._last]
        if self._newest:
            return [max(inside, key=order)] if inside else []
        return list(newest_by_span(inside).values())
