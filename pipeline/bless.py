"""Lets a student through that its gate refused: a small pipeline beside the one that made it."""

from __future__ import annotations

import getpass
import os
from datetime import datetime, timezone

from tfx.dsl.components.base.base_node import BaseNode
from tfx.types.standard_artifacts import Examples, Model, ModelBlessing

from tfx_distill.components.chosen_resolver import Chosen, chosen_resolver
from tfx_distill.components.gate_override import GateOverride
from tfx_distill.components.verdict import Override
from tfx_distill.pipeline import gathering, graph, lineage, local_runner, refusal
from tfx_distill.pipeline.promotion import gate_id, trial_and_push
from tfx_distill.pipeline.summary import StudentSummary, Summary
from tfx_distill.schema.config import RunConfig, StudentConfig


def bless(
    config: RunConfig, record: Summary, name: str, *, because: str
) -> tuple[StudentSummary, Exception | None]:
    """Overrides the gate of a student; it is pushed if it can be served.

    Args:
      config: Of the pipeline that made the student.
      record: Of the run that refused it, see `refusal.newest`; it is brought up to date.
      name: Of the student.
      because: Why.

    Returns:
      What has become of the student, and the first error.
    """
    student = next(one for one in config.students if one.name == name)
    store = lineage.sqlite(str(config.run_folder / "metadata.sqlite"))
    made = lineage.outputs(store, record.run_id)
    at = datetime.now(timezone.utc).isoformat(timespec="seconds")
    override = Override(because=because, by=_login(), at=at)
    nodes = overriding(config, student, made, override)
    outcome = local_runner.run(graph.pipeline_of(config, nodes))
    found = gathering.student_summary(config, student, made, store)
    refusal.amend(config.run_folder, record, found)
    return found, outcome.error


def overriding(
    config: RunConfig, student: StudentConfig, made: lineage.Outputs, override: Override
) -> list[BaseNode]:
    """From a refused student to the folder that it is served from.

    The components have the ids that they have in every run: later runs then find this student's
    blessings where they look for them.

    Args:
      config: The run config.
      student: Which of its students.
      made: The outputs of the run that refused it.
      override: Who lets it through, and why.
    """
    trainer = f"StudentTrainer.{student.name}"
    gate, example_gen = gate_id(student.name), "SpanExampleGen"
    # What was in service then still is: only the newest student is let through.
    baseline = made.get(f"BaselineResolver.{student.name}", {}).get("model")
    chosen = chosen_resolver(
        model=Chosen(made[trainer]["model"].id, Model, trainer),
        blessing=Chosen(made[gate]["blessing"].id, ModelBlessing, gate),
        examples=Chosen(made[example_gen]["examples"].id, Examples, example_gen),
        **({} if baseline is None else {"baseline": Chosen(baseline.id, Model, trainer)}),
    ).with_id(f"Refused.{student.name}")
    model = chosen.outputs["model"]
    overridden = GateOverride(
        model=model, refused=chosen.outputs["blessing"], **override.model_dump()
    ).with_id(gate)
    trial = trial_and_push(
        config,
        student,
        model=model,
        blessing=overridden.outputs["blessing"],
        examples=chosen.outputs["examples"],
        baseline=None if baseline is None else chosen.outputs["baseline"],
    )
    return [chosen, overridden, *trial]


def _login() -> str:
    """The login name of whoever runs this."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # in a container, a user may have a number and no name
        return f"uid {os.getuid()}"
