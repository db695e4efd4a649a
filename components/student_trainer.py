"""StudentTrainer: TFX's Trainer with teacher labels as a further input."""

from __future__ import annotations

from typing import Any

from tfx.components.trainer import executor as trainer_executor
from tfx.dsl.components.base import base_component, executor_spec
from tfx.types import artifact, channel, standard_artifacts
from tfx.types.component_spec import ChannelParameter
from tfx.types.standard_component_specs import TrainerSpec
from tfx.utils import json_utils

from tfx_distill.components.artifacts import TeacherLabels, read_snapshot
from tfx_distill.trainer import run

TEACHER_LABELS = "teacher_labels"


class StudentTrainerSpec(TrainerSpec):
    """TFX's TrainerSpec, plus the optional input `teacher_labels`."""

    INPUTS = {
        **TrainerSpec.INPUTS,
        TEACHER_LABELS: ChannelParameter(type=TeacherLabels, optional=True),
    }


class Executor(trainer_executor.GenericExecutor):
    """TFX's generic trainer; hands the snapshot of the label table to the run_fn."""

    def _GetFnArgs(  # noqa: N802
        self,
        input_dict: dict[str, list[artifact.Artifact]],
        output_dict: dict[str, list[artifact.Artifact]],
        exec_properties: dict[str, Any],
    ) -> Any:
        fn_args = super()._GetFnArgs(input_dict, output_dict, exec_properties)
        for labels in input_dict.get(TEACHER_LABELS, []):
            fn_args.custom_config[run.TEACHER_LABELS] = read_snapshot(labels.uri).to_json()
        return fn_args


class StudentTrainer(base_component.BaseComponent):
    """Trains a student with teacher labels, or its undistilled twin without them.

    Args:
      examples: The feature table, from FeatureMaterializer.
      transform_graph: The graph that made it; becomes part of the exported model.
      job: What to train.
      teacher_labels: From TeacherLabeler; None for a twin.

    Outputs: `model` (a SavedModel with the serving heads only) and `model_run` (TensorBoard logs
    and `training.json`).

    Example:
      StudentTrainer(
          examples=materializer.outputs["features"],
          transform_graph=transform.outputs["transform_graph"],
          teacher_labels=labeler.outputs["teacher_labels"],
          job=TrainingJob.of_student(run_config, student, twin=False),
      ).with_id("StudentTrainer.compact")
    """

    SPEC_CLASS = StudentTrainerSpec
    EXECUTOR_SPEC = executor_spec.ExecutorClassSpec(Executor)

    def __init__(
        self,
        examples: channel.BaseChannel,
        transform_graph: channel.BaseChannel,
        job: run.TrainingJob,
        teacher_labels: channel.BaseChannel | None = None,
    ) -> None:
        optional = {} if teacher_labels is None else {TEACHER_LABELS: teacher_labels}
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
