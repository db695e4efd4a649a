"""TeacherLabeler: writes a teacher's labels of a span once, for any number of students.

This module has no deferred annotations: TFX reads those of a component function at run time.
"""

import hashlib
import json
import logging
from dataclasses import asdict
from datetime import datetime, timezone
from pathlib import Path

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

from tfx_distill.components.artifacts import SNAPSHOT, TeacherLabels, fingerprint
from tfx_distill.labels.commit import commit, find
from tfx_distill.labels.partition import Partition
from tfx_distill.labels.provenance import Provenance
from tfx_distill.labels.shard import LabelShard, LabelShardWriter
from tfx_distill.schema import columns
from tfx_distill.schema.config import FeaturesConfig, RunConfig, Section, TaskConfig
from tfx_distill.schema.errors import LabelError, ModelError
from tfx_distill.trainer import feature_table
from tfx_distill.trainer.teacher import Teacher

_log = logging.getLogger(__name__)


class LabelerConfig(Section):
    """The parts of a run config that shape the label table."""

    table: str
    features: FeaturesConfig
    tasks: tuple[TaskConfig, ...]

    @classmethod
    def of(cls, run: RunConfig) -> "LabelerConfig":
        """The parts of this run."""
        return cls(table=str(run.label_table.absolute()), features=run.features, tasks=run.tasks)

    @property
    def kinds(self) -> dict[str, str]:
        """Kind of each task."""
        return {task.name: task.kind for task in self.tasks}


@component(use_beam=True)
def TeacherLabeler(  # noqa: N802
    features: InputArtifact[standard_artifacts.Examples],
    transform_graph: InputArtifact[standard_artifacts.TransformGraph],
    model: InputArtifact[standard_artifacts.Model],
    model_blessing: InputArtifact[standard_artifacts.ModelBlessing],
    teacher_labels: OutputArtifact[TeacherLabels],
    config: Parameter[str],
    beam_pipeline: BeamComponentParameter[beam.Pipeline] = None,
) -> None:
    """Labels both splits with a blessed teacher and commits the labels in one transaction.

    Labels that the same teacher bytes gave the same examples under the same Transform graph are
    reused, not computed again.

    Args:
      features: The feature table, from FeatureMaterializer.
      transform_graph: The graph that made it.
      model: The teacher.
      model_blessing: The teacher's, from its ModelEvaluator.
      teacher_labels: Output: the snapshot of the label table that now holds the labels.
      config: A `LabelerConfig` as JSON.
      beam_pipeline: Given by TFX.

    Raises:
      ModelError: The teacher is not blessed.
      LabelError: The teacher's labels are not finite.
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
    if model_blessing.get_int_custom_property("blessed") != 1:
        raise ModelError(
            f"teacher {model.uri}",
            got="a model that its evaluation did not bless",
            expected="a blessed teacher",
            fix="Read the reasons with `distill show`; improve the teacher, or change "
            "gate.teacher in the config.",
        )
    settings = LabelerConfig.model_validate_json(config)
    serving = path_utils.serving_model_path(model.uri)
    content = fingerprint(serving)
    provenance = Provenance(
        teacher_version=str(model.id),
        teacher_fingerprint=content,
        examples_fingerprint=fingerprint(features.uri),
        transform_fingerprint=fingerprint(transform_graph.uri),
        config_hash=hashlib.sha256(config.encode()).hexdigest(),
        watermark=features.get_int_custom_property("watermark"),
    )
    snapshot = find(settings.table, provenance.key)
    if snapshot is not None:
        _log.warning("Labels reused: %s holds those of this teacher for these examples.", snapshot)
    else:
        scored_at = datetime.now(timezone.utc)
        tasks = [
            (Partition(content[:16], features.span, split), str(file))
            for split in columns.SPLITS
            for file in feature_table.shards(features.uri, split)
        ]
        finished = Path(teacher_labels.uri) / "shards"
        with beam_pipeline as pipeline:
            _ = (
                pipeline
                | "Shards" >> beam.Create(tasks, reshuffle=False)
                | "Label" >> beam.ParDo(_LabelShard(serving, config, scored_at, str(finished)))
            )
        shards = [_read_note(note) for note in sorted(finished.glob("*.json"))]
        if len(shards) != len(tasks):
            raise LabelError(
                str(finished),
                got=f"{len(shards)} labelled shards",
                expected=f"{len(tasks)}, one for each shard of the examples",
                fix="Check that all Beam workers write to this folder; then run again.",
            )
        snapshot = commit(settings.table, shards, provenance)
    Path(teacher_labels.uri).mkdir(parents=True, exist_ok=True)
    (Path(teacher_labels.uri) / SNAPSHOT).write_text(snapshot.to_json())
    teacher_labels.span = snapshot.span
    teacher_labels.teacher = snapshot.teacher
    teacher_labels.table_version = snapshot.version


class _LabelShard(beam.DoFn):
    """Labels one shard of the feature table: one label file, and a note of it for the driver.

    Notes are files because a Beam runner hands results back to the driver only through storage.
    """

    def __init__(self, model: str, config: str, scored_at: datetime, notes: str) -> None:
        self._model, self._config, self._scored_at, self._notes = model, config, scored_at, notes

    def setup(self) -> None:
        """Loads the teacher once per worker."""
        self._settings = LabelerConfig.model_validate_json(self._config)
        self._teacher = Teacher(self._model, self._settings.features)

    def process(self, element: tuple[Partition, str]) -> None:
        """Labels one shard."""
        partition, file = element
        name = Path(file).stem
        with LabelShardWriter(
            self._settings.table, partition, name, self._settings.kinds, self._scored_at
        ) as writer:
            for ids, labels, missing in self._teacher.label(Path(file)):
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
