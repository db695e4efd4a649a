"""Who may label what: teachers that have, or have not, trained on the examples that they label.

.venv/bin/python -m benchmarks.online.order
"""

from __future__ import annotations

from collections.abc import Mapping

from benchmarks.online.experiment import Experiment, Panel, run
from benchmarks.online.plan import AFTER, CROSS_FIT, IN_SAMPLE, NEWEST, Arm, Teacher, all_tasks
from tfx_distill.schema.config import RunConfig

_MODES = ("auxiliary", "direct")


def _lines(config: RunConfig) -> Mapping[str, Arm | Teacher]:
    out: dict[str, Arm | Teacher] = {"twin": Arm(), "static twin": Arm(static=True)}
    for mode in _MODES:
        modes = all_tasks(config, mode)
        out[f"{mode}, score first"] = Arm(modes, policy=NEWEST)
        out[f"{mode}, train first"] = Arm(modes, policy=AFTER)
        out[f"{mode}, in sample"] = Arm(modes, policy=IN_SAMPLE, static=True)
        out[f"{mode}, cross-fit"] = Arm(modes, policy=CROSS_FIT, static=True)
    return out


def _panels(title: str, first: str, second: str, twin: str) -> tuple[Panel, Panel]:
    return (
        Panel(
            f"{title}: what differs",
            tuple((f"{mode}, {second}", f"{mode}, {first}") for mode in _MODES),
        ),
        Panel(
            f"{title}: against the twin",
            tuple((f"{mode}, {way}", twin) for mode in _MODES for way in (first, second)),
        ),
    )


EXPERIMENT = Experiment(
    name="order",
    lines=_lines,
    panels=(
        *_panels("stream", "score first", "train first", "twin"),
        *_panels("static data", "in sample", "cross-fit", "static twin"),
    ),
)

if __name__ == "__main__":
    run(EXPERIMENT)
