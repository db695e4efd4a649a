"""The promotion of a student, as components: evaluated, judged, served on trial, pushed."""

from __future__ import annotations

from pathlib import Path

from tfx.components.pusher.component import Pusher
from tfx.dsl.components.base.base_node import BaseNode
from tfx.proto import pusher_pb2
from tfx.types.channel import BaseChannel

from tfx_distill.components.baseline_resolver import baseline_resolver
from tfx_distill.components.evaluation_config import EvaluationConfig
from tfx_distill.components.gate_settings import GateSettings
from tfx_distill.components.model_evaluator import ModelEvaluator
from tfx_distill.components.promotion_gate import PromotionGate
from tfx_distill.components.serving_validator import ServingConfig, ServingValidator
from tfx_distill.schema.config import RunConfig, StudentConfig


def gate_id(student: str) -> str:
    """Id of the PromotionGate of a student."""
    return f"StudentGate.{student}"


def validator_id(student: str) -> str:
    """Id of the ServingValidator of a student."""
    return f"ServingValidator.{student}"


def promotion(
    config: RunConfig,
    student: StudentConfig,
    *,
    examples: BaseChannel,
    trainer: BaseNode,
    twin_trainer: BaseNode,
    teacher: BaseChannel | None,
    online: bool,
) -> list[BaseNode]:
    """From a trained student to the folder that it is served from, each after what it needs.

    Args:
      config: The run config.
      student: Which of its students.
      examples: Ingested examples with an eval split.
      trainer: Trained the student.
      twin_trainer: Trained its undistilled twin.
      teacher: The teacher, for the reports; None where it is another pipeline's.
      online: Whether this is a later span of a stream.
    """
    resolver = baseline_resolver(
        trainer, gate_id(student.name), validator_id(student.name), by_span=online
    ).with_id(f"BaselineResolver.{student.name}")
    candidate, twin = trainer.outputs["model"], twin_trainer.outputs["model"]
    in_service = resolver.outputs["model"]
    evaluator = ModelEvaluator(
        examples=examples,
        model=candidate,
        baseline=in_service,
        twin=twin,
        config=EvaluationConfig.of_student(config, student).model_dump_json(),
        **({} if teacher is None else {"teacher": teacher}),
    ).with_id(f"StudentEvaluator.{student.name}")
    gate = PromotionGate(
        evaluation=evaluator.outputs["evaluation"],
        model=candidate,
        baseline=in_service,
        twin=twin,
        config=GateSettings.of_student(config, student).model_dump_json(),
    ).with_id(gate_id(student.name))
    trial = trial_and_push(
        config,
        student,
        model=candidate,
        blessing=gate.outputs["blessing"],
        examples=examples,
        baseline=in_service,
    )
    return [resolver, evaluator, gate, *trial]


def trial_and_push(
    config: RunConfig,
    student: StudentConfig,
    *,
    model: BaseChannel,
    blessing: BaseChannel,
    examples: BaseChannel,
    baseline: BaseChannel | None,
) -> list[BaseNode]:
    """From a judged student to the folder that it is served from.

    Args:
      config: The run config.
      student: Which of its students.
      model: The student.
      blessing: What its gate, or who overrides it, says.
      examples: Ingested examples with an eval split.
      baseline: The model in service; None where it is known that there is none.
    """
    validator = ServingValidator(
        model=model,
        model_blessing=blessing,
        examples=examples,
        config=ServingConfig.of_student(config, student).model_dump_json(),
        **({} if baseline is None else {"baseline": baseline}),
    ).with_id(validator_id(student.name))
    pusher = Pusher(
        model=model,
        model_blessing=blessing,
        infra_blessing=validator.outputs["infra_blessing"],
        push_destination=pusher_pb2.PushDestination(
            filesystem=pusher_pb2.PushDestination.Filesystem(
                base_directory=str(Path(config.push.directory).absolute() / student.name)
            )
        ),
    ).with_id(f"Pusher.{student.name}")
    return [validator, pusher]
