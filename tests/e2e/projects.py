"""A folder with data and a config, as a user of the pipeline has one."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tfx_distill.schema import config as run_config
from tfx_distill.schema.config import RunConfig

REPOSITORY = Path(__file__).resolve().parents[2]


@dataclass
class Project:
    """A folder with data and a config, as a user has them."""

    folder: Path
    file: Path

    def config(self) -> RunConfig:
        return run_config.load(self.file)

    def change(self, **sections: Any) -> None:
        """Replaces top-level sections of the config file."""
        content = yaml.safe_load(self.file.read_text())
        self.file.write_text(yaml.safe_dump(content | sections))
