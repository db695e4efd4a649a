"""Finds the model that a candidate has to beat."""

from __future__ import annotations

import ml_metadata as mlmd
from tfx.dsl.components.base.base_node import BaseNode
from tfx.dsl.components.common.resolver import Resolver, ResolverStrategy
from tfx.types import artifact
from tfx.types.channel import Channel
from tfx.types.standard_artifacts import Model, ModelBlessing

from tfx_distill.components.lineage_properties import ever_blessed, order

CANDIDATE = "candidate"
MODEL = "model"
MODEL_BLESSING = "model_blessing"


def baseline_resolver(trainer: BaseNode, evaluator_id: str, *, by_span: bool = False) -> Resolver:
    """A Resolver whose output `model` is what the model of `trainer` is compared with.

    Args:
      trainer: Trains the candidate, and trained its predecessors in earlier runs.
      evaluator_id: Id of the component that blesses the models of `trainer`.
      by_span: On a stream, what is older is trained up to an earlier span, whenever that was.

    Example:
      resolver = baseline_resolver(trainer, "StudentEvaluator.compact").with_id("BaselineResolver")
      ModelEvaluator(
          model=trainer.outputs["model"],
          baseline=resolver.outputs["model"],
          ...
      ).with_id("StudentEvaluator.compact")
    """
    return Resolver(
        strategy_class=BlessedBefore,
        config={"by_span": by_span},
        candidate=trainer.outputs[MODEL],
        # No output_key: with it, TFX's compiler would give this channel the name of the candidate's
        # and drop one of the two.
        model=Channel(type=Model, producer_component_id=trainer.id),
        model_blessing=Channel(type=ModelBlessing, producer_component_id=evaluator_id),
    )


class BlessedBefore(ResolverStrategy):
    """The newest blessed model that is older than the candidate, if there is one.

    TFX's LatestBlessedModelStrategy would, once the candidate is blessed, return the candidate: a
    second run with nothing changed would then compare it with itself, and never be served from the
    cache.
    """

    def __init__(self, by_span: bool = False) -> None:
        self._age = order if by_span else _id

    def resolve_artifacts(
        self, store: mlmd.MetadataStore, input_dict: dict[str, list[artifact.Artifact]]
    ) -> dict[str, list[artifact.Artifact]]:
        """Picks from all models and blessings of a student; empty lists if nothing fits."""
        found: dict[str, list[artifact.Artifact]] = {key: [] for key in input_dict}
        found[CANDIDATE] = input_dict[CANDIDATE]
        if not input_dict[CANDIDATE]:
            return found
        candidate = max(self._age(model) for model in input_dict[CANDIDATE])
        blessings = ever_blessed(input_dict[MODEL_BLESSING])
        older = [m for m in input_dict[MODEL] if self._age(m) < candidate and m.id in blessings]
        if older:
            newest = max(older, key=self._age)
            found[MODEL] = [newest]
            found[MODEL_BLESSING] = [blessings[newest.id]]
        return found


def _id(model: artifact.Artifact) -> tuple[int, ...]:
    return (model.id,)
