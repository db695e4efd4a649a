"""The one picture of the pipeline: which components there are, and what flows between them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tfx import v1 as tfx
from tfx.dsl.components.base.base_node import BaseNode

from tfx_distill.components.baseline_resolver import baseline_resolver
from tfx_distill.components.evaluation_config import EvaluationConfig
from tfx_distill.components.feature_materializer import FeatureMaterializer, MaterializerConfig
from tfx_distill.components.model_evaluator import ModelEvaluator
from tfx_distill.components.span_example_gen import SpanExampleGen
from tfx_distill.components.student_trainer import StudentTrainer
from tfx_distill.components.teacher_labeler import LabelerConfig, TeacherLabeler
from tfx_distill.datasets.logs import LogConfig
from tfx_distill.schema.config import RunConfig, StudentConfig
from tfx_distill.trainer import run as trainer_run
from tfx_distill.trainer.run import TrainingJob


@dataclass(frozen=True)
class Input:
    """What a run reads.

    Attributes:
      first: First span.
      last: Last span, whose eval files are the eval split.
      fingerprint: Of the log files, so that changed files are ingested anew.
      schema_file: The TensorFlow Metadata schema of the examples.
    """

    first: int
    last: int
    fingerprint: str
    schema_file: Path


def build(config: RunConfig, source: Input) -> tfx.dsl.Pipeline:
    """The batch pipeline: one teacher, its labels, and every student with its twin."""
    return tfx.dsl.Pipeline(
        pipeline_name=config.name,
        pipeline_root=str(config.run_folder.absolute() / "artifacts"),
        metadata_connection_config=tfx.orchestration.metadata.sqlite_metadata_connection_config(
            str(config.run_folder.absolute() / "metadata.sqlite")
        ),
        components=components(config, source),
        enable_cache=True,
        beam_pipeline_args=[
            f"--runner={config.beam.runner}",
            # Without it TFX builds a source distribution of itself for each Beam component.
            "--sdk_container_image=unused",
            *config.beam.options,
        ],
    )


def components(config: RunConfig, source: Input) -> list[BaseNode]:
    """All components, each after those that it needs."""
    example_gen = SpanExampleGen(
        config=LogConfig.of(config).model_dump_json(),
        spans=f"{source.first}-{source.last}",
        fingerprint=source.fingerprint,
    )
    examples = example_gen.outputs["examples"]
    schema_gen = tfx.components.ImportSchemaGen(schema_file=str(source.schema_file.absolute()))
    # With the schema, integer categories are counted as categories, not averaged as quantities.
    statistics_gen = tfx.components.StatisticsGen(
        examples=examples, schema=schema_gen.outputs["schema"]
    )
    validator = tfx.components.ExampleValidator(
        statistics=statistics_gen.outputs["statistics"], schema=schema_gen.outputs["schema"]
    )
    transform = tfx.components.Transform(
        examples=examples,
        schema=schema_gen.outputs["schema"],
        # By import path: a module file would be built into a wheel and installed by pip.
        preprocessing_fn="tfx_distill.trainer.features.preprocessing_fn",
        custom_config={
            "features": config.features.model_dump_json(),
            "data": source.fingerprint,
        },
        splits_config=tfx.proto.SplitsConfig(analyze=["train"]),
        materialize=False,
        disable_statistics=True,
        disable_analyzer_cache=True,
    )
    transform_graph = transform.outputs["transform_graph"]
    materializer = FeatureMaterializer(
        examples=examples,
        transform_graph=transform_graph,
        config=MaterializerConfig.of(config).model_dump_json(),
    )
    features = materializer.outputs["features"]
    teacher = tfx.components.Trainer(
        run_fn=trainer_run.RUN_FN,
        examples=features,
        transform_graph=transform_graph,
        custom_config={trainer_run.JOB: TrainingJob.of_teacher(config).model_dump_json()},
    ).with_id("TeacherTrainer")
    teacher_evaluator = ModelEvaluator(
        examples=examples,
        model=teacher.outputs["model"],
        config=EvaluationConfig.of_teacher(config).model_dump_json(),
    ).with_id("TeacherEvaluator")
    labeler = TeacherLabeler(
        features=features,
        transform_graph=transform_graph,
        model=teacher.outputs["model"],
        model_blessing=teacher_evaluator.outputs["blessing"],
        config=LabelerConfig.of(config).model_dump_json(),
    )
    nodes = [
        example_gen,
        statistics_gen,
        schema_gen,
        validator,
        transform,
        materializer,
        teacher,
        teacher_evaluator,
        labeler,
    ]
    for student in config.students:
        trainers = {
            twin: StudentTrainer(
                examples=features,
                transform_graph=transform_graph,
                teacher_labels=None if twin else labeler.outputs["teacher_labels"],
                job=TrainingJob.of_student(config, student, twin=twin),
            ).with_id(f"{'TwinTrainer' if twin else 'StudentTrainer'}.{student.name}")
            for twin in (False, True)
        }
        nodes += [
            *trainers.values(),
            *_promotion(
                config,
                student,
                examples=examples,
                candidate=trainers[False],
                twin=trainers[True],
                teacher=teacher,
            ),
        ]
    return nodes


def _promotion(
    config: RunConfig,
    student: StudentConfig,
    *,
    examples: tfx.dsl.Channel,
    candidate: BaseNode,
    twin: BaseNode,
    teacher: BaseNode,
) -> list[BaseNode]:
    """From a trained student to a pushed one, if it beats what served before, or its twin."""
    evaluator_id = f"StudentEvaluator.{student.name}"
    resolver = baseline_resolver(candidate, evaluator_id).with_id(
        f"BaselineResolver.{student.name}"
    )
    evaluator = ModelEvaluator(
        examples=examples,
        model=candidate.outputs["model"],
        baseline=resolver.outputs["model"],
        twin=twin.outputs["model"],
        teacher=teacher.outputs["model"],
        config=EvaluationConfig.of_student(config, student).model_dump_json(),
    ).with_id(evaluator_id)
    pusher = tfx.components.Pusher(
        model=candidate.outputs["model"],
        model_blessing=evaluator.outputs["blessing"],
        push_destination=tfx.proto.PushDestination(
            filesystem=tfx.proto.PushDestination.Filesystem(
                base_directory=str(Path(config.push.directory).absolute() / student.name)
            )
        ),
    ).with_id(f"Pusher.{student.name}")
    return [resolver, evaluator, pusher]
