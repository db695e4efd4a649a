"""TeacherTrainer: TFX's Trainer, trained on chunks of the feature table."""

from tfx.components.trainer.component import Trainer
from tfx.dsl.components.base import executor_spec

from tfx_distill.components.chunk_executor import ChunkExecutor


class TeacherTrainer(Trainer):
    """Trains a teacher, or trains it further; takes what TFX's Trainer takes.

    Example:
      TeacherTrainer(
          run_fn=trainer.run.RUN_FN,
          examples=materializer.outputs["features"],
          transform_graph=transform.outputs["transform_graph"],
          custom_config={JOB: TrainingJob.of_teacher(run_config).model_dump_json()},
      )
    """

    EXECUTOR_SPEC = executor_spec.ExecutorClassSpec(ChunkExecutor)
