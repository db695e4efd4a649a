"""StudentTrainer: TFX's Trainer with teacher labels as a further input."""

from __future__ import annotations

from tfx.dsl.components.base import base_component, executor_spec
from tfx.types import channel, standard_artifacts
from tfx.types.component_spec import ChannelParameter
from tfx.types.standard_component_specs import BASE_MODEL_KEY, TrainerSpec
from tfx.utils import json_utils

from tfx_distill.components.artifacts import TeacherLabels
from tfx_distill.components.chunk_executor import TEACHER_LABELS, ChunkExecutor
from tfx_distill.trainer import run


class StudentTrainerSpec(TrainerSpec):
    """TFX's TrainerSpec, plus the optional input `teacher_labels`."""

    INPUTS = {
        **TrainerSpec.INPUTS,
        TEACHER_LABELS: ChannelParameter(type=TeacherLabels, optional=True),
    }


class StudentTrainer(base_component.BaseComponent):
    """Trains a student with teacher labels, or its undistilled twin without them.

    Args:
      examples: The window: feature tables, from FeatureMaterializer.
      transform_graph: The graph that made those which do not say so; becomes part of the exported
        model.
      job: What to train.
      teacher_labels: From TeacherLabeler, for each of the examples; a distilling student leaves
        examples without any out of its window. None for a twin.
      base_model: The model to go on from; none or an empty channel starts anew.

    Outputs: `model` (a SavedModel with the serving heads only, and the state to go on from) and
    `model_run` (TensorBoard logs and `training.json`).

    Example:
      StudentTrainer(
          examples=materializer.outputs["features"],
          transform_graph=transform.outputs["transform_graph"],
          teacher_labels=labeler.outputs["teacher_labels"],
          job=TrainingJob.of_student(run_config, student, twin=False),
      ).with_id("StudentTrainer.compact")
    """

    SPEC_CLASS = StudentTrainerSpec
    EXECUTOR_SPEC = executor_spec.ExecutorClassSpec(ChunkExecutor)

    def __init__(
        self,
        examples: channel.BaseChannel,
        transform_graph: channel.BaseChannel,
        job: run.TrainingJob,
        teacher_labels: channel.BaseChannel | None = None,
        base_model: channel.BaseChannel | None = None,
    ) -> None:
        given = {TEACHER_LABELS: teacher_labels, BASE_MODEL_KEY: base_model}
        optional = {key: value for key, value in given.items() if value is not None}
        spec = StudentTrainerSpec(
            examples=examples,
            transform_graph=transform_graph,
            model=channel.Channel(type=standard_artifacts.Model),
            model_run=channel.Channel(type=standard_artifacts.ModelRun),
            train_args="{}",
            eval_args="{}",
            run_fn=run.RUN_FN,
            custom_config=json_utils.dumps({run.JOB: job.model_dump_json()}),
            **optional,
        )
        super().__init__(spec=spec)
