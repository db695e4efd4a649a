"""Gathers the summary of a run from what its components left behind."""

from __future__ import annotations

import json
import math
import time
from dataclasses import asdict
from pathlib import Path

import ml_metadata as mlmd
from tensorflow_metadata.proto.v0 import anomalies_pb2

from tfx_distill.components import evaluation_result, verdict
from tfx_distill.components.artifacts import read_snapshots
from tfx_distill.components.code_version import code_version
from tfx_distill.components.lineage_properties import WATERMARK
from tfx_distill.components.serving_report import REPORT, ServingReport
from tfx_distill.components.teacher_labeler import QUALITY, TEACHER_SPAN
from tfx_distill.pipeline import lineage, overrides
from tfx_distill.pipeline.graph import LABELER, TEACHER_GATE, Input
from tfx_distill.pipeline.local_runner import Outcome
from tfx_distill.pipeline.meter import Meter, resident_mib
from tfx_distill.pipeline.promotion import gate_id, validator_id
from tfx_distill.pipeline.summary import (
    LabelSummary,
    StepSummary,
    StudentSummary,
    Summary,
    transfer,
)
from tfx_distill.schema.config import RunConfig, StudentConfig
from tfx_distill.schema.errors import LabelsRefused
from tfx_distill.trainer.run import RECORD


def summarise(
    config: RunConfig, outcome: Outcome, source: Input, start: Meter | None = None
) -> Summary:
    """Reads what a run left behind; parts that it did not reach are None or empty.

    Args:
      config: What was run.
      outcome: What became of its components.
      source: What they started from.
      start: What came before the first component, if it was measured.
    """
    store = lineage.sqlite(str(config.run_folder / "metadata.sqlite"))
    found = lineage.outputs(store, outcome.run_id)
    examples = found.get("SpanExampleGen", {}).get("examples")
    teacher = found.get(TEACHER_GATE, {}).get("blessing")
    students = []
    for student in config.students:
        if gate_id(student.name) in found:
            students.append(student_summary(config, student, found, store))
    return Summary(
        name=config.name,
        run_id=outcome.run_id,
        seed=config.seed,
        code=code_version(),
        first_span=source.first,
        last_span=source.last,
        carried=source.carried,
        finished=time.time(),
        resident_mib=resident_mib(),
        examples={}
        if examples is None
        else {split: int(examples.properties[f"rows_{split}"]) for split in ("train", "eval")},
        anomalies=_anomalies(found.get("ExampleValidator", {}).get("anomalies")),
        failed=None if outcome.error is None else str(outcome.error),
        teacher=None if teacher is None else verdict.read(teacher.uri),
        teacher_parameters=_parameters(found, "TeacherTrainer"),
        labels=_labels(found, config.label_table),
        labels_refused=any(isinstance(error, LabelsRefused) for error in outcome.errors),
        students=tuple(students),
        steps=tuple(StepSummary(**asdict(step)) for step in outcome.steps),
        start=None if start is None else _start(start),
    )


def _start(meter: Meter) -> StepSummary:
    return StepSummary(
        component="start",
        state="ran",
        seconds=meter.seconds,
        cpu_seconds=meter.cpu_seconds,
        peak_mib=meter.peak_mib,
        error=None,
        phases=meter.phases,
    )


def _labels(found: lineage.Outputs, table: str) -> LabelSummary | None:
    """What the labeler, or the importer, published."""
    labels = None
    for labeler in (LABELER, "LabelImporter"):
        labels = found.get(labeler, {}).get("teacher_labels", labels)
    if labels is None:
        return None
    snapshot = read_snapshots(labels.uri)[-1]
    quality = Path(labels.uri) / QUALITY
    watermark = labels.properties.get(WATERMARK)
    return LabelSummary(
        table=table,
        version=snapshot.version,
        teacher=snapshot.teacher,
        span=snapshot.span,
        labelled_by=labels.properties.get(TEACHER_SPAN),
        watermark=None if watermark is None else int(watermark),
        quality=json.loads(quality.read_text()) if quality.exists() else None,
    )


def _anomalies(artifact: lineage.Produced | None) -> tuple[str, ...]:
    """What the ExampleValidator found, one line for each split and column."""
    if artifact is None:
        return ()
    lines = []
    for file in sorted(Path(artifact.uri).glob("Split-*/SchemaDiff.pb")):
        found = anomalies_pb2.Anomalies.FromString(file.read_bytes())
        split = file.parent.name.removeprefix("Split-")
        for column, info in sorted(found.anomaly_info.items()):
            lines.append(f"{split}, {column}: {info.description}")
    return tuple(lines)


def student_summary(
    config: RunConfig, student: StudentConfig, found: lineage.Outputs, store: mlmd.MetadataStore
) -> StudentSummary:
    """What became of a student: in its run and, where somebody overrode its gate, since.

    Args:
      config: The run config.
      student: A student whose gate has judged.
      found: The outputs of its run.
      store: Where they were read.
    """
    evaluation = found[f"StudentEvaluator.{student.name}"]["evaluation"].uri
    metrics = {
        model: {
            task: {name: value if math.isfinite(value) else None for name, value in values.items()}
            for task, values in tasks.items()
        }
        for model, tasks in evaluation_result.metrics(evaluation).items()
    }
    gate = gate_id(student.name)
    judged, promoted = verdict.read(found[gate]["blessing"].uri), found
    model = found[f"StudentTrainer.{student.name}"]["model"]
    override = overrides.newest(store, config.name, gate, model.id)
    if override is not None and not judged.blessed:
        judged = judged.model_copy(update={"overridden": override.why})
        promoted = override.outputs
    pushed = promoted.get(f"Pusher.{student.name}", {}).get("pushed_model")
    run = _record(found, f"StudentTrainer.{student.name}")
    counts = {
        "student": _parameters(found, f"StudentTrainer.{student.name}"),
        "twin": _parameters(found, f"TwinTrainer.{student.name}"),
    }
    return StudentSummary(
        name=student.name,
        parameters={model: count for model, count in counts.items() if count is not None},
        metrics=metrics,
        transfer=transfer(metrics),
        coverage=None if run is None else run["coverage"],
        verdict=judged,
        serving=_serving(promoted.get(validator_id(student.name), {}).get("infra_blessing")),
        pushed=None
        if pushed is None or pushed.properties.get("pushed") != 1
        else str(pushed.properties["pushed_destination"]),
    )


def _serving(blessing: lineage.Produced | None) -> ServingReport | None:
    if blessing is None:
        return None
    return ServingReport.model_validate_json((Path(blessing.uri) / REPORT).read_text())


def _record(found: lineage.Outputs, trainer: str) -> dict[str, float] | None:
    run = found.get(trainer, {}).get("model_run")
    if run is None:
        return None
    record: dict[str, float] = json.loads((Path(run.uri) / RECORD).read_text())
    return record


def _parameters(found: lineage.Outputs, trainer: str) -> int | None:
    record = _record(found, trainer)
    return None if record is None else int(record["parameters"])
