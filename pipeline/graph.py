"""The one picture of the pipeline: which components there are, and what flows between them.

Three shapes of one graph. *Batch*, also the bootstrap of a stream: everything is trained from the
start, on all spans together. *Online*: one later span of a stream; Resolvers find what earlier runs
made. *Students only*, of either: the teacher's part is replaced by its labels in a shared table.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ml_metadata.proto.metadata_store_pb2 import ConnectionConfig, SqliteMetadataSourceConfig
from tfx.components.schema_gen.import_schema_gen.component import ImportSchemaGen
from tfx.dsl.components.base.base_node import BaseNode
from tfx.orchestration.pipeline import Pipeline
from tfx.types.channel import BaseChannel
from tfx.types.standard_artifacts import Examples, ExampleStatistics, TransformGraph

from tfx_distill.components import engines
from tfx_distill.components.evaluation_config import EvaluationConfig
from tfx_distill.components.feature_materializer import FeatureMaterializer, MaterializerConfig
from tfx_distill.components.gate_settings import GateSettings
from tfx_distill.components.label_importer import LabelImporter
from tfx_distill.components.model_evaluator import ModelEvaluator
from tfx_distill.components.promotion_gate import PromotionGate
from tfx_distill.components.span_example_gen import SpanExampleGen
from tfx_distill.components.span_resolver import span_resolver
from tfx_distill.components.span_statistics import SpanStatistics
from tfx_distill.components.span_transform import SpanTransform
from tfx_distill.components.span_validator import SpanValidator
from tfx_distill.components.student_trainer import StudentTrainer
from tfx_distill.components.teacher_labeler import LabelerConfig, TeacherLabeler
from tfx_distill.components.teacher_resolver import model_resolver, teacher_resolver
from tfx_distill.components.teacher_trainer import TeacherTrainer
from tfx_distill.components.vocabulary_refresher import VocabularyRefresher
from tfx_distill.components.window_resolver import window_resolver
from tfx_distill.datasets.logs import LogConfig
from tfx_distill.labels.storage import absolute
from tfx_distill.pipeline.promotion import gate_id, promotion
from tfx_distill.schema.config import FeaturesConfig, RunConfig, StudentConfig
from tfx_distill.trainer import run as trainer_run
from tfx_distill.trainer.run import TrainingJob

TEACHER_TRAINER = "TeacherTrainer"
TEACHER_EVALUATOR = "TeacherEvaluator"
TEACHER_GATE = "TeacherGate"
LABELER = "TeacherLabeler"
VALIDATOR = "ExampleValidator"
TRANSFORM = "Transform"
REFRESHER = "VocabularyRefresher"


@dataclass(frozen=True)
class Input:
    """What a run reads.

    Attributes:
      first: First span.
      last: Last span, whose eval files are the eval split.
      fingerprint: Of the log files, so that changed files are ingested anew.
      schema_file: The TensorFlow Metadata schema of the examples.
      carried: For a later span of a stream, the span before it: its eval files are trained on.
      age: For a later span of a stream, spans since the bootstrap: 1 for the first.
      labels_version: For students only, the newest version of the label table with labels of these
        spans.
    """

    first: int
    last: int
    fingerprint: str
    schema_file: Path
    carried: int | None = None
    age: int = 0
    labels_version: int | None = None

    @property
    def online(self) -> bool:
        """Whether earlier runs made what this one starts from."""
        return self.carried is not None

    @property
    def students_only(self) -> bool:
        """Whether the teacher is another pipeline's."""
        return self.labels_version is not None


def build(config: RunConfig, source: Input) -> Pipeline:
    """The pipeline of one run: a teacher, its labels, and every student with its twin."""
    return pipeline_of(config, components(config, source))


def pipeline_of(config: RunConfig, nodes: Sequence[BaseNode]) -> Pipeline:
    """Some components as a pipeline with the name, the metadata and the folders of a config."""
    return Pipeline(
        pipeline_name=config.name,
        pipeline_root=str(config.run_folder.absolute() / "artifacts"),
        # TFX's own function would make the folder, also where a pipeline is only compiled.
        metadata_connection_config=ConnectionConfig(
            sqlite=SqliteMetadataSourceConfig(
                filename_uri=str(config.run_folder.absolute() / "metadata.sqlite"),
                connection_mode=SqliteMetadataSourceConfig.READWRITE_OPENCREATE,
            )
        ),
        components=list(nodes),
        enable_cache=True,
        beam_pipeline_args=[
            f"--runner={config.beam.runner}",
            # Without it TFX builds a source distribution of itself for each Beam component.
            "--sdk_container_image=unused",
            # A tenth of what building a graph of TFMA costs, in every evaluation of every span.
            "--no_pipeline_type_check",
            *config.beam.options,
        ],
    )


@dataclass
class _Data:
    """The channels that every model of a run reads."""

    examples: BaseChannel
    transform_graph: BaseChannel
    features: BaseChannel


