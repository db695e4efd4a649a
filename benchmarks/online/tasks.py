"""Which tasks to distil: clicks, satisfaction, both, all.

.venv/bin/python -m benchmarks.online.tasks
"""

from __future__ import annotations

from collections.abc import Mapping

from benchmarks.online.arms import Arm, all_tasks
from benchmarks.online.experiment import Experiment, Panel, run
from benchmarks.online.stream import Stream
from benchmarks.online.teaching import Teacher

CHOICES: dict[str, tuple[tuple[str, str], ...]] = {
    "click": (("click", "auxiliary"),),
    "satisfaction": (("satisfaction", "auxiliary"),),
    "both": (("click", "auxiliary"), ("satisfaction", "auxiliary")),
}


def _lines(stream: Stream) -> Mapping[str, Arm | Teacher]:
    out: dict[str, Arm | Teacher] = {"twin": Arm()}
    out |= {title: Arm(modes) for title, modes in CHOICES.items()}
    return out | {"all": Arm(all_tasks(stream, "auxiliary"))}


EXPERIMENT = Experiment(
    name="tasks",
    lines=_lines,
    panels=(Panel("distilled", tuple((title, "twin") for title in (*CHOICES, "all"))),),
)

if __name__ == "__main__":
    run(EXPERIMENT)
