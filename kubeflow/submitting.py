"""Submits a run, or what is next of a stream, once: who asks again is told of the run there is.

Who a run is follows from its name. That of a span is the span's, so no span is submitted twice,
whoever asks, from wherever. A run that failed is submitted again under a name of its own.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass

from tfx_distill.kubeflow.containers import Target
from tfx_distill.kubeflow.parameters import declared_parameters, refuse_unknown
from tfx_distill.kubeflow.service import NEXT, Run, Service
from tfx_distill.kubeflow.spec import Parameters, pipeline_name
from tfx_distill.schema.config import RunConfig
from tfx_distill.schema.errors import ConfigError, DataError, EnvironmentProblem


@dataclass(frozen=True)
class Order:
    """What is to be run.

    Attributes:
      config: The run config.
      target: Where it is to run.
      students_only: Train students from the labels of another pipeline's teacher.
      parameters: Of the run, in place of their defaults.
      attempts: How often a run is tried.
    """

    config: RunConfig
    target: Target
    students_only: bool
    parameters: Parameters
    attempts: int


@dataclass(frozen=True)
class Submitted:
    """A run, and whether it was there before."""

    run: Run
    found: bool


def submit(service: Service, order: Order, span: str | None) -> Submitted | str:
    """Submits a run, unless it was submitted before.

    Args:
      service: Which runs it.
      order: What is to be run.
      span: Number of a later span of a stream; `next` for its bootstrap or the next complete span,
        whichever it has come to; None for a batch or a bootstrap.

    Returns:
      The run, or in words why there is nothing to do.

    Raises:
      DistillError: It cannot be compiled, has failed too often, or the service refuses.
    """
    if span == NEXT:
        return _submit_next(service, order)
    if span is not None and not span.isdecimal():
        raise ConfigError(
            "span", got=repr(span), expected=f"a number, or {NEXT}", fix="Correct it."
        )
    number = None if span is None else int(span)
    return _submit(service, order, number, service.runs(run_name(order, number)))


def words(outcome: Submitted | str) -> str:
    """What `submit` has done, for people."""
    if isinstance(outcome, str):
        return f"Nothing to do: {outcome}"
    run = outcome.run
    if not outcome.found:
        return f"{run.name}: submitted, {run.link}"
    state = "is running" if run.state == "running" else "has ended well"
    return f"{run.name}: was submitted before and {state}, {run.link}"


def _submit_next(service: Service, order: Order) -> Submitted | str:
    """A span in which a component failed is left for the span after it, which catches up."""
    from tfx_distill.pipeline import stream

    # Before the records are looked at: a run that ends meanwhile has left its record.
    runs = service.runs(pipeline_name(order.config.name))
    try:
        standing = stream.progress(order.config, students_only=order.students_only)
    except DataError as error:
        return f"{error.where}: {error.got}"
    part = next((one for one in standing.pending if one.last not in standing.partial), None)
    if part is None:
        return standing.waiting or "all complete spans are processed"
    span = None if part.carried is None else part.last
    submitted = _submit(service, order, span, runs)
    if submitted.run.state == "succeeded":
        raise EnvironmentProblem(
            submitted.run.name,
            got=f"a run that ended well, without a record of it in {order.config.run_folder}",
            expected="the run folder that the steps write to",
            fix="Submit from where that folder is mounted. If it was removed to begin anew, "
            "archive the old runs, or give the stream another `name`.",
        )
    return submitted


def run_name(order: Order, span: int | None) -> str:
    """Who a run is: the span, or the content of config and parameters where there is none."""
    stem = pipeline_name(order.config.name)
    if span is not None:
        return f"{stem}-span-{span}"
    if order.config.stream is not None:
        return f"{stem}-bootstrap"
    content = order.config.to_yaml() + json.dumps(dict(order.parameters), sort_keys=True)
    return f"{stem}-batch-{hashlib.sha256(content.encode()).hexdigest()[:8]}"


def _submit(service: Service, order: Order, span: int | None, runs: Sequence[Run]) -> Submitted:
    """Submits a run, unless one of `runs` is an attempt at it that has not failed."""
    refuse_unknown(order.parameters, declared_parameters(order.config, later=span is not None))
    name = run_name(order, span)
    known = {run.name: run for run in runs}
    names = [name, *(f"{name}-retry{number}" for number in range(1, order.attempts))]
    tried = [known[one] for one in names if one in known]
    for run in tried:
        if run.state != "failed":
            return Submitted(run, found=True)
    free = next((one for one in names if one not in known), None)
    if free is None:
        raise EnvironmentProblem(
            name,
            got=f"{len(tried)} attempts that failed, the last one {tried[-1].link}",
            expected="one that ends well",
            fix="Mend what failed, and raise --attempts.",
        )
    # It takes ten seconds to import TFX: what can be refused without it was refused.
    from tfx_distill.kubeflow.compilation import compile_pipeline

    text = compile_pipeline(
        order.config, order.target, span=span, students_only=order.students_only
    )
    return Submitted(service.create_run(free, text, order.parameters), found=False)