def components(config: RunConfig, source: Input) -> list[BaseNode]:
    """All components, each after those that it needs."""
    nodes, data = _ingestion(config, source)
    if source.students_only:
        labeler: BaseNode = LabelImporter(
            table=absolute(config.label_table),
            first=source.first,
            last=source.last,
            version=source.labels_version,
        )
        nodes.append(labeler)
        teacher = None
    else:
        made, labeler, teacher = _teaching(config, source, data)
        nodes += made
    for student in config.students:
        nodes += _student(config, source, student, data, labeler, teacher)
    return nodes


def _ingestion(config: RunConfig, source: Input) -> tuple[list[BaseNode], _Data]:
    """From the logs to the feature table."""
    example_gen = SpanExampleGen(
        config=LogConfig.of(config).model_dump_json(),
        spans=f"{source.first}-{source.last}",
        fingerprint=source.fingerprint,
        carried=-1 if source.carried is None else source.carried,
    )
    examples = example_gen.outputs["examples"]
    schema_gen = ImportSchemaGen(schema_file=str(source.schema_file.absolute()))
    statistics_gen = SpanStatistics(examples=examples, schema=schema_gen.outputs["schema"]).with_id(
        "StatisticsGen"
    )
    nodes: list[BaseNode] = [example_gen, schema_gen, statistics_gen]
    previous = {}
    if source.carried is not None:
        before = span_resolver(
            ExampleStatistics, statistics_gen.id, first=source.carried, last=source.carried
        ).with_id("StatisticsBefore")
        nodes.append(before)
        previous = {"previous": before.outputs["found"]}
    validator = SpanValidator(
        statistics=statistics_gen.outputs["statistics"],
        schema=schema_gen.outputs["schema"],
        config=config.data.validation.model_dump_json(),
        **previous,
    ).with_id(VALIDATOR)
    nodes.append(validator)
    made, transform_graph = _transform(config, source, example_gen, schema_gen.outputs["schema"])
    for node in made:
        # Nothing is made from a span that the validator refuses.
        node.add_upstream_node(validator)
    materializer = FeatureMaterializer(
        examples=examples,
        transform_graph=transform_graph,
        config=MaterializerConfig.of(config).model_dump_json(),
        spark=engines.parameter(config.data.engine, config),
    )
    materializer.add_upstream_node(validator)
    data = _Data(examples, transform_graph, materializer.outputs["features"])
    return [*nodes, *made, materializer], data


def _transform(
    config: RunConfig, source: Input, example_gen: BaseNode, schema: BaseChannel
) -> tuple[list[BaseNode], BaseChannel]:
    """The Transform graph: analysed at the start, pinned on a stream, its vocabularies renewed."""
    if not source.online:
        transform = SpanTransform(
            examples=example_gen.outputs["examples"],
            schema=schema,
            features=config.features.model_dump_json(),
            data=source.fingerprint,
        ).with_id(TRANSFORM)
        return [transform], transform.outputs["transform_graph"]
    # Refreshed graphs say of which span they are, the first one says nothing.
    pinned = span_resolver(
        TransformGraph, (TRANSFORM, REFRESHER), first=-1, last=source.last - 1, newest=True
    )
    pinned = pinned.with_id("PinnedTransform")
    due = _due(config.features, source.age)
    if not due:
        return [pinned], pinned.outputs["found"]
    oldest = source.last - max(due.values()) + 1
    recent = span_resolver(Examples, example_gen.id, first=oldest, last=source.last).with_id(
        "RecentExamples"
    )
    # The examples of this run are among the recent ones only once they are there.
    recent.add_upstream_node(example_gen)
    refresher = VocabularyRefresher(
        examples=recent.outputs["found"],
        transform_graph=pinned.outputs["found"],
        features=config.features.model_dump_json(),
        due=json.dumps(due),
        span=source.last,
    ).with_id(REFRESHER)
    return [pinned, recent, refresher], refresher.outputs["refreshed"]


def _due(features: FeaturesConfig, age: int) -> dict[str, int]:
    """The features whose vocabulary is learned again in this span, and from how many spans."""
    learned = (*features.categorical, *features.multivalent)
    return {f.name: f.refresh for f in learned if f.refresh is not None and age % f.refresh == 0}


