"""What became of the runs of a config, read from their summaries.

A site shows runs of earlier versions of tfx-distill too, so unlike `pipeline.summary`, which reads
what it wrote, this takes from a summary what it finds there, and leaves out the rest.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

SPANS = "spans"
"""Folder of the records of a stream's spans, in the run folder."""
LAST = "summary.json"
"""File of the last run, in the run folder."""

Metrics = Mapping[str, Mapping[str, Mapping[str, float]]]
"""Value by model (`teacher`, `candidate`, `twin`, `baseline`), task and metric; finite."""


@dataclass(frozen=True)
class Check:
    """One condition of a gate, in words; `margin` is how far it holds, negative if it does not.

    `slice` is empty for all examples.
    """

    task: str
    metric: str
    slice: str
    rule: str
    passed: bool
    sentence: str
    margin: float


@dataclass(frozen=True)
class Verdict:
    """What a gate said; the checks are in order, the worst first.

    `against` are the models that the candidate was compared with. `not_judged` are sentences about
    slices that are too small or have no value. `overridden` says who let a refused model through
    and why; None as a rule.
    """

    candidate: str
    blessed: bool
    against: tuple[str, ...]
    reason: str
    checks: tuple[Check, ...]
    not_judged: tuple[str, ...] = ()
    overridden: str | None = None


@dataclass(frozen=True)
class Student:
    """One student of a run; `pushed` is where it serves from, None if it was not pushed.

    `served` are sentences on how the exported model did when it was served on trial, and whether
    they speak for it.
    """

    name: str
    parameters: Mapping[str, int]
    metrics: Metrics
    transfer: Mapping[str, Mapping[str, float | None]]
    coverage: float | None
    verdict: Verdict | None
    pushed: str | None
    served: tuple[tuple[bool, str], ...] = ()


@dataclass(frozen=True)
class Step:
    """What one component cost; `state` is `ran`, `cached`, `failed` or `skipped`.

    `phases` are seconds of the wall time, see `pipeline.phases`; empty if they were not measured.
    """

    component: str
    state: str
    seconds: float
    cpu_seconds: float
    peak_mib: float
    error: str | None = None
    phases: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Labels:
    """The teacher labels of a run; `quality` as `labels.quality.Quality`, empty if unknown."""

    table: str
    version: int
    teacher: str
    labelled_by: int | None
    quality: Mapping[str, Any]


@dataclass(frozen=True)
class Run:
    """One run: a batch, the bootstrap of a stream, or a later span (with `carried`).

    `finished` is in seconds since the epoch. `code` is the version of the code, if it was kept.
    `start` is what came before the first component, if it was measured.
    """

    name: str
    run_id: str
    seed: int
    first_span: int
    last_span: int
    carried: int | None
    finished: float
    examples: Mapping[str, int]
    failed: str | None
    anomalies: tuple[str, ...]
    teacher: Verdict | None
    teacher_parameters: int | None
    labels: Labels | None
    labels_refused: bool
    students: tuple[Student, ...]
    steps: tuple[Step, ...]
    code: str | None = None
    start: Step | None = None

    @property
    def spans(self) -> str:
        """The spans, for people."""
        first, last = self.first_span, self.last_span
        return str(last) if first == last else f"{first}-{last}"

    def student(self, name: str) -> Student | None:
        """The student of that name, if the run came to it."""
        return next((student for student in self.students if student.name == name), None)


@dataclass(frozen=True)
class Runs:
    """The runs of a config, in order; `unreadable` are files that no summary could be read from."""

    all: tuple[Run, ...]
    stream: bool
    unreadable: tuple[str, ...] = ()

    @property
    def last(self) -> Run | None:
        """The last one."""
        return self.all[-1] if self.all else None

    @property
    def students(self) -> tuple[str, ...]:
        """Names of all students, in the order of their first appearance."""
        return tuple(dict.fromkeys(s.name for run in self.all for s in run.students))


@dataclass(frozen=True)
class Service:
    """What serves now: the newest push of a student.

    `since` is in seconds since the epoch, None if the folder is gone; `refused` are later spans in
    which a successor was not let through.
    """

    student: str
    path: str
    span: int
    since: float | None
    refused: tuple[int, ...] = field(default=())


def runs(folder: Path) -> Runs:
    """Reads the records of all spans, or for a batch the summary of the last run."""
    files = sorted((folder / SPANS).glob("*.json"))
    stream = bool(files)
    if not files:
        files = [file for file in (folder / LAST,) if file.exists()]
    found, unreadable = [], []
    for file in files:
        try:
            found.append(run_of(json.loads(file.read_text())))
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            unreadable.append(f"{file.name}: {type(error).__name__} {error}")
    return Runs(tuple(found), stream, tuple(unreadable))


