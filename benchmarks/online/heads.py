"""No distillation, direct, or auxiliary heads: on every task, and on the noisy one alone.

.venv/bin/python -m benchmarks.online.heads [--data movielens]
"""

from __future__ import annotations

from collections.abc import Mapping

from benchmarks.online.experiment import Experiment, Panel, run
from benchmarks.online.plan import Arm, Teacher, all_tasks
from tfx_distill.schema.config import RunConfig


def _lines(config: RunConfig) -> Mapping[str, Arm | Teacher]:
    out: dict[str, Arm | Teacher] = {
        "twin": Arm(),
        "direct": Arm(all_tasks(config, "direct")),
        "auxiliary": Arm(all_tasks(config, "auxiliary")),
        "teacher": Teacher(),
    }
    if any(task.name == "ltv" for task in config.tasks):
        out["direct, ltv only"] = Arm((("ltv", "direct"),))
        out["auxiliary, ltv only"] = Arm((("ltv", "auxiliary"),))
    return out


EXPERIMENT = Experiment(
    name="heads",
    lines=_lines,
    panels=(
        Panel(
            "every task distilled",
            (
                ("direct", "twin"),
                ("auxiliary", "twin"),
                ("teacher", "twin"),
                ("auxiliary", "direct"),
            ),
        ),
        Panel(
            "ltv alone distilled",
            (
                ("direct, ltv only", "twin"),
                ("auxiliary, ltv only", "twin"),
                ("auxiliary, ltv only", "direct, ltv only"),
            ),
            rows=(("ltv", "mse"), ("ltv", "true rank"), ("click", "true log_loss")),
        ),
    ),
)

if __name__ == "__main__":
    run(EXPERIMENT)
