"""Finds artifacts of earlier runs by their ids."""

from __future__ import annotations

from dataclasses import dataclass

import ml_metadata as mlmd
from tfx.dsl.components.common.resolver import Resolver, ResolverStrategy
from tfx.types import artifact
from tfx.types.channel import Channel


@dataclass(frozen=True)
class Chosen:
    """An artifact that is known beforehand.

    Attributes:
      id: In ML Metadata.
      kind: Its type.
      producer_id: Id of the component that made it.
    """

    id: int
    kind: type[artifact.Artifact]
    producer_id: str


def chosen_resolver(**chosen: Chosen) -> Resolver:
    """A Resolver with one output for each artifact, of the same name.

    Example:
      chosen = chosen_resolver(model=Chosen(17, Model, "StudentTrainer.compact")).with_id("Chosen")
      ServingValidator(model=chosen.outputs["model"], ...)
    """
    return Resolver(
        strategy_class=ById,
        config={"ids": {key: one.id for key, one in chosen.items()}},
        **{
            key: Channel(type=one.kind, producer_component_id=one.producer_id)
            for key, one in chosen.items()
        },
    )


class ById(ResolverStrategy):
    """The one artifact with the id of its output, whatever became of it later."""

    def __init__(self, ids: dict[str, int]) -> None:
        self._ids = ids

    def resolve_artifacts(
        self, store: mlmd.MetadataStore, input_dict: dict[str, list[artifact.Artifact]]
    ) -> dict[str, list[artifact.Artifact]]:
        """Picks by id; an empty list where there is none."""
        return {
            key: [item for item in items if item.id == self._ids[key]]
            for key, items in input_dict.items()
        }
