"""Seconds of a batch run by component and size, and against a script without a pipeline.

    .venv/bin/python -m benchmarks.pipeline --json runs/bench/pipeline.json

`distill run` on 10,000, 200,000 and 1,000,000 examples of the video stream: one teacher, two
students, their twins, two epochs each without early stopping, in a new process and a new folder.
For each component: what it takes however little data there is, and what a million examples more
cost, by a line through the smallest and the largest run.

`ratio_bare_to_pipeline` is a bare script's seconds for the same models over those of the largest
run, imports included on both sides: 1 is a pipeline that costs nothing, 0.5 one that takes twice as
long.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import yaml

from benchmarks import result
from benchmarks.prepared import CONFIG

EVAL_SHARE = 0.2


def project(folder: Path, examples: int) -> Path:
    """Logs of about so many examples, an eval split among them, and a config for them."""
    from tfx_distill.datasets import simulator

    shutil.rmtree(folder, ignore_errors=True)
    simulator.write(folder / "data", simulator.SimulatorConfig(spans=1, examples_per_span=examples))
    config = yaml.safe_load(CONFIG.read_text())
    config["data"]["spans"] = str(folder / "data/video/span-{SPAN}/{split}-*.parquet")
    fixed = {"epochs": 2, "early_stopping_patience": None}
    for model in (config["teacher"], *config["students"]):
        model["training"] = fixed
    # Whatever so few examples teach: every component is to run.
    loose = [
        {"task": task["name"], "metric": "calibration", "min": 0.0, "max": 1e9}
        for task in config["tasks"]
    ]
    config["gate"] |= {"students": loose, "teacher": loose}
    config |= {"root": str(folder / "runs"), "push": {"directory": str(folder / "serving")}}
    file = folder / "video.yaml"
    file.write_text(yaml.safe_dump(config, sort_keys=False))
    return file


def timed(*command: str) -> tuple[float, str]:
    """Wall seconds of a command, and what it printed."""
    started = time.perf_counter()
    done = subprocess.run(
        command,
        check=True,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3"},
    )
    return time.perf_counter() - started, done.stdout


def pipeline(config: Path) -> dict[str, Any]:
    """One run: its seconds, and those of its components."""
    for folder in ("runs", "serving"):
        shutil.rmtree(config.parent / folder, ignore_errors=True)
    distill = Path(sys.executable).with_name("distill")
    seconds, _ = timed(str(distill), "run", str(config))
    summary = json.loads((config.parent / "runs/video/summary.json").read_text())
    steps = {step["component"]: step for step in summary["steps"]}
    others = {name: s["state"] for name, s in steps.items() if s["state"] != "ran"}
    if others:
        raise RuntimeError(f"not all components ran: {others}")
    return {
        "seconds": seconds,
        "examples": sum(summary["examples"].values()),
        "components": {name: step["seconds"] for name, step in steps.items()},
        "peak_mib": max(step["peak_mib"] for step in steps.values()),
    }


def lines(runs: list[dict[str, Any]]) -> dict[str, dict[str, float]]:
    """By component, seconds without data and seconds for a million examples."""
    least, most = runs[0], runs[-1]
    found = {}
    for name in most["components"]:
        low, high = least["components"][name], most["components"][name]
        slope = max(0.0, (high - low) / (most["examples"] - least["examples"]))
        fixed = max(0.0, low - slope * least["examples"])
        found[name] = {"fixed": fixed, "a_million": slope * 1_000_000}
    return found


def main() -> None:
    """Measures and prints."""
    asked = result.parser(__doc__).parse_args()
    sizes = (10_000, 50_000) if asked.small else (10_000, 200_000, 1_000_000)
    place = (asked.into / "pipeline").absolute()
    runs = []
    bare_seconds, bare = 0.0, ""
    for examples in sizes:
        config = project(place / str(examples), examples)
        runs.append(pipeline(config))
        bare_seconds, bare = timed(sys.executable, "-m", "benchmarks.bare", str(config))
    parts = lines(runs)
    rows = [
        [
            name,
            *(f"{run['components'][name]:.1f}" for run in runs),
            f"{part['fixed']:.1f}",
            f"{part['a_million']:.1f}",
        ]
        for name, part in parts.items()
        if max(run["components"][name] for run in runs) >= 0.5
    ]
    rows.append(
        [
            "start, summary; less what ran side by side",
            *(f"{run['seconds'] - sum(run['components'].values()):.1f}" for run in runs),
            "",
            "",
        ]
    )
    rows.append(["**the whole run**", *(f"**{run['seconds']:.1f}**" for run in runs), "", ""])
    rows.append(["a bare script", *([""] * (len(runs) - 1)), f"{bare_seconds:.1f}", "", ""])
    rows.append(["peak MiB", *(f"{run['peak_mib']:,.0f}" for run in runs), "", ""])
    table = result.markdown(
        ["seconds", *(f"{run['examples']:,}" for run in runs), "fixed", "a million more"], rows
    )
    found = {
        "ratio_bare_to_pipeline": bare_seconds / runs[-1]["seconds"],
        "runs": runs,
        "components": parts,
        "bare_seconds": bare_seconds,
        "bare": json.loads(bare),
    }
    result.show(found, table, asked.json)


if __name__ == "__main__":
    main()
