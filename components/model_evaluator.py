"""ModelEvaluator: TFMA's metrics of a candidate and of what it is compared with.

All models predict each eval example once, in columns; the predictions are kept; TFMA computes the
metrics of all of them in one pass. See ADR 6 for why this is not TFX's Evaluator.
"""

from pathlib import Path
from typing import Any

import apache_beam as beam
from tfx.dsl.component.experimental.annotations import (
    BeamComponentParameter,
    InputArtifact,
    OutputArtifact,
    Parameter,
)
from tfx.dsl.component.experimental.decorators import component
from tfx.types import artifact_utils
from tfx.types.standard_artifacts import Examples, Model, ModelEvaluation
from tfx.utils import path_utils

from tfx_distill.components import evaluation_result, evaluation_steps
from tfx_distill.components.comparison import comparison
from tfx_distill.components.evaluation_config import EvaluationConfig
from tfx_distill.components.evaluation_result import BASELINE, CANDIDATE, TEACHER, TWIN
from tfx_distill.schema.errors import DataError
from tfx_distill.trainer import predict


@component(use_beam=True)
def ModelEvaluator(  # noqa: N802
    examples: InputArtifact[Examples],
    model: InputArtifact[Model],
    config: Parameter[str],
    evaluation: OutputArtifact[ModelEvaluation],
    baseline: InputArtifact[Model] = None,
    twin: InputArtifact[Model] = None,
    teacher: InputArtifact[Model] = None,
    beam_pipeline: BeamComponentParameter[beam.Pipeline] = None,
) -> None:
    """Evaluates a model on the eval split; the PromotionGate judges it.

    Args:
      examples: Ingested examples, in Parquet.
      model: The candidate.
      config: An EvaluationConfig as JSON.
      evaluation: TFMA's result, and what `evaluation_result` describes.
      baseline: The latest blessed model of the same student, from a Resolver; may be empty.
      twin: The student trained without distillation.
      teacher: Evaluated beside the others, for the reports; decides nothing.
      beam_pipeline: Comes from TFX.

    Example:
      evaluator = ModelEvaluator(
          examples=gen.outputs["examples"],
          model=trainer.outputs["model"],
          baseline=resolver.outputs["model"],
          twin=twin_trainer.outputs["model"],
          config=EvaluationConfig.of_student(run, student).model_dump_json(),
      ).with_id("ModelEvaluator.compact")

    Raises:
      DataError: The examples cannot be read, or there is none.
      ModelError: A model cannot be used. Predictions that are not finite raise nothing: the metrics
        that they are part of are NaN.
    """
    settings = EvaluationConfig.model_validate_json(config)
    given = {CANDIDATE: model, BASELINE: baseline, TWIN: twin, TEACHER: teacher}
    models = {name: artifact for name, artifact in given.items() if artifact is not None}
    compared = comparison({name: _folder(m) for name, m in models.items()}, settings)
    with beam_pipeline as pipeline:
        evaluation_steps.evaluate(
            pipeline, _eval_files(examples), compared, settings, evaluation.uri
        )
    evaluation_result.write(
        evaluation.uri, evaluation_steps.load(evaluation.uri), compared.evaluated()
    )


def _folder(model: Any) -> str:
    """The SavedModel of a Model artifact."""
    return str(path_utils.serving_model_path(model.uri, path_utils.is_old_model_artifact(model)))


def _eval_files(examples: Any) -> list[Path]:
    """The shards of the eval split."""
    folder = Path(artifact_utils.get_split_uri([examples], "eval"))
    files = sorted(folder.glob("*.parquet"))
    if not any(predict.rows(file) for file in files):
        raise DataError(
            str(folder),
            got="no example" if files else "no Parquet file",
            expected="the eval split",
            fix="Ingest the span again, with examples in its eval split.",
        )
    return files
