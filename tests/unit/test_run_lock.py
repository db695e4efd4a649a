"""One process at a time in a run folder: who is refused, and who waits."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner
from config_basis import changed

from tfx_distill.pipeline import cli, run_lock, stream
from tfx_distill.pipeline.session import Spans
from tfx_distill.schema.config import RunConfig

HOLD = """
import sys
from pathlib import Path
from tfx_distill.pipeline import run_lock
with run_lock.held(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def config(tmp_path: Path) -> RunConfig:
    content = changed("root", str(tmp_path / "runs")) | {"stream": {"bootstrap": 1}}
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(content))
    return RunConfig.model_validate(content)


@pytest.fixture
def other(config: RunConfig) -> Iterator[subprocess.Popen[str]]:
    """Another process, at work in the run folder until its input ends."""
    command = [sys.executable, "-c", HOLD, str(config.run_folder)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


@pytest.mark.parametrize(
    "arguments",
    [
        ["run"],
        ["bless", "--student", "compact", "--because", "a new market"],
        ["backfill", "--labels", "--spans", "0..1", "--teacher", "1"],
    ],
    ids=lambda arguments: arguments[0],
)
def test_a_command_is_refused_while_another_process_is_at_work(
    config: RunConfig, other: subprocess.Popen[str], tmp_path: Path, arguments: list[str]
) -> None:
    command, *options = arguments
    result = CliRunner().invoke(cli.main, [command, str(tmp_path / "run.yaml"), *options])
    assert result.exit_code == 1
    assert f"error: {config.run_folder}" in result.output
    assert f"got:      process {other.pid} on " in result.output
    # The program and its arguments, whatever runs.
    assert f"which runs `-c {config.run_folder}`" in result.output
    assert "fix:      Wait until that process has ended, or stop it." in result.output
    assert [file.name for file in config.run_folder.iterdir()] == [run_lock.FILE]


def test_a_killed_process_leaves_the_folder_free(
    config: RunConfig, other: subprocess.Popen[str]
) -> None:
    with pytest.raises(run_lock.FolderInUse), run_lock.held(config.run_folder):
        pass
    other.kill()
    other.wait()
    with run_lock.held(config.run_folder):
        pass


def test_a_command_lets_go_when_it_ends(config: RunConfig, tmp_path: Path) -> None:
    arguments = ["--student", "compact", "--because", "a new market"]
    result = CliRunner().invoke(cli.main, ["bless", str(tmp_path / "run.yaml"), *arguments])
    assert "no such file" in result.output  # nothing was run that could be blessed
    with run_lock.held(config.run_folder):
        pass


def test_a_watch_waits_for_the_folder_and_frees_it_between_spans(
    config: RunConfig, other: subprocess.Popen[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    standing = stream.Progress(done=(), partial=(), failed=None, pending=(Spans(0, 0),))
    monkeypatch.setattr(stream, "progress", lambda *_, **__: standing)
    happened: list[str] = []

    def process(*_: Any, **__: Any) -> None:
        with pytest.raises(run_lock.FolderInUse), run_lock.held(config.run_folder):
            pass
        happened.append("processed")

    def waiting(reason: str) -> None:
        assert reason.startswith(f"process {other.pid} on ")
        happened.append("waited")
        other.communicate("")

    monkeypatch.setattr(stream, "process", process)
    list(stream.watch(config, poll_seconds=0, waiting=waiting))
    assert happened == ["waited", "processed"]
    with run_lock.held(config.run_folder):
        pass