def service(found: Runs, student: str) -> Service | None:
    """What serves of one student; None if none was ever pushed."""
    now: Service | None = None
    for run in found.all:
        one = run.student(student)
        if one is None:
            continue
        if one.pushed is not None:
            place = Path(one.pushed)
            # A span that is run again takes its push from the cache: its record is younger.
            since = place.stat().st_mtime if place.exists() else None
            now = Service(student, one.pushed, run.last_span, since)
        elif now is not None:
            now = Service(student, now.path, now.span, now.since, (*now.refused, run.last_span))
    return now


def run_of(content: Mapping[str, Any]) -> Run:
    """A run from the JSON of its summary.

    Raises:
      KeyError, TypeError: It is no summary.
    """
    get = content.get
    start = get("start")
    return Run(
        name=content["name"],
        run_id=content["run_id"],
        seed=get("seed", 0),
        first_span=content["first_span"],
        last_span=content["last_span"],
        carried=get("carried"),
        finished=get("finished", 0.0),
        examples=get("examples") or {},
        failed=get("failed"),
        anomalies=tuple(get("anomalies") or ()),
        teacher=_verdict(get("teacher")),
        teacher_parameters=get("teacher_parameters"),
        labels=_labels(get("labels")),
        labels_refused=bool(get("labels_refused")),
        students=tuple(_student(one) for one in get("students") or ()),
        steps=tuple(_step(one) for one in get("steps") or ()),
        code=get("code"),
        start=None if start is None else _step(start),
    )


def _student(content: Mapping[str, Any]) -> Student:
    serving = content.get("serving") or {}
    return Student(
        name=content["name"],
        parameters=content.get("parameters") or {},
        metrics=_finite(content.get("metrics") or {}),
        transfer=content.get("transfer") or {},
        coverage=content.get("coverage"),
        verdict=_verdict(content.get("verdict")),
        pushed=content.get("pushed"),
        served=tuple((bool(one["passed"]), one["sentence"]) for one in serving.get("checks", ())),
    )


def _finite(metrics: Metrics) -> Metrics:
    return {
        model: {
            task: {
                name: float(value)
                for name, value in values.items()
                if value is not None and math.isfinite(value)
            }
            for task, values in tasks.items()
        }
        for model, tasks in metrics.items()
    }


def _step(content: Mapping[str, Any]) -> Step:
    return Step(
        content["component"],
        content["state"],
        content.get("seconds", 0.0),
        content.get("cpu_seconds", 0.0),
        content.get("peak_mib", 0.0),
        content.get("error"),
        content.get("phases") or {},
    )


def _labels(content: Mapping[str, Any] | None) -> Labels | None:
    if content is None:
        return None
    return Labels(
        table=content["table"],
        version=content["version"],
        teacher=content["teacher"],
        labelled_by=content.get("labelled_by"),
        quality=content.get("quality") or {},
    )


def _verdict(content: Mapping[str, Any] | None) -> Verdict | None:
    if content is None:
        return None
    checks = [_check(one) for one in content.get("checks") or ()]
    override = content.get("overridden")
    return Verdict(
        candidate=content.get("candidate", ""),
        blessed=bool(content.get("blessed")),
        against=_others(content),
        reason=content.get("baseline_reason") or content.get("reason") or "",
        checks=tuple(sorted(checks, key=lambda check: (check.passed, check.margin))),
        not_judged=tuple(_words(one) for one in content.get("not_judged") or ()),
        overridden=None
        if not override
        else ", ".join(f"{name}: {value}" for name, value in override.items()),
    )


def _others(content: Mapping[str, Any]) -> tuple[str, ...]:
    # Older versions have one baseline, which a check calls `compared_with`.
    named = (one.get("other", one.get("compared_with")) for one in content.get("checks") or ())
    return tuple(dict.fromkeys(name for name in named if name))


def _words(content: Any) -> str:
    return str(content.get("sentence", content)) if isinstance(content, Mapping) else str(content)


def _check(content: Mapping[str, Any]) -> Check:
    return Check(
        task=content["task"],
        metric=content["metric"],
        slice=content.get("slice") or "",
        rule=content.get("rule", ""),
        passed=bool(content["passed"]),
        sentence=content["sentence"],
        margin=_margin(content),
    )


def _margin(content: Mapping[str, Any]) -> float:
    """How far a check holds; -inf where there is no number.

    For a comparison, the distance of its bound from the allowed loss, in units of the smallest loss
    that would have been found. For a limit, the distance of the value from it, as a share of it.
    """
    allowed, bound = content.get("allowed"), content.get("bound")
    detectable = content.get("detectable")
    if detectable:
        return -math.inf if bound is None else (bound + (allowed or 0.0)) / detectable
    value = content.get("value", content.get("candidate"))
    limit = bound if allowed is None else allowed
    if value is None or limit is None or content.get("rule") not in ("min", "max"):
        return 0.0 if content["passed"] else -math.inf
    distance = value - limit if content["rule"] == "min" else limit - value
    return distance / max(abs(limit), 1e-12)
