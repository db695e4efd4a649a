"""What runs cost, by component, and what distillation costs for what it brings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tfx_distill.pipeline.phases import PHASES
from tfx_distill.pipeline.report.gather_runs import Run, Step

WORK = "work"
"""What a component does when it is in none of the phases that are told apart."""
PARTS = ("data", "teacher", "students", "twins", "gates")
"""What components are for, in the order of the pipeline."""

_BOTH, _TRAIN, _EVAL = ("train", "eval"), ("train",), ("eval",)
_READS: dict[str, tuple[str, tuple[str, ...]]] = {
    "start": ("start", ()),
    "SpanExampleGen": ("data", _BOTH),
    "StatisticsGen": ("data", _BOTH),
    "Transform": ("data", _TRAIN),
    "FeatureMaterializer": ("data", _BOTH),
    "TeacherTrainer": ("teacher", _TRAIN),
    "TeacherEvaluator": ("teacher", _EVAL),
    "TeacherGate": ("teacher", ()),
    "TeacherResolver": ("teacher", ()),
    "TeacherLabeler": ("teacher", _BOTH),
    "StudentTrainer": ("students", _TRAIN),
    "TwinTrainer": ("twins", _TRAIN),
    "StudentEvaluator": ("gates", _EVAL),
    "StudentGate": ("gates", ()),
    "ServingValidator": ("gates", ()),
    "BaselineResolver": ("gates", ()),
    "Pusher": ("gates", ()),
}
"""By component without the student's name: what it is for, and the splits that it reads once."""


@dataclass(frozen=True)
class Cost:
    """What one component cost in one run, or what came before the first one.

    Attributes:
      component: Its id, or `start`.
      part: What it is for.
      state: Whether it ran.
      seconds: Wall time.
      cpu_seconds: CPU time of its process and of the processes that it ended.
      peak_mib: Largest resident memory, in MiB.
      phases: Seconds of the wall time by phase, work the last; empty if they were not measured.
      rows: Examples that it reads, each once; 0 if it reads none, or did not run.
    """

    component: str
    part: str
    state: str
    seconds: float
    cpu_seconds: float
    peak_mib: float
    phases: Mapping[str, float]
    rows: int

    @property
    def waiting(self) -> float | None:
        """Least share of the wall time in which no core worked for it; None if it took no time.

        Least, because two cores that work at the same time hide as much waiting elsewhere.
        """
        return max(0.0, 1 - self.cpu_seconds / self.seconds) if self.seconds > 0 else None

    @property
    def rate(self) -> float | None:
        """Examples a second; None if it reads none."""
        return self.rows / self.seconds if self.rows and self.seconds > 0 else None

    @property
    def working_rate(self) -> float | None:
        """Examples a second of work; None if it reads none, or its phases were not measured."""
        work = self.phases.get(WORK, 0.0)
        return self.rows / work if self.rows and work > 0 else None


@dataclass(frozen=True)
class Gain:
    """What distillation cost and brought for one student and task, over some runs.

    Attributes:
      student: The student.
      task: A binary task.
      teacher_cpu: CPU seconds of teaching, a student's share.
      student_cpu: CPU seconds of the student's training.
      twin_cpu: Those of its twin's.
      gain: Mean of (AUC of the student - AUC of the twin) over the runs.
      price: Extra CPU seconds of a run per 0.001 of AUC; None where nothing was gained.
    """

    student: str
    task: str
    teacher_cpu: float
    student_cpu: float
    twin_cpu: float
    gain: float
    price: float | None

    @property
    def extra_cpu(self) -> float:
        """What a run costs more than it would without distillation, in CPU seconds."""
        return self.teacher_cpu + self.student_cpu - self.twin_cpu


def costs(run: Run) -> tuple[Cost, ...]:
    """Each component of a run, in the order in which they ran, after the start of the command."""
    start = () if run.start is None else (run.start,)
    return tuple(_cost(step, run) for step in (*start, *run.steps))


def part_of(component: str) -> str:
    """What a component is for."""
    name = component.partition(".")[0]
    if name == "Window":
        # Called after the trainer that it chooses chunks for.
        return part_of(component.partition(".")[2])
    return _READS.get(name, ("data", ()))[0]


def gains(runs: Sequence[Run]) -> tuple[Gain, ...]:
    """What distillation cost and brought, by student and binary task, as means over runs.

    The teacher is shared by all students. Runs that did not evaluate student and twin do not count;
    what came from the cache cost nothing.
    """
    out = []
    for student in dict.fromkeys(s.name for run in runs for s in run.students):
        tasks = dict.fromkeys(t for r in runs for t in _leads(r, student))
        for task in tasks:
            used = [run for run in runs if task in _leads(run, student)]
            teacher = _mean([_cpu(r, "teacher") / max(len(r.students), 1) for r in used])
            own, twin = (
                _mean([_cpu_of(r, f"{kind}.{student}") for r in used])
                for kind in ("StudentTrainer", "TwinTrainer")
            )
            gain = _mean([_leads(run, student)[task] for run in used])
            extra = teacher + own - twin
            price = extra / (gain / 0.001) if gain > 0 else None
            out.append(Gain(student, task, teacher, own, twin, gain, price))
    return tuple(out)


def _cost(step: Step, run: Run) -> Cost:
    splits = _READS.get(step.component.partition(".")[0], ("", ()))[1]
    rows = sum(run.examples.get(split, 0) for split in splits)
    return Cost(
        step.component,
        part_of(step.component),
        step.state,
        step.seconds,
        step.cpu_seconds,
        step.peak_mib,
        _phases(step),
        rows if step.state == "ran" else 0,
    )


def _phases(step: Step) -> dict[str, float]:
    if not step.phases:
        return {}
    spent = {phase: step.phases.get(phase, 0.0) for phase in PHASES}
    return spent | {WORK: max(0.0, step.seconds - sum(spent.values()))}


def _leads(run: Run, student: str) -> dict[str, float]:
    """By task, AUC of the student minus that of its twin."""
    found = run.student(student)
    if found is None:
        return {}
    own, twin = (found.metrics.get(model, {}) for model in ("candidate", "twin"))
    return {
        task: values["auc"] - twin[task]["auc"]
        for task, values in own.items()
        if "auc" in values and "auc" in twin.get(task, {})
    }


def _cpu(run: Run, part: str) -> float:
    return sum(step.cpu_seconds for step in run.steps if part_of(step.component) == part)


def _cpu_of(run: Run, component: str) -> float:
    return sum(step.cpu_seconds for step in run.steps if step.component == component)


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else 0.0
