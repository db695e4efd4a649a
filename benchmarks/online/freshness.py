"""How often the teacher must be refreshed: every span, every few spans, never.

.venv/bin/python -m benchmarks.online.freshness
"""

from __future__ import annotations

from collections.abc import Mapping

from benchmarks.online.experiment import Experiment, Panel, run
from benchmarks.online.plan import EVERY, FROZEN, NEWEST, Arm, Teacher, all_tasks
from tfx_distill.schema.config import RunConfig

POLICIES = {"every span": NEWEST, **{policy: policy for policy in EVERY}, "frozen": FROZEN}


def _lines(config: RunConfig) -> Mapping[str, Arm | Teacher]:
    modes = all_tasks(config, "auxiliary")
    out: dict[str, Arm | Teacher] = {"twin": Arm()}
    return out | {title: Arm(modes, policy=policy) for title, policy in POLICIES.items()}


EXPERIMENT = Experiment(
    name="freshness",
    lines=_lines,
    panels=(
        Panel("teacher refreshed", tuple((title, "twin") for title in POLICIES)),
        Panel(
            "against a teacher refreshed every span",
            tuple((title, "every span") for title in POLICIES if title != "every span"),
        ),
    ),
    by_span=(("click", "true auc"), ("click", "true log_loss"), ("ltv", "true rank")),
)

if __name__ == "__main__":
    run(EXPERIMENT)
