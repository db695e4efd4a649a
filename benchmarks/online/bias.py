"""A teacher whose click logits are known to be wrong: what reaches the serving head.

.venv/bin/python -m benchmarks.online.bias
"""

from __future__ import annotations

from collections.abc import Mapping

from benchmarks.online.experiment import Experiment, Panel, run
from benchmarks.online.plan import SLICE, Arm, Bias, Teacher, all_tasks
from tfx_distill.schema.config import RunConfig

EVERYWHERE = Bias("click", 0.5)
ONE_DEVICE = Bias("click", 1.0, SLICE)
_METRICS = ("calibration", "true calibration", "log_loss", "true log_loss", "true auc")


def _lines(config: RunConfig) -> Mapping[str, Arm | Teacher]:
    out: dict[str, Arm | Teacher] = {"twin": Arm()}
    for mode in ("direct", "auxiliary"):
        modes = all_tasks(config, mode)
        out[mode] = Arm(modes)
        out[f"{mode}, +0.5"] = Arm(modes, bias=EVERYWHERE)
        out[f"{mode}, +1 on {SLICE[1]}"] = Arm(modes, bias=ONE_DEVICE)
    return out


def _panel(title: str, biased: str, task: str) -> Panel:
    pairs = [(f"{mode}, {biased}", mode) for mode in ("direct", "auxiliary")]
    pairs += [(f"{mode}, {biased}", "twin") for mode in ("direct", "auxiliary")]
    return Panel(title, tuple(pairs), tuple((task, metric) for metric in _METRICS))


EXPERIMENT = Experiment(
    name="bias",
    lines=_lines,
    panels=(
        _panel("+0.5 for all", "+0.5", "click"),
        _panel(f"+1 on {SLICE[1]}, all examples", f"+1 on {SLICE[1]}", "click"),
        _panel(f"+1 on {SLICE[1]}, there", f"+1 on {SLICE[1]}", f"click, {SLICE[1]}"),
    ),
)

if __name__ == "__main__":
    run(EXPERIMENT)
