"""All that the pages of a site are made from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from tfx_distill.pipeline.report.gather_metadata import Metadata
from tfx_distill.pipeline.report.gather_runs import Runs


@dataclass(frozen=True)
class Gathered:
    """What was gathered of a config.

    Attributes:
      runs: Its runs.
      metadata: Its ML Metadata.
      tasks: Names of its tasks.
      slices: Columns that metrics are split by.
      absent: By file, why a view of TFMA or TFDV was not written.
    """

    runs: Runs
    metadata: Metadata
    tasks: tuple[str, ...] = ()
    slices: tuple[str, ...] = ()
    absent: Mapping[str, str] = field(default_factory=dict)
