"""Finds the model that a candidate has to beat."""

from __future__ import annotations

import ml_metadata as mlmd
from ml_metadata.proto.metadata_store_pb2 import Event
from tfx.dsl.components.base.base_node import BaseNode
from tfx.dsl.components.common.resolver import Resolver, ResolverStrategy
from tfx.types import artifact
from tfx.types.channel import Channel
from tfx.types.standard_artifacts import InfraBlessing, Model, ModelBlessing

from tfx_distill.components.lineage_properties import ever_blessed, order

CANDIDATE = "candidate"
MODEL = "model"
MODEL_BLESSING = "model_blessing"
INFRA_BLESSING = "infra_blessing"


def baseline_resolver(
    trainer: BaseNode, gate_id: str, validator_id: str, *, by_span: bool = False
) -> Resolver:
    """A Resolver whose output `model` is what the model of `trainer` is compared with.

    Args:
      trainer: Trains the candidate, and trained its predecessors in earlier runs.
      gate_id: Id of the PromotionGate of the models of `trainer`.
      validator_id: Id of their ServingValidator.
      by_span: On a stream, what is older is trained up to an earlier span, whenever that was.

    Example:
      resolver = baseline_resolver(
          trainer, "StudentGate.compact", "ServingValidator.compact"
      ).with_id("BaselineResolver")
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
        model_blessing=Channel(type=ModelBlessing, producer_component_id=gate_id),
        infra_blessing=Channel(type=InfraBlessing, producer_component_id=validator_id),
    )


class BlessedBefore(ResolverStrategy):
    """The newest model in service that is older than the candidate, if there is one.

    Blessed by its gate *and* by its ServingValidator: only then was it pushed. A model that was too
    slow must not become what the next one's latency is compared with.

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
        servable = _servable(store, input_dict[INFRA_BLESSING])
        pushed = [m for m in input_dict[MODEL] if m.id in blessings and m.id in servable]
        older = [m for m in pushed if self._age(m) < candidate]
        if older:
            newest = max(older, key=self._age)
            found[MODEL] = [newest]
            found[MODEL_BLESSING] = [blessings[newest.id]]
            found[INFRA_BLESSING] = [servable[newest.id]]
        return found


def _servable(
    store: mlmd.MetadataStore, blessings: list[artifact.Artifact]
) -> dict[int, artifact.Artifact]:
    """By id of a model that its ServingValidator ever let through, the blessing of that."""
    # TFX's InfraBlessing does not say whose it is; the execution that made it does.
    given = {b.id: b for b in blessings if b.get_int_custom_property("blessed") == 1}
    if not given:
        return {}
    made = {
        event.execution_id: given[event.artifact_id]
        for event in store.get_events_by_artifact_ids(list(given))
        if event.type == Event.OUTPUT
    }
    return {
        event.artifact_id: made[event.execution_id]
        for event in store.get_events_by_execution_ids(list(made))
        if event.type == Event.INPUT and event.path.steps[0].key == MODEL
    }


def _id(model: artifact.Artifact) -> tuple[int, ...]:
    return (model.id,)
