"""What distillation is worth on the simulated video stream, through the whole pipeline.

For each seed: a stream of its own, one teacher, and at two sizes a student with auxiliary heads,
a student distilled directly, and the undistilled twin. Differences are paired within a seed;
intervals are Student's t over seeds.

    .venv/bin/python -m benchmarks.quality.distillation --seeds 5 --into runs/quality

Finished seeds are kept: a second call goes on where the first one stopped. After a change of code,
config or `--examples`, use another folder.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.statistics import difference, dots, interval
from tfx_distill.pipeline import run_log

SIZES = {"full": 1.0, "half": 0.5}
MODES = ("auxiliary", "direct")
METRICS = {
    "click": ("auc", "log_loss", "gauc"),
    "satisfaction": ("auc", "log_loss"),
    "watch_time": ("mse",),
    "ltv": ("mse",),
}
CONFIG = Path(__file__).parents[2] / "configs/video.yaml"


def one_seed(seed: int, folder: Path, examples: int) -> dict[str, Any]:
    """Metrics of every model of one seed: by size and model, task and metric."""
    from tfx_distill.datasets import simulator
    from tfx_distill.pipeline import session
    from tfx_distill.schema import config as run_config

    simulator.write(
        folder / "data",
        simulator.SimulatorConfig(seed=seed, examples_per_span=examples, eval_fraction=0.3),
    )
    base = run_config.load(CONFIG)
    distilled = {task: {mode: {"mode": mode} for mode in MODES} for task in METRICS}
    config = run_config.load(
        CONFIG,
        {
            "seed": seed,
            "root": str(folder / "runs"),
            "data": base.data.model_dump()
            | {"spans": str(folder / "data/video/span-{SPAN}/{split}-*.parquet")},
            "students": [
                {
                    "name": f"{size}_{mode}",
                    "model": {"width": width},
                    "distill": {task: rules[mode] for task, rules in distilled.items()},
                }
                for size, width in SIZES.items()
                for mode in MODES
            ],
            "push": {"directory": str(folder / "serving")},
        },
    )
    summary, error = session.run(config)
    if error is not None:
        raise error
    found: dict[str, Any] = {}
    for student in summary.students:
        size, mode = student.name.split("_")
        models = found.setdefault(size, {})
        models[mode] = student.metrics["candidate"]
        models["twin"] = student.metrics["twin"]
        models["teacher"] = student.metrics["teacher"]
    return found


def compare(seeds: list[dict[str, Any]]) -> dict[str, Any]:
    """Intervals of each model's metric, and of its difference to the twin."""
    out: dict[str, Any] = {}
    for size in SIZES:
        for task, metrics in METRICS.items():
            for metric in metrics:
                row = out.setdefault(size, {}).setdefault(f"{task} {metric}", {})
                twin = [seed[size]["twin"][task][metric] for seed in seeds]
                row["twin"] = interval(twin)
                for model in (*MODES, "teacher"):
                    values = [seed[size][model][task][metric] for seed in seeds]
                    row[model] = interval(values)
                    row[f"{model} - twin"] = interval(np.subtract(values, twin))
    return out


def table(result: dict[str, Any]) -> str:
    """The comparison as Markdown."""
    lines = [
        "| size | metric | twin | auxiliary - twin | direct - twin | teacher - twin |",
        "|---|---|---|---|---|---|",
    ]
    for size, rows in result.items():
        for name, row in rows.items():
            cells = [f"{row['twin']['mean']:.4f}"]
            for model in (*MODES, "teacher"):
                cells.append(difference(row[f"{model} - twin"]))
            lines.append(f"| {size} | {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def picture(result: dict[str, Any], file: Path) -> None:
    """Dots with whiskers: the difference to the twin, for each metric and size."""
    names = next(iter(result.values()))
    panels = {
        f"{name}, difference to the twin": {
            f"{size}, {model}": result[size][name][f"{model} - twin"]
            for size in SIZES
            for model in (*MODES, "teacher")
        }
        for name in names
    }
    dots(panels, file)


def main() -> None:
    """Runs the seeds that are missing, then compares."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--examples", type=int, default=70_000, help="a span; there are 4")
    parser.add_argument("--into", type=Path, default=Path("runs/quality"))
    asked = parser.parse_args()
    if asked.seeds < 2:
        parser.error("an interval needs at least 2 seeds")
    run_log.divert(asked.into)
    seeds = []
    for seed in range(asked.seeds):
        folder = asked.into / f"seed-{seed}"
        file = folder / "metrics.json"
        if not file.exists():
            found = one_seed(seed, folder, asked.examples)
            file.write_text(json.dumps(found, indent=1))
        seeds.append(json.loads(file.read_text()))
    result = compare(seeds)
    (asked.into / "result.json").write_text(json.dumps(result, indent=1))
    picture(result, asked.into / "result.png")
    print(table(result))


if __name__ == "__main__":
    main()
