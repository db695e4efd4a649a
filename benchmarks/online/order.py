"""Who may label what: teachers that have, or have not, trained on the examples that they label.

.venv/bin/python -m benchmarks.online.order
"""

from __future__ import annotations

from collections.abc import Mapping

from benchmarks.online.arms import Arm, all_tasks
from benchmarks.online.experiment import Experiment, Panel, run
from benchmarks.online.stream import Stream
from benchmarks.online.teaching import AFTER, CROSS_FIT, IN_SAMPLE, NEWEST, Teacher

_MODES = ("auxiliary", "direct")


def _lines(stream: Stream) -> Mapping[str, Arm | Teacher]:
    out: dict[str, Arm | Teacher] = {"twin": Arm(), "static twin": Arm(static=True)}
    for mode in _MODES:
        modes = all_tasks(stream, mode)
        out[f"{mode}, score then train"] = Arm(modes, policy=NEWEST)
        out[f"{mode}, train then score"] = Arm(modes, policy=AFTER)
        out[f"{mode}, in sample"] = Arm(modes, policy=IN_SAMPLE, static=True)
        out[f"{mode}, cross-fit"] = Arm(modes, policy=CROSS_FIT, static=True)
    return out


EXPERIMENT = Experiment(
    name="order",
    lines=_lines,
    panels=(
        Panel(
            "stream",
            (
                *((f"{mode}, train then score", f"{mode}, score then train") for mode in _MODES),
                *((f"{mode}, score then train", "twin") for mode in _MODES),
                *((f"{mode}, train then score", "twin") for mode in _MODES),
            ),
        ),
        Panel(
            "static data",
            (
                *((f"{mode}, cross-fit", f"{mode}, in sample") for mode in _MODES),
                *((f"{mode}, in sample", "static twin") for mode in _MODES),
                *((f"{mode}, cross-fit", "static twin") for mode in _MODES),
            ),
        ),
    ),
)

if __name__ == "__main__":
    run(EXPERIMENT)
