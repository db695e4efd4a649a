"""`distill report` and `distill serve-report`, and the report at the end of a run."""

from __future__ import annotations

import threading
import urllib.error
import urllib.request
from pathlib import Path

import click
import pytest
import reported_runs
from click.testing import CliRunner

from tfx_distill.pipeline import report_commands
from tfx_distill.pipeline.report import site
from tfx_distill.schema import config as run_config
from tfx_distill.schema.config import RunConfig


@pytest.fixture
def config_file(tmp_path: Path) -> Path:
    return reported_runs.config(tmp_path)


@pytest.fixture(autouse=True)
def no_bundle(monkeypatch: pytest.MonkeyPatch) -> None:
    """Vega takes seconds to be bundled; only a browser needs it."""
    monkeypatch.setattr("vl_convert.javascript_bundle", lambda: "// Vega")


def run(command: click.Command, *arguments: str | Path) -> tuple[int, str]:
    result = CliRunner().invoke(command, [str(a) for a in arguments])
    return result.exit_code, result.output


def test_report_names_the_first_page(config_file: Path, tmp_path: Path) -> None:
    reported_runs.stream(tmp_path)
    code, output = run(report_commands.report, config_file, "--no-views")
    first = tmp_path / "music" / "report" / "index.html"
    assert (code, first.exists()) == (0, True)
    assert str(first) in output


def test_report_can_be_written_elsewhere(config_file: Path, tmp_path: Path) -> None:
    (tmp_path / "music").mkdir()
    code, _ = run(report_commands.report, config_file, "--no-views", "--into", tmp_path / "site")
    assert code == 0
    assert (tmp_path / "site" / "index.html").exists()
    assert not (tmp_path / "music" / "report").exists()


def test_without_a_run_folder_there_is_nothing_to_report(config_file: Path) -> None:
    code, output = run(report_commands.report, config_file)
    assert code == 1
    assert "no run folder" in output
    assert "distill run" in output


def test_without_a_report_there_is_nothing_to_serve(config_file: Path) -> None:
    code, output = run(report_commands.serve_report, config_file)
    assert code == 1
    assert "`distill report`" in output


def test_the_server_serves_the_folder_and_nothing_above_it(tmp_path: Path) -> None:
    (tmp_path / "secret.txt").write_text("not for readers")
    (tmp_path / "report").mkdir()
    (tmp_path / "report" / "index.html").write_text("the report")
    with report_commands.server(tmp_path / "report", 0) as serving:
        assert serving.server_address[0] == "127.0.0.1"
        thread = threading.Thread(target=serving.serve_forever)
        thread.start()
        try:
            where = f"http://127.0.0.1:{serving.server_port}"
            with urllib.request.urlopen(f"{where}/") as answer:
                assert answer.read() == b"the report"
            with pytest.raises(urllib.error.HTTPError):
                urllib.request.urlopen(f"{where}/../secret.txt")
        finally:
            serving.shutdown()
            thread.join()


def test_a_report_that_cannot_be_written_does_not_fail_the_run(
    config_file: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(config: RunConfig) -> Path:
        raise PermissionError("not there")

    monkeypatch.setattr(site, "write", broken)
    report_commands.after_run(run_config.load(config_file))
    captured = capsys.readouterr()
    assert "warning: no report was written: PermissionError: not there" in captured.err
