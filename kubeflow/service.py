"""What is asked of Kubeflow Pipelines and of Vertex AI alike: runs and schedules, by name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

RunState = Literal["running", "succeeded", "failed"]
"""`running` from the moment of submission, `failed` also if somebody stopped it."""

NEXT = "next"
"""In place of a span: what a stream has come to."""


@dataclass(frozen=True)
class Run:
    """A run, and where people look at it."""

    name: str
    state: RunState
    link: str


@dataclass(frozen=True)
class Schedule:
    """A pipeline that is run again and again.

    Attributes:
      name: As it was given.
      number: How the service names it.
      active: False if somebody paused it.
      link: Where people look at it.
    """

    name: str
    number: str
    active: bool
    link: str


class Service(Protocol):
    """A place that runs compiled pipelines.

    Each method raises EnvironmentProblem if the service does not answer, or refuses.
    """

    def runs(self, beginning: str) -> Sequence[Run]:
        """The runs whose names begin so; archived ones do not count."""
        ...

    def create_run(self, name: str, text: str, parameters: Mapping[str, str | int]) -> Run:
        """Begins a run of a compiled pipeline."""
        ...

    def schedules(self, beginning: str) -> Sequence[Schedule]:
        """The schedules whose names begin so."""
        ...

    def create_schedule(self, name: str, text: str, cron: str) -> Schedule:
        """Runs a compiled pipeline at the times of `cron`, five fields as of Unix, in UTC.

        Never two at a time, and not once for each time that was missed.
        """
        ...

    def delete_schedule(self, schedule: Schedule) -> None:
        """Ends a schedule; its runs stay."""
        ...
