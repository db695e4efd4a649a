"""Which tasks to distil: clicks, satisfaction, both, all.

.venv/bin/python -m benchmarks.online.tasks
"""

from __future__ import annotations

from collections.abc import Mapping

from benchmarks.online.experiment import Experiment, Panel, run
from benchmarks.online.plan import Arm, Teacher, all_tasks
from tfx_distill.schema.config import RunConfig

CHOICES: dict[str, tuple[tuple[str, str], ...]] = {
    "click": (("click", "auxiliary"),),
    "satisfaction": (("satisfaction", "auxiliary"),),
    "both": (("click", "auxiliary"), ("satisfaction", "auxiliary")),
}


def _lines(config: RunConfig) -> Mapping[str, Arm | Teacher]:
    out: dict[str, Arm | Teacher] = {"twin": Arm()}
    out |= {title: Arm(modes) for title, modes in CHOICES.items()}
    return out | {"all": Arm(all_tasks(config, "auxiliary"))}


EXPERIMENT = Experiment(
    name="tasks",
    lines=_lines,
    panels=(Panel("distilled", tuple((title, "twin") for title in (*CHOICES, "all"))),),
)

if __name__ == "__main__":
    run(EXPERIMENT)
