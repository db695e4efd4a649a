"""TeacherLabeler: writes a teacher's labels of a span once, for any number of students.

This module has no deferred annotations: TFX reads those of a component function at run time.
"""

import hashlib
import json
import logging
from dataclasses import asdict
from datetime import datetime, timezone
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
from tfx.types import standard_artifacts
from tfx.utils import path_utils

from tfx_distill.components import engines, label_quality
from tfx_distill.components.artifacts import (
    TeacherLabels,
    fingerprint,
    publish,
    read_snapshots,
)
from tfx_distill.components.label_shards import LabelShards, Plan
from tfx_distill.components.lineage_properties import SPAN, TRANSFORM_GRAPH, WATERMARK
from tfx_distill.components.shard_work import Shard
from tfx_distill.labels.commit import commit, find
from tfx_distill.labels.provenance import Provenance
from tfx_distill.labels.quality import breaches
from tfx_distill.labels.snapshot import Snapshot
from tfx_distill.labels.storage import absolute, storage_of
from tfx_distill.schema import columns
from tfx_distill.schema.config import FeaturesConfig, LabelWatch, RunConfig, Section, TaskConfig
from tfx_distill.schema.errors import LabelsRefused, ModelError
from tfx_distill.trainer import feature_table
from tfx_distill.trainer.folds import fold_models

TEACHER_DIGITS = 16
"""Digits of the teacher's fingerprint that name its partition of the label table."""
QUALITY = "quality.json"
TEACHER_SPAN = "teacher_span"
"""Custom property of the labels: the span up to which the teacher was trained."""

_log = logging.getLogger(__name__)


class LabelerConfig(Section):
    """The parts of a run config that shape the label table."""

    table: str
    features: FeaturesConfig
    tasks: tuple[TaskConfig, ...]
    watch: LabelWatch = LabelWatch()

    @classmethod
    def of(cls, run: RunConfig) -> "LabelerConfig":
        """The parts of this run."""
        return cls(
            table=absolute(run.label_table),
            features=run.features,
            tasks=run.tasks,
            watch=run.labels.watch,
        )


