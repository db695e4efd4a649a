"""One teacher of all tasks for three students, or a teacher of its own tasks for each.

.venv/bin/python -m benchmarks.online.sharing
"""

from __future__ import annotations

from collections.abc import Mapping

from benchmarks.online.arms import Arm
from benchmarks.online.experiment import Experiment, Panel, run
from benchmarks.online.seeds import Seed
from benchmarks.online.stream import Stream
from benchmarks.online.teaching import Teacher

STUDENTS: dict[str, tuple[str, ...]] = {
    "clicks": ("click", "watch_time"),
    "answers": ("satisfaction",),
    "value": ("click", "ltv"),
}
"""What each of three surfaces serves."""


def _arm(tasks: tuple[str, ...], teacher: Teacher) -> Arm:
    return Arm(tuple((task, "auxiliary") for task in tasks), tasks=tasks, teacher=teacher)


def _lines(stream: Stream) -> Mapping[str, Arm | Teacher]:
    del stream
    out: dict[str, Arm | Teacher] = {}
    for name, tasks in STUDENTS.items():
        out[f"{name}, twin"] = Arm(tasks=tasks)
        out[f"{name}, shared"] = _arm(tasks, Teacher())
        out[f"{name}, own"] = _arm(tasks, Teacher(tasks=tasks))
    return out


def _seconds(seed: Seed) -> dict[str, float]:
    """CPU time of everything that is trained and labelled, tracing and evaluation left out."""
    everyone = Teacher()
    own = {name: Teacher(tasks=tasks) for name, tasks in STUDENTS.items()}

    def teaching(teacher: Teacher) -> float:
        taught = seed.taught(teacher)
        return taught.train_seconds + taught.label_seconds

    def students(teachers: Mapping[str, Teacher]) -> float:
        return sum(
            seed.followed(_arm(tasks, teachers[name])).train_seconds
            for name, tasks in STUDENTS.items()
        )

    shared = teaching(everyone), students(dict.fromkeys(STUDENTS, everyone))
    each = sum(teaching(teacher) for teacher in own.values()), students(own)
    return {
        "one shared teacher: CPU s of teaching": shared[0],
        "one teacher each: CPU s of teaching": each[0],
        "one shared teacher: CPU s with students": sum(shared),
        "one teacher each: CPU s with students": sum(each),
        "each / shared, with students": sum(each) / sum(shared),
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
