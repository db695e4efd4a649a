"""GateOverride: a person lets a model through that its gate refused, and answers for it by name.

This module has no deferred annotations: TFX reads those of a component function at run time.
"""

import shutil
from pathlib import Path

from tfx.components.evaluator import constants
from tfx.dsl.component.experimental.annotations import InputArtifact, OutputArtifact, Parameter
from tfx.dsl.component.experimental.decorators import component
from tfx.types.standard_artifacts import Model, ModelBlessing

from tfx_distill.components import verdict
from tfx_distill.components.promotion_gate import INTERVALS
from tfx_distill.components.verdict import Override

BECAUSE = "override_because"
BY = "override_by"


@component
def GateOverride(  # noqa: N802
    model: InputArtifact[Model],
    refused: InputArtifact[ModelBlessing],
    because: Parameter[str],
    by: Parameter[str],
    at: Parameter[str],
    blessing: OutputArtifact[ModelBlessing],
) -> None:
    """Blesses a model in spite of its verdict, which stays as it was and says who overrode it.

    Give it the id of the gate that it overrides: whatever looks for the blessings of that gate, as
    the search for the model in service does, then finds this one among them.

    Args:
      model: The refused model.
      refused: What its PromotionGate said.
      because: Why it is let through.
      by: Who does it.
      at: When, in ISO 8601. A parameter, so that a second attempt never comes from the cache.
      blessing: As of the PromotionGate, but it says yes; with `override_because` and `override_by`
        among its properties.

    Example:
      override = GateOverride(
          model=resolver.outputs["model"],
          refused=resolver.outputs["blessing"],
          because="the eval split lacks the new market",
          by="ada",
          at="2024-01-01T00:00:00+00:00",
      ).with_id("StudentGate.compact")
    """
    why = Override(because=because, by=by, at=at)
    found = verdict.read(refused.uri).model_copy(update={"overridden": why})
    folder = Path(blessing.uri)
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copy(Path(refused.uri) / INTERVALS, folder)
    (folder / verdict.FILE).write_text(found.model_dump_json(indent=1))
    (folder / constants.BLESSED_FILE_NAME).write_text("")
    blessing.set_string_custom_property(
        constants.ARTIFACT_PROPERTY_CURRENT_MODEL_URI_KEY, model.uri
    )
    blessing.set_int_custom_property(constants.ARTIFACT_PROPERTY_CURRENT_MODEL_ID_KEY, model.id)
    baseline_uri = constants.ARTIFACT_PROPERTY_BASELINE_MODEL_URI_KEY
    baseline_id = constants.ARTIFACT_PROPERTY_BASELINE_MODEL_ID_KEY
    if refused.has_custom_property(baseline_id):
        blessing.set_string_custom_property(
            baseline_uri, refused.get_string_custom_property(baseline_uri)
        )
        blessing.set_int_custom_property(baseline_id, refused.get_int_custom_property(baseline_id))
    blessing.set_int_custom_property(
        constants.ARTIFACT_PROPERTY_BLESSED_KEY, constants.BLESSED_VALUE
    )
    blessing.set_string_custom_property(BECAUSE, because)
    blessing.set_string_custom_property(BY, by)
