"""What ML Metadata knows of refused students that people let through."""

from __future__ import annotations

from typing import NamedTuple

import ml_metadata as mlmd

from tfx_distill.components import verdict
from tfx_distill.components.gate_override import BECAUSE
from tfx_distill.components.verdict import Override
from tfx_distill.pipeline import lineage


class Overridden(NamedTuple):
    """Who overrode a gate and why; and what the run in which this was done put out."""

    why: Override
    outputs: lineage.Outputs


def newest(store: mlmd.MetadataStore, pipeline: str, gate: str, model_id: int) -> Overridden | None:
    """The last time that the gate of a model was overridden; None if it never was.

    Args:
      store: Of the pipeline.
      pipeline: Its name.
      gate: Id of the gate.
      model_id: Of the model artifact.
    """
    given = [
        blessing
        for blessing in lineage.produced(store, pipeline, gate, "ModelBlessing")
        if BECAUSE in blessing.properties and blessing.properties["current_model_id"] == model_id
    ]
    if not given:
        return None
    why = verdict.read(given[-1].uri).overridden
    if why is None:
        raise ValueError(f"{given[-1].uri} was written without an override")
    (run_id,) = (
        context.name
        for context in store.get_contexts_by_artifact(given[-1].id)
        if context.type == "pipeline_run"
    )
    return Overridden(why, lineage.outputs(store, run_id))
