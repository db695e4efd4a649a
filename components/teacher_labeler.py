"""TeacherLabeler: writes a teacher's labels of a span once, for any number of students.

This module has no deferred annotations: TFX reads those of a component function at run time.
"""

import hashlib
import json
import logging
from collections.abc import Iterator
from dataclasses import asdict, dataclass
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

from tfx_distill.components import label_quality
from tfx_distill.components.artifacts import (
    TeacherLabels,
    fingerprint,
    publish,
    read_snapshots,
)
from tfx_distill.components.lineage_properties import SPAN, TRANSFORM_GRAPH, WATERMARK
from tfx_distill.datasets.example_shards import read_shard
from tfx_distill.labels.commit import commit, find
from tfx_distill.labels.partition import Partition
from tfx_distill.labels.provenance import Provenance
from tfx_distill.labels.quality import breaches
from tfx_distill.labels.shard import LabelShard, LabelShardWriter
from tfx_distill.labels.snapshot import Snapshot
from tfx_distill.schema import columns
from tfx_distill.schema.config import FeaturesConfig, LabelWatch, RunConfig, Section, TaskConfig
from tfx_distill.schema.errors import LabelError, LabelsRefused, ModelError
from tfx_distill.trainer import feature_table
from tfx_distill.trainer.folds import fold_models
from tfx_distill.trainer.materialize import Materializer
from tfx_distill.trainer.teacher import Teacher

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
            table=str(run.label_table.absolute()),
            features=run.features,
            tasks=run.tasks,
            watch=run.labels.watch,
        )

    @property
    def kinds(self) -> dict[str, str]:
        """Kind of each task."""
        return {task.name: task.kind for task in self.tasks}


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
    plan = _Plan.of(model, features, transform_graph, examples, config)
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
        shards = _label(plan, features, teacher_labels, config, beam_pipeline)
        root = Path(settings.table)
        files = {
            split: [str(root / s.path) for s in shards if s.partition.split == split and s.rows]
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


@dataclass(frozen=True)
class _Plan:
    """Which model labels what.

    Attributes:
      model: Folder of the teacher's SavedModel.
      folds: Folders of its fold models, if they are to label.
      graph: The teacher's own Transform graph, where the feature table was made by another one.
      examples: Folder of the ingested examples, for that case.
      fingerprint: Digest of all models that label.
    """

    model: str
    folds: tuple[str, ...]
    graph: str | None
    examples: str | None
    fingerprint: str

    @classmethod
    def of(
        cls, model: Any, features: Any, transform_graph: Any, examples: Any, config: str
    ) -> "_Plan":
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
        return cls(
            model=serving,
            folds=folds,
            graph=trained if foreign else None,
            examples=examples.uri if foreign else None,
            fingerprint=digest,
        )


def _label(
    plan: _Plan, features: Any, teacher_labels: Any, config: str, beam_pipeline: Any
) -> list[LabelShard]:
    """Labels every shard of the feature table, by Beam; nothing is visible yet."""
    scored_at = datetime.now(timezone.utc)
    tasks = [
        (Partition(plan.fingerprint[:TEACHER_DIGITS], features.span, split), str(file))
        for split in columns.SPLITS
        for file in feature_table.shards(features.uri, split)
    ]
    finished = Path(teacher_labels.uri) / "shards"
    with beam_pipeline as pipeline:
        _ = (
            pipeline
            | "Shards" >> beam.Create(tasks, reshuffle=False)
            | "Label" >> beam.ParDo(_LabelShard(plan, config, scored_at, str(finished)))
        )
    shards = [_read_note(note) for note in sorted(finished.glob("*.json"))]
    if len(shards) != len(tasks):
        raise LabelError(
            str(finished),
            got=f"{len(shards)} labelled shards",
            expected=f"{len(tasks)}, one for each shard of the examples",
            fix="Check that all Beam workers write to this folder; then run again.",
        )
    return shards


class _LabelShard(beam.DoFn):
    """Labels one shard of the feature table: one label file, and a note of it for the driver.

    Notes are files because a Beam runner hands results back to the driver only through storage.
    """

    def __init__(self, plan: _Plan, config: str, scored_at: datetime, notes: str) -> None:
        self._plan, self._config, self._scored_at, self._notes = plan, config, scored_at, notes

    def setup(self) -> None:
        """Loads the teacher once per worker."""
        self._settings = LabelerConfig.model_validate_json(self._config)
        self._teacher = Teacher(self._plan.model, self._settings.features, self._plan.folds)
        self._own_graph = None
        if self._plan.graph is not None:
            self._own_graph = Materializer(
                self._plan.graph, self._settings.features, self._settings.tasks
            )

    def _labels(self, partition: Partition, file: Path) -> Iterator[Any]:
        if self._own_graph is None:
            return self._teacher.label(file)
        folder = Path(str(self._plan.examples)) / f"Split-{partition.split}"
        raw = read_shard(str(folder / f"{file.stem}.parquet"))
        return self._teacher.label_rows(self._own_graph.rows(raw))

    def process(self, element: tuple[Partition, str]) -> None:
        """Labels one shard."""
        partition, file = element
        name = Path(file).stem
        with LabelShardWriter(
            self._settings.table, partition, name, self._settings.kinds, self._scored_at
        ) as writer:
            for ids, labels, missing in self._labels(partition, Path(file)):
                writer.write(ids, labels, missing)
        note = Path(self._notes) / f"{partition.split}-{name}.json"
        note.parent.mkdir(parents=True, exist_ok=True)
        unfinished = note.with_suffix(".partial")
        unfinished.write_text(json.dumps(asdict(writer.shard)))
        unfinished.replace(note)


def _read_note(note: Path) -> LabelShard:
    fields = json.loads(note.read_text())
    partition = Partition(**fields.pop("partition"))
    ranges = {name: tuple(values) for name, values in fields.pop("ranges").items()}
    return LabelShard(partition=partition, ranges=ranges, **fields)