def _teaching(
    config: RunConfig, source: Input, data: _Data
) -> tuple[list[BaseNode], BaseNode, BaseChannel]:
    """The teacher's training, its gate and its labels; and the teacher that labels."""
    nodes: list[BaseNode] = []
    chunks, base = data.features, {}
    if source.online:
        window = window_resolver(
            span=source.last,
            features=data.features,
            trainer_id=TEACHER_TRAINER,
            gate_id=TEACHER_GATE if _from_blessed(config) else None,
        ).with_id(f"Window.{TEACHER_TRAINER}")
        nodes.append(window)
        chunks, base = window.outputs["features"], {"base_model": window.outputs["model"]}
    trainer = TeacherTrainer(
        run_fn=trainer_run.RUN_FN,
        examples=chunks,
        transform_graph=data.transform_graph,
        custom_config={trainer_run.JOB: TrainingJob.of_teacher(config).model_dump_json()},
        **base,
    ).with_id(TEACHER_TRAINER)
    evaluator = ModelEvaluator(
        examples=data.examples,
        model=trainer.outputs["model"],
        config=EvaluationConfig.of_teacher(config).model_dump_json(),
    ).with_id(TEACHER_EVALUATOR)
    gate = PromotionGate(
        evaluation=evaluator.outputs["evaluation"],
        model=trainer.outputs["model"],
        config=GateSettings.of_teacher(config).model_dump_json(),
    ).with_id(TEACHER_GATE)
    training = [trainer, evaluator, gate]
    given = {"model": trainer.outputs["model"], "model_blessing": gate.outputs["blessing"]}
    if source.online:
        after = config.labels.order == "train_then_score"
        resolver = teacher_resolver(
            span=source.last,
            trainer_id=TEACHER_TRAINER,
            gate_id=TEACHER_GATE,
            labeler_id=LABELER,
            judged=gate.outputs["blessing"] if after else None,
        ).with_id("TeacherResolver")
        given = {
            "model": resolver.outputs["model"],
            "model_blessing": resolver.outputs["model_blessing"],
            "previous": resolver.outputs["labels"],
        }
    labeler = TeacherLabeler(
        features=data.features,
        transform_graph=data.transform_graph,
        examples=data.examples,
        config=LabelerConfig.of(config).model_dump_json(),
        spark=engines.parameter(config.labels.engine, config),
        **given,
    )
    if not source.online:
        nodes += [*training, labeler]
    elif config.labels.order == "train_then_score":
        nodes += [*training, resolver, labeler]
    else:
        # Score, then train: what labels a span has not seen it.
        nodes += [resolver, labeler, *training]
    return nodes, labeler, given["model"]


def _student(
    config: RunConfig,
    source: Input,
    student: StudentConfig,
    data: _Data,
    labeler: BaseNode,
    teacher: BaseChannel | None,
) -> list[BaseNode]:
    """A student and its twin, trained; and its promotion."""
    labels = labeler.outputs["teacher_labels"]
    nodes: list[BaseNode] = []
    trainers = {}
    for twin in (False, True):
        name = f"{'TwinTrainer' if twin else 'StudentTrainer'}.{student.name}"
        chunks, base = data.features, None
        labelled = None if twin else labels
        if source.online:
            blessed = _from_blessed(config) and not twin
            window = window_resolver(
                span=source.last,
                features=data.features,
                trainer_id=name,
                gate_id=gate_id(student.name) if blessed else None,
                labels=labels,
            ).with_id(f"Window.{name}")
            nodes.append(window)
            chunks, base = window.outputs["features"], window.outputs["model"]
            # A twin is trained on the chunks that its student has labels for, without the labels.
            labelled = None if twin else window.outputs["labels"]
        trainers[twin] = StudentTrainer(
            examples=chunks,
            transform_graph=data.transform_graph,
            teacher_labels=labelled,
            base_model=base,
            job=TrainingJob.of_student(config, student, twin=twin),
        ).with_id(name)
    promoted = promotion(
        config,
        student,
        examples=data.examples,
        trainer=trainers[False],
        twin_trainer=trainers[True],
        teacher=teacher,
        online=source.online,
    )
    return [*nodes, *trainers.values(), *promoted]


def _from_blessed(config: RunConfig) -> bool:
    return config.stream is not None and config.stream.warm_start == "blessed"


def relabelling(config: RunConfig, span: int, teacher: int) -> list[BaseNode]:
    """One stored span, labelled by one teacher, whatever labelled it before.

    Args:
      config: Of the pipeline that made both.
      span: Whose feature table is labelled.
      teacher: Id of the model artifact.
    """
    features = span_resolver(Examples, "FeatureMaterializer", first=span, last=span)
    examples = span_resolver(Examples, "SpanExampleGen", first=span, last=span)
    model = model_resolver(model_id=teacher, trainer_id=TEACHER_TRAINER, gate_id=TEACHER_GATE)
    # A feature table and the Transform graph that made it belong to one span.
    graph = span_resolver(TransformGraph, (TRANSFORM, REFRESHER), first=-1, last=span, newest=True)
    named = [
        features.with_id("StoredFeatures"),
        examples.with_id("StoredExamples"),
        graph.with_id("StoredTransform"),
        model.with_id("ChosenTeacher"),
    ]
    labeler = TeacherLabeler(
        features=features.outputs["found"],
        transform_graph=graph.outputs["found"],
        examples=examples.outputs["found"],
        model=model.outputs["model"],
        model_blessing=model.outputs["model_blessing"],
        config=LabelerConfig.of(config).model_dump_json(),
        spark=engines.parameter(config.labels.engine, config),
    )
    return [*named, labeler]
