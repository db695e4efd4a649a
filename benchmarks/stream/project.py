"""A folder with a simulated stream and a config for it, as a user would have them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from tfx_distill.datasets import simulator

CONFIG = Path(__file__).parents[2] / "configs/stream.yaml"


def write(folder: Path, *, spans: int, examples: int, seed: int = 0, **sections: Any) -> Path:
    """Simulates the logs and writes the shipped stream config with paths into the folder.

    Args:
      folder: Gets `data/`, `runs/`, `serving/` and `stream.yaml`.
      spans: How many.
      examples: A span.
      seed: Of the logs and of the run.
      sections: Top-level sections of the config that replace the shipped ones.

    Returns:
      The config file.
    """
    simulator.write(
        folder / "data",
        simulator.SimulatorConfig(seed=seed, spans=spans, examples_per_span=examples),
    )
    content = yaml.safe_load(CONFIG.read_text()) | {"seed": seed} | sections
    content["data"]["spans"] = str(folder / "data/video/span-{SPAN}/{split}-*.parquet")
    content["root"] = str(folder / "runs")
    content["push"] = {"directory": str(folder / "serving")}
    file = folder / "stream.yaml"
    file.write_text(yaml.safe_dump(content, sort_keys=False))
    return file
