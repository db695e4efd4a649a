"""What a command says to do when a component failed: it fits what was run."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from click.testing import CliRunner
from config_basis import changed

from tfx_distill import pipeline
from tfx_distill.pipeline import (
    bless_command,
    cli,
    refusal,
    report_commands,
    stream_commands,
    summary,
    telling,
)
from tfx_distill.schema.errors import LabelError

FAULT = LabelError("task click", got="nan", expected="a number", fix="Train it again.")


@pytest.fixture
def last_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Runs a command, whose work is a stand-in's, and returns the last line of what it said."""
    content = changed("root", str(tmp_path / "runs")) | {"stream": {"bootstrap": 1}}
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(content))
    monkeypatch.setattr(telling, "diverted", lambda config: tmp_path / "run.log")
    for module in (bless_command, stream_commands, report_commands):
        monkeypatch.setattr(module, "after_run", lambda config: None)

    def run(name: str, stand_in: dict[str, Any], command: str, *options: str) -> str:
        monkeypatch.setattr(pipeline, name, SimpleNamespace(**stand_in), raising=False)
        result = CliRunner().invoke(cli.main, [command, str(tmp_path / "run.yaml"), *options])
        assert result.exit_code == 1
        assert "error: task click" in result.output
        return str(result.output.splitlines()[-1])

    return run


def test_a_student_that_could_not_be_blessed(
    last_line: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(refusal, "newest", lambda config, name: None)
    said = last_line(
        "bless",
        {"bless": lambda *_, **__: (SimpleNamespace(pushed=None), FAULT)},
        "bless",
        *("--student", "compact", "--because", "a new market"),
    )
    assert said == "  Nothing was pushed. Mend that, and bless it again."


def test_a_backfill(last_line: Any) -> None:
    said = last_line(
        "backfill",
        {"chosen": lambda *_: None, "backfill": lambda *_: iter([(2, FAULT)])},
        "backfill",
        *("--labels", "--spans", "2", "--teacher", "1"),
    )
    assert said == "  What was finished is kept: `distill backfill` goes on from there."


@pytest.mark.parametrize("command", ["run", "watch"])
def test_a_stream(last_line: Any, monkeypatch: pytest.MonkeyPatch, command: str) -> None:
    monkeypatch.setattr(summary, "show", lambda *_: None)
    done = SimpleNamespace(summary=None, error=FAULT)
    said = last_line("stream", {command: lambda *_, **__: iter([done])}, command)
    assert said == f"  What was finished is kept: `distill {command}` goes on from there."
