"""What `distill kubeflow` refuses, and how soon."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner
from compiled import saved

from tfx_distill.kubeflow.cli import main

OFFLINE = "--host=http://localhost:1"
PROBE = """
import sys
from tfx_distill.kubeflow.cli import main
try:
    main(sys.argv[1:])
except SystemExit as end:
    print(end.code, "tfx" in sys.modules)
"""


def changed(file: Path, **steps: object) -> Path:
    content = yaml.safe_load(file.read_text())
    content["kubeflow"]["steps"] = steps
    file.write_text(yaml.safe_dump(content))
    return file


@pytest.mark.parametrize(
    "arguments",
    [
        ["compile", "--output", "pipeline.yaml"],
        ["submit", OFFLINE],
        ["schedule", OFFLINE, "--cron", "0 * * * *"],
    ],
)
def test_a_config_that_cannot_run_is_refused_before_tfx_is_imported(
    arguments: list[str], tmp_path: Path
) -> None:
    file = changed(saved(tmp_path, "stream"), TeacherTrainr={"cpu": 8})
    command, *options = arguments
    probe = [sys.executable, "-c", PROBE, "kubeflow", command, str(file), *options]
    done = subprocess.run(probe, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout == "1 False\n"
    assert done.stderr.startswith("error: kubeflow.steps.TeacherTrainr\n")
    assert "TeacherTrainer" in done.stderr


def test_where_the_yaml_shall_lie_is_looked_at_first(tmp_path: Path) -> None:
    file = saved(tmp_path, "video")
    output = tmp_path / "missing/pipeline.yaml"
    probe = [sys.executable, "-c", PROBE, "kubeflow", "compile", str(file), "--output", str(output)]
    done = subprocess.run(probe, capture_output=True, text=True, check=True)
    assert done.stdout == "1 False\n"
    assert f"mkdir -p {output.parent}" in done.stderr


@pytest.mark.parametrize("text", [None, "", "- a list", "{"])
def test_only_a_compiled_pipeline_is_run(text: str | None, tmp_path: Path) -> None:
    file = saved(tmp_path, "video")
    if text is not None:
        file.write_text(text)
    command = ["kubeflow", "run-local", str(file), "--into", str(tmp_path / "store")]
    result = CliRunner().invoke(main, command)
    assert result.exit_code == 1
    assert "a file that is no compiled pipeline" in result.output
