"""Finds what a model is trained on next: its predecessor, and every chunk after it."""

from __future__ import annotations

import logging

import ml_metadata as mlmd
from tfx.dsl.components.common.resolver import Resolver, ResolverStrategy
from tfx.types import artifact
from tfx.types.channel import BaseChannel, Channel
from tfx.types.standard_artifacts import Examples, Model, ModelBlessing

from tfx_distill.components.artifacts import TeacherLabels, is_readable
from tfx_distill.components.lineage_properties import (
    newest_by_span,
    order,
    span_of,
    still_blessed,
)

_log = logging.getLogger(__name__)

FEATURES = "features"
LABELS = "labels"
MODEL = "model"
_CURRENT = "current_"
_BLESSING = "model_blessing"


def window_resolver(
    *,
    span: int,
    features: BaseChannel,
    trainer_id: str,
    gate_id: str | None = None,
    labels: BaseChannel | None = None,
) -> Resolver:
    """A Resolver with the outputs `features` (chunks), `model` (0 or 1) and `labels`.

    Args:
      span: The span of this run.
      features: The chunk of this run, from FeatureMaterializer.
      trainer_id: Id of the component that trains the model, in this and in earlier runs.
      gate_id: Id of the component that blesses its models: the predecessor must be blessed.
        None takes the newest model, blessed or not.
      labels: Teacher labels of this run's chunk: chunks without labels are left out.

    Example:
      window = window_resolver(
          span=7, features=materializer.outputs["features"], trainer_id="TeacherTrainer"
      ).with_id("Window.TeacherTrainer")
      TeacherTrainer(examples=window.outputs["features"], base_model=window.outputs["model"], ...)
    """
    channels: dict[str, BaseChannel] = {
        _CURRENT + FEATURES: features,
        # No output_key: see `baseline_resolver`.
        FEATURES: Channel(type=Examples, producer_component_id=features.producer_component_id),
        MODEL: Channel(type=Model, producer_component_id=trainer_id),
    }
    if gate_id is not None:
        channels[_BLESSING] = Channel(type=ModelBlessing, producer_component_id=gate_id)
    if labels is not None:
        channels[_CURRENT + LABELS] = labels
        channels[LABELS] = Channel(
            type=TeacherLabels, producer_component_id=labels.producer_component_id
        )
    return Resolver(strategy_class=TrainingWindow, config={"span": span}, **channels)


class TrainingWindow(ResolverStrategy):
    """The newest model of an earlier span, and the chunks after it up to this span.

    A model whose training failed in some spans, or that has just joined, thereby catches up.
    """

    def __init__(self, span: int) -> None:
        self._span = span

    def resolve_artifacts(
        self, store: mlmd.MetadataStore, input_dict: dict[str, list[artifact.Artifact]]
    ) -> dict[str, list[artifact.Artifact]]:
        """Picks from everything that was ever made under these names."""
        found: dict[str, list[artifact.Artifact]] = {key: [] for key in input_dict}
        earlier = [m for m in input_dict[MODEL] if 0 <= span_of(m) < self._span]
        if _BLESSING in input_dict:
            blessed = still_blessed(input_dict[_BLESSING])
            earlier = [model for model in earlier if model.id in blessed]
        base = max(earlier, key=order, default=None)
        start = -1 if base is None else span_of(base)
        found[MODEL] = [] if base is None else [base]
        chunks = self._after(start, input_dict, FEATURES)
        if LABELS in input_dict:
            labels = self._after(start, input_dict, LABELS)
            chunks = {span: chunk for span, chunk in chunks.items() if span in labels}
            found[LABELS] = [labels[span] for span in chunks]
        found[FEATURES] = list(chunks.values())
        for key in (FEATURES, LABELS):
            if _CURRENT + key in input_dict:
                found[_CURRENT + key] = input_dict[_CURRENT + key]
        return found

    def _after(
        self, start: int, input_dict: dict[str, list[artifact.Artifact]], key: str
    ) -> dict[int, artifact.Artifact]:
        stored = newest_by_span(a for a in input_dict[key] if start < span_of(a) < self._span)
        if key == LABELS:
            gone = [span for span, labels in stored.items() if not is_readable(labels.uri)]
            for span in gone:
                _log.warning("The labels of span %d have expired: nobody learns from it.", span)
                del stored[span]
        # Of this span only what this run made, or took from the cache.
        return stored | {span_of(item): item for item in input_dict[_CURRENT + key]}
