"""Finds the teacher that labels a span, and what the teacher before it said."""

from __future__ import annotations

import ml_metadata as mlmd
from tfx.dsl.components.common.resolver import Resolver, ResolverStrategy
from tfx.types import artifact
from tfx.types.channel import BaseChannel, Channel
from tfx.types.standard_artifacts import Model, ModelBlessing

from tfx_distill.components.artifacts import TeacherLabels, is_readable
from tfx_distill.components.lineage_properties import (
    newest_by_span,
    order,
    span_of,
    still_blessed,
)

MODEL = "model"
BLESSING = "model_blessing"
LABELS = "labels"
_JUDGED = "judged"


def teacher_resolver(
    *,
    span: int,
    trainer_id: str,
    gate_id: str,
    labeler_id: str,
    judged: BaseChannel | None = None,
) -> Resolver:
    """A Resolver with the outputs `model`, `model_blessing` and `labels`, each 0 or 1 artifact.

    Args:
      span: The span to be labelled.
      trainer_id: Id of the component that trains teachers.
      gate_id: Id of the component that blesses them.
      labeler_id: Id of the component that labels.
      judged: The blessing of this span's own teacher: with it, that teacher may label the span
        that it was trained on (train, then score).

    Example:
      teacher = teacher_resolver(
          span=7,
          trainer_id="TeacherTrainer",
          gate_id="TeacherGate",
          labeler_id="TeacherLabeler",
      ).with_id("TeacherResolver")
      TeacherLabeler(model=teacher.outputs["model"], previous=teacher.outputs["labels"], ...)
    """
    channels: dict[str, BaseChannel] = {
        MODEL: Channel(type=Model, producer_component_id=trainer_id),
        BLESSING: Channel(type=ModelBlessing, producer_component_id=gate_id),
        LABELS: Channel(type=TeacherLabels, producer_component_id=labeler_id),
    }
    if judged is not None:
        channels[_JUDGED] = judged
    return Resolver(
        strategy_class=BlessedTeacher,
        config={"span": span, "own": judged is not None},
        **channels,
    )


class BlessedTeacher(ResolverStrategy):
    """The blessed teacher of the newest span before this one, or up to this one.

    A teacher that its gate refused does not label: the one before goes on.
    """

    def __init__(self, span: int, own: bool) -> None:
        self._span, self._own = span, own

    def resolve_artifacts(
        self, store: mlmd.MetadataStore, input_dict: dict[str, list[artifact.Artifact]]
    ) -> dict[str, list[artifact.Artifact]]:
        """Picks from all teachers, blessings and labels; empty lists if nothing fits."""
        found: dict[str, list[artifact.Artifact]] = {key: [] for key in input_dict}
        if _JUDGED in input_dict:
            found[_JUDGED] = input_dict[_JUDGED]
        last = self._span if self._own else self._span - 1
        blessed = still_blessed(input_dict[BLESSING])
        teachers = [m for m in input_dict[MODEL] if 0 <= span_of(m) <= last and m.id in blessed]
        if teachers:
            newest = max(teachers, key=order)
            found[MODEL], found[BLESSING] = [newest], [blessed[newest.id]]
        # Only neighbours have examples in common.
        before = newest_by_span(a for a in input_dict[LABELS] if span_of(a) == self._span - 1)
        found[LABELS] = [labels for labels in before.values() if is_readable(labels.uri)]
        return found


def model_resolver(*, model_id: int, trainer_id: str, gate_id: str) -> Resolver:
    """A Resolver with the outputs `model` and `model_blessing` of the model with this id."""
    return Resolver(
        strategy_class=ModelById,
        config={"model_id": model_id},
        model=Channel(type=Model, producer_component_id=trainer_id),
        model_blessing=Channel(type=ModelBlessing, producer_component_id=gate_id),
    )


class ModelById(ResolverStrategy):
    """One model, whatever became of it, with its blessing where there is one."""

    def __init__(self, model_id: int) -> None:
        self._model_id = model_id

    def resolve_artifacts(
        self, store: mlmd.MetadataStore, input_dict: dict[str, list[artifact.Artifact]]
    ) -> dict[str, list[artifact.Artifact]]:
        """Picks by id; empty lists if there is no such model."""
        blessed = still_blessed(input_dict[BLESSING])
        found: dict[str, list[artifact.Artifact]] = {key: [] for key in input_dict}
        found[MODEL] = [model for model in input_dict[MODEL] if model.id == self._model_id]
        found[BLESSING] = [blessed[model.id] for model in found[MODEL] if model.id in blessed]
        return found
