"""How much of each component's time is start-up: the demo against the same run on little data.

    .venv/bin/python -m benchmarks.startup --demo runs/video --into runs/startup

The little run has the demo's config and models but a fiftieth of its examples: what it still costs
is imports, graphs, tracing, Beam and ML Metadata. Both must be taken on an idle machine.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from tfx_distill.pipeline import run_log

CONFIG = Path(__file__).parents[1] / "configs/video.yaml"


def small_run(folder: Path, examples: int) -> None:
    """The demo's pipeline on a stream of `examples` a span."""
    from tfx_distill.datasets import simulator
    from tfx_distill.pipeline import session
    from tfx_distill.schema import config as run_config

    simulator.write(folder / "data", simulator.SimulatorConfig(examples_per_span=examples))
    base = run_config.load(CONFIG)
    # So few examples teach nothing: gates that any finite model passes, so that every step runs.
    loose = [{"task": t.name, "metric": "calibration", "min": 0.0, "max": 1e9} for t in base.tasks]
    config = run_config.load(
        CONFIG,
        {
            "root": str(folder / "runs"),
            "data": base.data.model_dump()
            | {"spans": str(folder / "data/video/span-{SPAN}/{split}-*.parquet")},
            "gate": base.gate.model_dump() | {"teacher": loose, "students": loose},
            "push": {"directory": str(folder / "serving")},
        },
    )
    _, error = session.run(config)
    if error is not None:
        raise error


def table(demo: Path, small: Path) -> str:
    """Seconds of each component in both runs, and the share of start-up, as Markdown."""
    whole, little = (
        {step["component"]: step for step in json.loads(file.read_text())["steps"]}
        for file in (demo, small)
    )
    reused = [name for run in (whole, little) for name, s in run.items() if s["state"] != "ran"]
    if reused:
        raise SystemExit(f"Not measured: {', '.join(reused)}. Remove both run folders, run anew.")
    lines = [
        "| component | seconds | CPU s | peak MiB | seconds on 1/50 of the data | start-up |",
        "|---|---|---|---|---|---|",
    ]
    for name, step in whole.items():
        if step["seconds"] >= 0.5:
            fixed = little[name]["seconds"]
            lines.append(
                f"| {name} | {step['seconds']:.1f} | {step['cpu_seconds']:.1f} | "
                f"{step['peak_mib']:,.0f} | {fixed:.1f} | {min(fixed / step['seconds'], 1):.0%} |"
            )
    return "\n".join(lines)


def main() -> None:
    """Runs the little pipeline and compares it with the demo's last run."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--demo", type=Path, default=Path("runs/video"))
    parser.add_argument("--into", type=Path, default=Path("runs/startup"))
    asked = parser.parse_args()
    run_log.divert(asked.into)
    small_run(asked.into, 1_400)
    print(table(asked.demo / "summary.json", asked.into / "runs/video/summary.json"))


if __name__ == "__main__":
    main()
