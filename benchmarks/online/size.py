"""How large the teacher should be: as wide as the student, twice, four times; and of what kind.

.venv/bin/python -m benchmarks.online.size
"""

from __future__ import annotations

from collections.abc import Mapping

from benchmarks.online.experiment import Experiment, Panel, run
from benchmarks.online.plan import NEWEST, Arm, Teacher, all_tasks
from tfx_distill.schema.config import ModelConfig, RunConfig

LEARNING_RATES = {1: 0.008, 2: 0.005, 4: 0.002}
"""By width, found as those of `plan.Setting` were: wider models want smaller steps."""
TEACHERS = {
    **{
        f"{width}x": Teacher(ModelConfig(width=width), policies=(NEWEST,), learning_rate=rate)
        for width, rate in LEARNING_RATES.items()
    },
    "4x, experts": Teacher(),
}


def _lines(config: RunConfig) -> Mapping[str, Arm | Teacher]:
    out: dict[str, Arm | Teacher] = {"twin": Arm()}
    for title, teacher in TEACHERS.items():
        out[f"teacher {title}"] = teacher
        out[f"student of {title}"] = Arm(all_tasks(config, "auxiliary"), teacher=teacher)
    return out


EXPERIMENT = Experiment(
    name="size",
    lines=_lines,
    panels=(
        Panel("students", tuple((f"student of {title}", "twin") for title in TEACHERS)),
        Panel("their teachers", tuple((f"teacher {title}", "twin") for title in TEACHERS)),
    ),
)

if __name__ == "__main__":
    run(EXPERIMENT)
