"""Faults of TFX's own Kubeflow support that this project works around: is it still needed?

When one of these fails, look at docs/adr/0014-kubeflow.md again.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import pytest

# Without it there is nothing to work around: TFX's module does not import either.
pytest.importorskip("kfp", reason="the extra `kubeflow` is not installed")


def executor_input(folder: Path, kind: dict[str, Any]) -> str:
    """What a launcher hands to a Pusher."""
    (folder / "model").mkdir()
    artifact = {"name": "model", "uri": str(folder / "model"), "type": kind, "metadata": {}}
    made = {"uri": str(folder / "pushed"), "type": {"schemaTitle": "tfx.PushedModel"}}
    return json.dumps(
        {
            "inputs": {"artifacts": {"model": {"artifacts": [artifact]}}},
            "outputs": {
                "artifacts": {"pushed_model": {"artifacts": [made]}},
                "outputFile": str(folder / "output.json"),
            },
        }
    )


def run_stock(text: str) -> None:
    from tfx.orchestration.kubeflow.v2.container import kubeflow_v2_run_executor as stock

    arguments = argparse.Namespace(
        executor_class_path="tfx.components.pusher.executor.Executor",
        json_serialized_invocation_args=text,
        json_serialized_inputs_spec_args="{}",
    )
    stock._run_executor(arguments, [])


def test_the_stock_step_cannot_read_untyped_inputs(tmp_path: Path) -> None:
    """As the launcher of open-source Kubeflow Pipelines hands them over."""
    with pytest.raises((AttributeError, UnboundLocalError)):
        run_stock(executor_input(tmp_path, {}))


def test_the_stock_step_reads_the_types_of_vertex(tmp_path: Path) -> None:
    # It has come to its own work, and asks where to push.
    with pytest.raises(KeyError, match="push_destination"):
        run_stock(executor_input(tmp_path, {"schemaTitle": "tfx.Model"}))
