"""ServingValidator: serves a candidate as a server would, before the Pusher hands it to one.

This module has no deferred annotations: TFX reads those of a component function at run time.
"""

from pathlib import Path
from typing import Any

import pyarrow as pa
from tfx.components.util import model_utils
from tfx.dsl.component.experimental.annotations import InputArtifact, OutputArtifact, Parameter
from tfx.dsl.component.experimental.decorators import component
from tfx.types import artifact_utils
from tfx.types.standard_artifacts import Examples, InfraBlessing, Model, ModelBlessing
from tfx.utils import path_utils

from tfx_distill.components.evaluation_result import BASELINE, CANDIDATE
from tfx_distill.components.serving_measurement import measure
from tfx_distill.components.serving_process import ProbeFailed
from tfx_distill.components.serving_report import (
    REPORT,
    ServingReport,
    judge,
)
from tfx_distill.schema import columns
from tfx_distill.schema.config import RunConfig, Section, ServingLimits, StudentConfig
from tfx_distill.schema.errors import DataError
from tfx_distill.trainer import predict
from tfx_distill.trainer.job import TrainingJob

ROWS = 4096
"""Eval examples, at the most, that are answered and compared, and that requests are made of."""


class ServingConfig(Section):
    """How the candidate was trained, and what it must reach when it is served."""

    job: TrainingJob
    limits: ServingLimits

    @classmethod
    def of_student(cls, run: RunConfig, student: StudentConfig) -> "ServingConfig":
        """For one student of a run."""
        job = TrainingJob.of_student(run, student, twin=False)
        return cls(job=job, limits=run.gate.serving)


@component
def ServingValidator(  # noqa: N802
    model: InputArtifact[Model],
    model_blessing: InputArtifact[ModelBlessing],
    examples: InputArtifact[Examples],
    config: Parameter[str],
    infra_blessing: OutputArtifact[InfraBlessing],
    baseline: InputArtifact[Model] = None,
) -> None:
    """Proves that a model can be served: it loads, it answers as trained, quickly enough.

    The exported model is loaded in a fresh process with TensorFlow alone, beside the model in
    service. A model that its gate refused is not measured.

    Args:
      model: The candidate: a SavedModel, and the state of its training.
      model_blessing: Of its gate.
      examples: Ingested examples, in Parquet; requests are made of the eval split.
      config: A ServingConfig as JSON.
      infra_blessing: As of TFX's InfraValidator, honoured by the Pusher; with a `ServingReport`.
      baseline: The model in service, if there is one.

    Example:
      validator = ServingValidator(
          model=trainer.outputs["model"],
          model_blessing=gate.outputs["blessing"],
          examples=gen.outputs["examples"],
          baseline=resolver.outputs["model"],
          config=ServingConfig.of_student(run, student).model_dump_json(),
      ).with_id("ServingValidator.compact")

    Raises:
      DataError: The examples cannot be read, or there is none.
      ModelError: The trainer left no state that fits the config. An exported model that cannot be
        served raises nothing: it is refused.
    """
    settings = ServingConfig.model_validate_json(config)
    title, limits = settings.job.title, settings.limits
    if not model_utils.is_model_blessed(model_blessing):
        sentence = f"The gate refused {title}: it was not measured."
        _bless(infra_blessing, ServingReport.refused(title, "gate", sentence))
        return
    folders = {CANDIDATE: _folder(model)}
    if baseline is not None:
        folders[BASELINE] = _folder(baseline)
    rows = _eval_rows(examples, settings.job)
    try:
        measured = measure(model.uri, folders, settings.job, limits, rows)
    except ProbeFailed as failure:
        sentence = f"The exported model cannot be served: {failure.reason}"
        report = ServingReport.refused(title, "serves", sentence)
    else:
        report = judge(title, measured, limits)
    _bless(infra_blessing, report)


def _folder(model: Any) -> str:
    """The SavedModel of a Model artifact."""
    return str(path_utils.serving_model_path(model.uri, path_utils.is_old_model_artifact(model)))


def _eval_rows(examples: Any, job: TrainingJob) -> pa.RecordBatch:
    """The first examples of the eval split."""
    folder = Path(artifact_utils.get_split_uri([examples], "eval"))
    wanted = [*columns.KEYS, *job.features.names]
    found: list[pa.RecordBatch] = []
    for batch in (b for f in sorted(folder.glob("*.parquet")) for b in predict.read(f, wanted)):
        found.append(batch)
        if sum(batch.num_rows for batch in found) >= ROWS:
            break
    table = pa.Table.from_batches(found).slice(0, ROWS) if found else None
    if table is None or not table.num_rows:
        raise DataError(
            str(folder),
            got="no example",
            expected="the eval split",
            fix="Ingest the span again, with examples in its eval split.",
        )
    (rows,) = table.combine_chunks().to_batches()
    return rows


def _bless(blessing: Any, report: ServingReport) -> None:
    """Writes the blessing just as TFX's InfraValidator does, and the report beside it."""
    folder = Path(blessing.uri)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / REPORT).write_text(report.model_dump_json(indent=1))
    (folder / ("INFRA_BLESSED" if report.blessed else "INFRA_NOT_BLESSED")).write_text("")
    blessing.set_int_custom_property("blessed", int(report.blessed))
