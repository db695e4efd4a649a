"""All experiments in one process: what they share is made, and traced, once.

.venv/bin/python -m benchmarks.online [--seeds 5] [--spans 24]
"""

from __future__ import annotations

import sys

from benchmarks.online import bias, freshness, heads, order, sharing, size, tasks
from benchmarks.online.experiment import run

EXPERIMENTS = {
    module.EXPERIMENT.name: module.EXPERIMENT
    for module in (heads, bias, freshness, size, tasks, order, sharing)
}

if __name__ == "__main__":
    if any(argument.startswith("--into") for argument in sys.argv):
        raise SystemExit("--into is for one experiment: all write to runs/online/NAME")
    for name, experiment in EXPERIMENTS.items():
        print(f"\n{name}\n", flush=True)
        run(experiment, sys.argv[1:])
