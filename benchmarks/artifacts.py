"""Running one component alone, as the orchestrator does: artifacts by their folders."""

from __future__ import annotations

from pathlib import Path
from typing import Any

BEAM_ARGUMENTS = ("--runner=FnApiRunner", "--sdk_container_image=unused")


def artifact(kind: type[Any], folder: Path | str) -> Any:
    """An artifact of this type in this folder."""
    made = kind()
    made.uri = str(folder)
    return made


def execute(
    executor: type[Any],
    scratch: Path,
    inputs: dict[str, Any],
    outputs: dict[str, Any],
    properties: dict[str, Any],
) -> None:
    """Runs a Beam executor on one artifact for each input and output."""
    context = executor.Context(
        beam_pipeline_args=list(BEAM_ARGUMENTS), tmp_dir=str(scratch / "tmp"), unique_id="1"
    )
    executor(context).Do(
        {name: [value] for name, value in inputs.items()},
        {name: [value] for name, value in outputs.items()},
        properties,
    )
