"""PromotionGate: whether an evaluated model may replace the one in service, and why.

This module has no deferred annotations: TFX reads those of a component function at run time.
"""

import json
from pathlib import Path
from typing import Any

from tfx.components.evaluator import constants
from tfx.dsl.component.experimental.annotations import InputArtifact, OutputArtifact, Parameter
from tfx.dsl.component.experimental.decorators import component
from tfx.types.standard_artifacts import Model, ModelBlessing, ModelEvaluation

from tfx_distill.components import evaluation_result, verdict
from tfx_distill.components.bootstrap_result import Bootstrap
from tfx_distill.components.gate_settings import GateSettings
from tfx_distill.components.intervals import bootstrap
from tfx_distill.components.judging import judge

INTERVALS = "intervals.json"
"""File of the blessing with all estimates and differences, see `bootstrap_result`."""


@component
def PromotionGate(  # noqa: N802
    evaluation: InputArtifact[ModelEvaluation],
    model: InputArtifact[Model],
    config: Parameter[str],
    blessing: OutputArtifact[ModelBlessing],
    baseline: InputArtifact[Model] = None,
    twin: InputArtifact[Model] = None,
) -> None:
    """Judges a model by an evaluation; blesses it, or says why not.

    Bootstraps the stored predictions: what counts is not the difference from another model that was
    measured but what it is at least, on all tasks and slices together. See `judging.judge`.

    Args:
      evaluation: Of a ModelEvaluator: metrics, and the predictions of all models.
      model: The candidate.
      config: GateSettings as JSON.
      blessing: As of TFX's Evaluator, honoured by the Pusher and the LatestBlessedModelStrategy; it
        is always written. Holds the verdict (see `verdict.read`) and `intervals.json`.
      baseline: The latest blessed model, as the evaluation had it; may be empty.
      twin: The undistilled twin, as the evaluation had it.

    Example:
      gate = PromotionGate(
          evaluation=evaluator.outputs["evaluation"],
          model=trainer.outputs["model"],
          baseline=resolver.outputs["model"],
          twin=twin_trainer.outputs["model"],
          config=GateSettings.of_student(run, student).model_dump_json(),
      ).with_id("StudentGate.compact")

    Raises:
      ConfigError: A slice column is not in the stored predictions, or has too many values.
      DataError: The stored predictions cannot be read.
    """
    settings = GateSettings.model_validate_json(config)
    evaluated = evaluation_result.evaluated(evaluation.uri)
    resampled = bootstrap(
        evaluation_result.predictions(evaluation.uri),
        evaluated.models,
        settings.kinds,
        settings.slices,
        ndcg_at=settings.ndcg_at,
        confidence=settings.confidence,
        replicates=settings.replicates,
        seed=settings.seed,
    )
    metrics = evaluation_result.sliced_metrics(evaluation.uri)
    found = judge(settings, evaluated, metrics, resampled)
    folder = Path(blessing.uri)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / INTERVALS).write_text(_intervals(resampled, settings))
    (folder / verdict.FILE).write_text(found.model_dump_json(indent=1))
    others = {evaluation_result.BASELINE: baseline, evaluation_result.TWIN: twin, None: None}
    _bless(blessing, found.blessed, model, others[found.baseline])


def _intervals(resampled: Bootstrap, settings: GateSettings) -> str:
    """Every estimate and difference as JSON, with what they depend on."""
    return json.dumps(
        {
            "confidence": settings.confidence,
            "replicates": settings.replicates,
            "seed": settings.seed,
            "estimates": [estimate.model_dump() for estimate in resampled.estimates],
            "differences": [difference.model_dump() for difference in resampled.differences],
        }
    )


def _bless(blessing: Any, blessed: bool, model: Any, baseline: Any) -> None:
    """Writes the blessing just as TFX's Evaluator does."""
    blessing.set_string_custom_property(
        constants.ARTIFACT_PROPERTY_CURRENT_MODEL_URI_KEY, model.uri
    )
    blessing.set_int_custom_property(constants.ARTIFACT_PROPERTY_CURRENT_MODEL_ID_KEY, model.id)
    if baseline is not None:
        blessing.set_string_custom_property(
            constants.ARTIFACT_PROPERTY_BASELINE_MODEL_URI_KEY, baseline.uri
        )
        blessing.set_int_custom_property(
            constants.ARTIFACT_PROPERTY_BASELINE_MODEL_ID_KEY, baseline.id
        )
    value, name = (
        (constants.BLESSED_VALUE, constants.BLESSED_FILE_NAME)
        if blessed
        else (constants.NOT_BLESSED_VALUE, constants.NOT_BLESSED_FILE_NAME)
    )
    blessing.set_int_custom_property(constants.ARTIFACT_PROPERTY_BLESSED_KEY, value)
    (Path(blessing.uri) / name).write_text("")
