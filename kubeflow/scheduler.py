"""A schedule submits what is next of a stream: a pipeline of one step that is run again and again.

Its times need not be those of the spans. A turn that finds nothing to do, or the run of an earlier
turn still at work, ends at once; one run of a span is begun at a time.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Literal

from tfx_distill.kubeflow import cron as times
from tfx_distill.kubeflow.connection import Connection
from tfx_distill.kubeflow.service import NEXT, Schedule, Service
from tfx_distill.kubeflow.settings import section_of
from tfx_distill.kubeflow.spec import Spec, pipeline_name
from tfx_distill.schema.config import RunConfig
from tfx_distill.schema.errors import ConfigError
from tfx_distill.schema.sections import Section

STEP = "submit"
MODULE = "tfx_distill.kubeflow.scheduler_step"


class Turn(Section):
    """What a turn is told, besides its parameters.

    Attributes:
      config: The resolved run config, as YAML.
      connection: Where it submits to, as seen from the cluster.
      students_only: Train students from the labels of another pipeline's teacher.
      attempts: How often a run is tried.
    """

    config: str
    connection: Connection
    students_only: bool
    attempts: int


@dataclass(frozen=True)
class Scheduled:
    """A schedule, and what was done for it."""

    schedule: Schedule
    change: Literal["created", "updated", "unchanged"]


def schedule(
    service: Service, config: RunConfig, turn: Turn, config_uri: str, cron: str
) -> Scheduled:
    """Has exactly one active schedule of a stream, with this content.

    Args:
      service: Which keeps it.
      config: Of the stream.
      turn: What it does.
      config_uri: A config file that is read at each turn, instead of the one in `turn`; empty for
        none.
      cron: When, as five fields of Unix, in UTC.

    Raises:
      ConfigError: The config has no stream, or the times are no such fields.
      EnvironmentProblem: The service does not answer, or refuses.
    """
    if config.stream is None:
        raise ConfigError(
            "stream",
            got="a config without the section 'stream'",
            expected="a stream: a batch is submitted once",
            fix="Add `stream: {}` to the config, or use `distill kubeflow submit`.",
        )
    times.check(cron)
    text = compiled(config, turn, config_uri)
    stem = f"{pipeline_name(config.name)}-schedule-"
    name = stem + hashlib.sha256(f"{cron}\n{text}".encode()).hexdigest()[:8]
    before = service.schedules(stem)
    kept = next((one for one in before if one.name == name and one.active), None)
    current = kept or service.create_schedule(name, text, cron)
    others = [one for one in before if one is not kept]
    # Last, so that there is always one; two for a moment do no harm.
    for other in others:
        service.delete_schedule(other)
    if others:
        return Scheduled(current, "updated")
    return Scheduled(current, "unchanged" if kept else "created")


def compiled(config: RunConfig, turn: Turn, config_uri: str) -> str:
    """The pipeline of one step, as YAML."""
    parameters: dict[str, str | int] = {
        "config_uri": config_uri,
        "seed": config.seed,
        "span": NEXT,
    }
    spec = Spec(section_of(config), turn.connection.target)
    spec.add_container(STEP, STEP, MODULE, [])
    spec.give(STEP, {"turn": turn.model_dump_json()}, parameters)
    return spec.text(f"{pipeline_name(config.name)}-schedule", parameters)