@component(use_beam=True)
def TeacherLabeler(  # noqa: N802
    features: InputArtifact[standard_artifacts.Examples],
    transform_graph: InputArtifact[standard_artifacts.TransformGraph],
    teacher_labels: OutputArtifact[TeacherLabels],
    config: Parameter[str],
    model: InputArtifact[standard_artifacts.Model] = None,
    model_blessing: InputArtifact[standard_artifacts.ModelBlessing] = None,
    examples: InputArtifact[standard_artifacts.Examples] = None,
    previous: InputArtifact[TeacherLabels] = None,
    spark: Parameter[str] = "",
    beam_pipeline: BeamComponentParameter[beam.Pipeline] = None,
) -> None:
    """Labels both splits with a blessed teacher and commits the labels in one transaction.

    Labels that the same teacher bytes gave the same examples under the same Transform graph are
    reused, not computed again. Their quality is measured before they are committed: labels that
    break a limit of `labels.watch` with `on_breach: fail` never appear in the table.

    A teacher with fold models (`labels.cross_fit`) labels the chunk that it was trained on with
    these, each row by the one that has not seen it.

    Args:
      features: The feature table, from FeatureMaterializer.
      transform_graph: The graph that made it.
      teacher_labels: Output: the snapshot of the label table that now holds the labels, and
        `quality.json`, a `labels.quality.Quality`. Custom properties: `watermark` of the teacher
        and `teacher_span`.
      config: A `LabelerConfig` as JSON.
      model: The teacher; may be missing, so that its absence can be explained.
      model_blessing: The teacher's, from its PromotionGate.
      examples: The ingested examples of the feature table: a teacher that was trained under
        another Transform graph labels these, through its own graph.
      previous: Labels of the span before: where another teacher labelled examples that are
        labelled again now, the two are compared.
      spark: The engine, from `engines.parameter`; Beam if empty.
      beam_pipeline: Given by TFX.

    Raises:
      ModelError: There is no teacher, or it is not blessed.
      LabelError: The teacher's labels are not finite.
      LabelsRefused: They break a limit that fails.
      EnvironmentProblem: The disk is full; committed labels stay as they were.

    Example:
      TeacherLabeler(
          features=materializer.outputs["features"],
          transform_graph=transform.outputs["transform_graph"],
          model=teacher.outputs["model"],
          model_blessing=evaluator.outputs["blessing"],
          config=LabelerConfig.of(run_config).model_dump_json(),
      )
    """
    _require_blessed(model, model_blessing)
    settings = LabelerConfig.model_validate_json(config)
    plan = _plan(model, features, transform_graph, examples)
    watermark = model.get_custom_property(WATERMARK)
    provenance = Provenance(
        teacher_version=str(model.id),
        teacher_fingerprint=plan.fingerprint,
        examples_fingerprint=fingerprint(features.uri),
        transform_fingerprint=fingerprint(transform_graph.uri),
        config_hash=hashlib.sha256(config.encode()).hexdigest(),
        watermark=watermark,
    )
    snapshot = find(settings.table, provenance.key)
    if snapshot is not None:
        _log.warning("Labels reused: %s holds those of this teacher for these examples.", snapshot)
        files = {split: snapshot.files(split) for split in columns.SPLITS}
    else:
        work = LabelShards(
            plan,
            table=settings.table,
            teacher=plan.fingerprint[:TEACHER_DIGITS],
            span=features.span,
            features=settings.features,
            tasks=settings.tasks,
            scored_at=datetime.now(timezone.utc),
        )
        notes = engines.run(
            work,
            [
                Shard(str(file), split, file.stem)
                for split in columns.SPLITS
                for file in feature_table.shards(features.uri, split)
            ],
            spark=spark,
            beam_pipeline=beam_pipeline,
            notes=Path(teacher_labels.uri) / "notes",
        )
        shards = [work.label_shard(note) for note in notes]
        root = storage_of(settings.table)
        files = {
            split: [root.name(s.path) for s in shards if s.partition.split == split and s.rows]
            for split in columns.SPLITS
        }
    quality = label_quality.measure(
        settings.tasks,
        watermark,
        files,
        Path(features.uri),
        None if previous is None else _other(previous, plan.fingerprint),
    )
    broken = breaches(quality, settings.watch)
    for sentence in broken:
        _log.warning("Label quality: %s", sentence)
    Path(teacher_labels.uri).mkdir(parents=True, exist_ok=True)
    report = {**asdict(quality), "breaches": broken}
    (Path(teacher_labels.uri) / QUALITY).write_text(json.dumps(report, indent=1))
    if broken and settings.watch.on_breach == "fail":
        kept = "they were not committed and no student saw them"
        if snapshot is not None:
            kept = "they had been committed before, and no student of this run sees them"
        raise LabelsRefused(
            f"labels of span {features.span} by teacher {plan.fingerprint[:16]}",
            got=" ".join(broken),
            expected="labels within the limits of labels.watch",
            fix=f"Look at the teacher and at the span's data; {kept}. Change the limits, or set "
            "labels.watch.on_breach to 'warn'.",
        )
    if snapshot is None:
        snapshot = commit(settings.table, shards, provenance, quality=report)
    publish(teacher_labels, [snapshot])
    for name, value in ((WATERMARK, watermark), (TEACHER_SPAN, model.get_custom_property(SPAN))):
        if value is not None:
            teacher_labels.set_int_custom_property(name, value)


def _require_blessed(model: Any, blessing: Any) -> None:
    if model is None:
        raise ModelError(
            "TeacherLabeler",
            got="no blessed teacher in this or an earlier span",
            expected="a teacher that its evaluation blessed",
            fix="Read the reasons with `distill show`; improve the teacher, or change "
            "gate.teacher in the config.",
        )
    if blessing is None or blessing.get_int_custom_property("blessed") != 1:
        raise ModelError(
            f"teacher {model.uri}",
            got="a model that its evaluation did not bless",
            expected="a blessed teacher",
            fix="Read the reasons with `distill show`; improve the teacher, or change "
            "gate.teacher in the config.",
        )


def _other(labels: Any, teacher: str) -> Snapshot | None:
    """The snapshot of the span before, if another teacher labelled it."""
    snapshot = read_snapshots(labels.uri)[-1]
    return None if snapshot.teacher == teacher[:TEACHER_DIGITS] else snapshot


def _plan(model: Any, features: Any, transform_graph: Any, examples: Any) -> Plan:
    """Which models label, and through which Transform graph."""
    serving = path_utils.serving_model_path(model.uri)
    trained = model.get_string_custom_property(TRANSFORM_GRAPH)
    foreign = bool(trained) and trained != transform_graph.uri
    if foreign and examples is None:
        raise ValueError("a teacher of another Transform graph needs the examples")
    # Only where the teacher has seen what it labels.
    seen = model.get_custom_property(SPAN) == features.span
    folds = tuple(map(str, fold_models(model.uri))) if seen else ()
    digest = fingerprint(serving)
    if folds:
        parts = [digest, *(fingerprint(fold) for fold in folds)]
        digest = hashlib.sha256("".join(parts).encode()).hexdigest()
    return Plan(
        model=serving,
        folds=folds,
        graph=trained if foreign else None,
        examples=examples.uri if foreign else None,
        fingerprint=digest,
    )
