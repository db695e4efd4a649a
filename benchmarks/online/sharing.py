"""One teacher of all tasks for three students, or a teacher of its own tasks for each.

.venv/bin/python -m benchmarks.online.sharing
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from benchmarks.online.experiment import Experiment, Panel, run
from benchmarks.online.plan import NEWEST, Arm, Teacher
from tfx_distill.schema.config import RunConfig

if TYPE_CHECKING:
    from benchmarks.online.seeds import Seed

STUDENTS: dict[str, tuple[str, ...]] = {
    "clicks": ("click", "watch_time"),
    "answers": ("satisfaction",),
    "value": ("click", "ltv"),
}
"""What each of three surfaces serves."""


def _arm(tasks: tuple[str, ...], teacher: Teacher) -> Arm:
    return Arm(tuple((task, "auxiliary") for task in tasks), tasks=tasks, teacher=teacher)


def _own(tasks: tuple[str, ...]) -> Teacher:
    return Teacher(tasks=tasks, policies=(NEWEST,))


def _lines(config: RunConfig) -> Mapping[str, Arm | Teacher]:
    del config
    out: dict[str, Arm | Teacher] = {}
    for name, tasks in STUDENTS.items():
        out[f"{name}, twin"] = Arm(tasks=tasks)
        out[f"{name}, shared"] = _arm(tasks, Teacher())
        out[f"{name}, own"] = _arm(tasks, _own(tasks))
    return out


def _seconds(seed: Seed) -> dict[str, float]:
    """CPU seconds a span of what is trained and labelled; tracing and evaluation left out."""
    everyone = Teacher()
    own = {name: _own(tasks) for name, tasks in STUDENTS.items()}
    spans = seed.stream.setting.spans - seed.stream.setting.bootstrap

    def teaching(teacher: Teacher) -> float:
        taught = seed.taught(teacher)
        return (taught.train_seconds + taught.label_seconds) / spans

    def students(teachers: Mapping[str, Teacher]) -> float:
        return sum(
            seed.followed(_arm(tasks, teachers[name])).train_seconds / spans
            for name, tasks in STUDENTS.items()
        )

    shared = teaching(everyone), students(dict.fromkeys(STUDENTS, everyone))
    each = sum(teaching(teacher) for teacher in own.values()), students(own)
    return {
        "teaching, one shared teacher": shared[0],
        "teaching, one teacher each": each[0],
        "with the students, one shared teacher": sum(shared),
        "with the students, one teacher each": sum(each),
        "each / shared, teaching": each[0] / shared[0],
        "each / shared, with the students": sum(each) / sum(shared),
    }


EXPERIMENT = Experiment(
    name="sharing",
    lines=_lines,
    panels=tuple(
        Panel(
            f"student '{name}'",
            (
                (f"{name}, shared", f"{name}, twin"),
                (f"{name}, own", f"{name}, twin"),
                (f"{name}, own", f"{name}, shared"),
            ),
        )
        for name in STUDENTS
    ),
    figures=_seconds,
)

if __name__ == "__main__":
    run(EXPERIMENT)
