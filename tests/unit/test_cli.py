"""The command line: what it prints, how it fails, and what it hands on."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from click.testing import CliRunner, Result

from tfx_distill.pipeline import cli, doctor, session
from tfx_distill.pipeline.summary import Summary
from tfx_distill.schema.config import RunConfig
from tfx_distill.schema.errors import DataError, LabelError, own_error

ROWS = 4
SPLITS = [(0, "train"), (0, "eval"), (1, "train"), (1, "eval")]


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A config file and two spans of logs beside it; the working directory is theirs."""
    for place, (span, split) in enumerate(SPLITS):
        number = list(range(ROWS * place, ROWS * (place + 1)))
        table = {
            "id": number,
            "request": [n // 2 for n in number],
            "time": number,
            "age": [0.5, None, 2.0, 3.0],
            "clicked": [1, 0, 1, 0],
        }
        folder = tmp_path / f"span-{span}"
        folder.mkdir(exist_ok=True)
        pq.write_table(pa.table(table), folder / f"{split}-0.parquet")
    threshold = {"task": "click", "metric": "auc", "min": 0.5}
    content = {
        "name": "tiny",
        "root": str(tmp_path / "runs"),
        "data": {
            "spans": f"{tmp_path}/span-{{SPAN}}/{{split}}-*.parquet",
            "example_id": "id",
            "query_id": "request",
            "event_time": "time",
        },
        "features": {"numeric": ["age"]},
        "tasks": [{"name": "click", "kind": "binary", "label": "clicked"}],
        "students": [{"name": "small"}],
        "gate": {"students": [threshold], "teacher": [threshold]},
        "push": {"directory": str(tmp_path / "serving")},
    }
    file = tmp_path / "tiny.yaml"
    file.write_text(yaml.safe_dump(content))
    monkeypatch.chdir(tmp_path)
    return file


@pytest.fixture(autouse=True)
def logs_as_they_were() -> Iterator[None]:
    """`distill run` sends all logs of the process to a file: undo that."""
    root, own = logging.getLogger(), logging.getLogger("tfx_distill")
    before = (root.handlers, root.level, list(own.handlers))
    yield
    for handler in root.handlers:
        if handler not in before[0]:
            handler.close()
    root.handlers, own.handlers = before[0], before[2]
    root.setLevel(before[1])
    logging.captureWarnings(False)


def distill(*arguments: str | Path) -> Result:
    result = CliRunner().invoke(cli.main, [str(argument) for argument in arguments])
    # click's runner keeps what a command raises; only exit codes may come out of ours.
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def summary(**changes: Any) -> Summary:
    return Summary(
        **{
            "name": "tiny",
            "run_id": "20240101T000000.000000Z",
            "seed": 0,
            "first_span": 0,
            "last_span": 1,
            "finished": 1_704_067_200.0,
            "examples": {"train": 12, "eval": 4},
            "failed": None,
            "teacher": None,
            "teacher_parameters": None,
            "labels": None,
            "students": (),
            "steps": (),
        }
        | changes
    )


def lines(text: str) -> dict[str, str]:
    """The titled lines of an error."""
    titled = (line.strip().partition(":") for line in text.splitlines())
    return {title: rest.strip() for title, _, rest in titled if title}


def test_help_names_every_command() -> None:
    result = distill("--help")
    assert result.exit_code == 0
    for command in ("check", "data", "doctor", "run", "show"):
        assert f"  {command} " in result.output
        assert distill(command, "-h").exit_code == 0
    assert "--until COMPONENT" in distill("run", "--help").output


def test_the_version_is_that_of_the_package() -> None:
    from importlib.metadata import version

    assert version("tfx-distill") in distill("--version").output


# check


def test_check_prints_the_resolved_config_and_counts(project: Path) -> None:
    result = distill("check", project)
    assert result.exit_code == 0
    assert "learning_rate: 0.003" in result.output
    assert "span 1 eval: 4 examples in 1 file(s)" in result.output
    assert "fine. 12 examples to train on, 4 later ones to evaluate on." in result.output
    assert "warning" not in result.output
    resolved = yaml.safe_load(result.stdout[: result.stdout.index("span 0 train")])
    assert RunConfig.model_validate(resolved) == RunConfig.model_validate(
        yaml.safe_load(project.read_text())
    )


@pytest.mark.parametrize("spans", ["1", "1..1", "1-1", " 1 "])
def test_spans_are_chosen(spans: str, project: Path) -> None:
    result = distill("check", project, "--spans", spans)
    assert result.exit_code == 0
    assert "4 examples to train on, 4 later ones" in result.output
    assert "span 0" not in result.output


@pytest.mark.parametrize("spans", ["", "a", "0..", "..1", "0..1..2", "0...1", "-1"])
def test_other_spans_are_refused_as_they_were_written(spans: str, project: Path) -> None:
    result = distill("check", project, "--spans", spans)
    assert result.exit_code == 1
    said = lines(result.stderr)
    assert said["error"] == "--spans"
    assert said["got"] == repr(spans)
    assert said["expected"] == "A..B, or one number"
    assert said["fix"] == "Write for example 0..3."


def test_warnings_are_shown_and_do_not_fail(project: Path) -> None:
    file = project.parent / "span-1" / "eval-0.parquet"
    table = pq.read_table(file)
    requests = pa.array([5] * ROWS, pa.int64())  # 10 and 11 are train rows of request 5
    pq.write_table(table.set_column(1, "request", requests), file)
    result = distill("check", project)
    assert result.exit_code == 0
    assert "warning: span 1: 1 of 1 eval queries also have examples in train" in result.stderr


def test_an_error_is_told_in_four_lines(project: Path) -> None:
    file = project.parent / "span-0" / "train-0.parquet"
    pq.write_table(pq.read_table(file).rename_columns(["id", "request", "time", "aeg", "c"]), file)
    result = distill("check", project)
    assert result.exit_code == 1
    assert result.stderr.splitlines() == [
        f"error: {file}, column 'age'",
        "  got:      no such column",
        "  expected: every column that the config names",
        "  fix:      Correct the name in the config: did you mean 'aeg'?",
    ]
    assert "Traceback" not in result.output
    assert result.stdout == ""


def test_a_missing_config_is_told(tmp_path: Path) -> None:
    for command in ("check", "run", "show"):
        result = distill(command, tmp_path / "none.yaml")
        assert result.exit_code == 1
        assert lines(result.stderr)["got"] == "no such file"


def test_a_missing_argument_is_a_matter_of_usage() -> None:
    result = distill("check")
    assert result.exit_code == 2
    assert "Usage:" in result.stderr


# run


def outcome(monkeypatch: pytest.MonkeyPatch, error: Exception | None) -> dict[str, Any]:
    """Lets `distill run` end like this; returns what it asked for."""
    asked: dict[str, Any] = {}

    def run(config: RunConfig, **wanted: Any) -> tuple[Summary, Exception | None]:
        asked.update(wanted, config=config)
        logging.getLogger("tfx_distill.somewhere").warning("a matter for people")
        logging.getLogger("tfx").warning("a matter for the log")
        return summary(failed=None if error is None else "it broke"), error

    monkeypatch.setattr(session, "run", run)
    return asked


def test_run_hands_on_its_options(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = outcome(monkeypatch, None)
    result = distill("run", project, "--spans", "0..1", "--until", "Transform", "--seed", "5")
    assert result.exit_code == 0
    assert asked["spans"] == (0, 1)
    assert asked["until"] == "Transform"
    assert asked["config"].seed == 5
    assert "tiny, run 20240101T000000.000000Z, spans 0-1" in result.output
    asked = outcome(monkeypatch, None)
    distill("run", project)
    assert (asked["spans"], asked["until"], asked["config"].seed) == (None, None, 0)


def test_only_our_own_warnings_reach_the_terminal(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    outcome(monkeypatch, None)
    result = distill("run", project)
    assert "a matter for people" in result.stderr
    assert "a matter for the log" not in result.output
    log = (project.parent / "runs/tiny/run.log").read_text()
    assert "a matter for people" in log
    assert "a matter for the log" in log


OURS = LabelError("task click", got="nan", expected="a number", fix="Train it again.")


def wrapped(inner: Exception, *, explicit: bool) -> Exception:
    """What is caught when Beam or TFX raises an error of its own about an inner one."""
    try:
        try:
            raise inner
        except Exception as caught:
            if explicit:
                raise RuntimeError("Traceback (most recent call last): ...") from caught
            raise RuntimeError("Traceback (most recent call last): ...") from None
    except RuntimeError as outer:
        return outer


@pytest.mark.parametrize(
    "error",
    [
        OURS,
        wrapped(OURS, explicit=True),
        wrapped(wrapped(OURS, explicit=False), explicit=True),
    ],
    ids=["bare", "cause", "cause of a context"],
)
def test_our_own_error_is_found_behind_others(
    error: Exception, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert own_error(error) is OURS
    outcome(monkeypatch, error)
    result = distill("run", project)
    assert result.exit_code == 1
    said = lines(result.stderr)
    assert said["error"] == "task click"
    assert (said["got"], said["expected"], said["fix"]) == ("nan", "a number", "Train it again.")
    assert "What was finished is kept" in result.stderr
    assert "Traceback" not in result.output


def test_there_may_be_no_error_of_ours() -> None:
    assert own_error(None) is None
    assert own_error(ValueError()) is None


@pytest.mark.parametrize(
    ("error", "told"),
    [(ValueError("one\nsecond line"), "ValueError: one"), (KeyError(), "KeyError:")],
    ids=["two lines", "no text"],
)
def test_a_defect_is_told_in_a_line_with_the_log_to_look_into(
    error: Exception, told: str, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    outcome(monkeypatch, error)
    result = distill("run", project)
    assert result.exit_code == 1
    assert f"error: {told}".strip() in [line.strip() for line in result.stderr.splitlines()]
    assert f"The stack trace is in {project.parent}/runs/tiny/run.log" in result.stderr
    assert "second line" not in result.stderr


def test_what_fails_before_the_first_component_is_told_too(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(*_: Any, **__: Any) -> None:
        raise DataError("span 3", got="no file", expected="files", fix="Bring the span.")

    monkeypatch.setattr(session, "run", run)
    result = distill("run", project)
    assert result.exit_code == 1
    assert lines(result.stderr)["error"] == "span 3"
    assert "Traceback" not in result.output


def test_an_unknown_component_is_refused_with_the_known_ones(project: Path) -> None:
    result = distill("run", project, "--until", "Trainer")
    assert result.exit_code == 1
    said = lines(result.stderr)
    assert said["error"] == "--until"
    assert said["got"] == "'Trainer'"
    assert "TeacherTrainer" in said["expected"]
    assert "StudentTrainer.small" in said["expected"]


# show, doctor, data


def test_show_needs_a_run(project: Path) -> None:
    result = distill("show", project)
    assert result.exit_code == 1
    assert lines(result.stderr)["fix"] == "Run the config first, with `distill run`."


def test_show_prints_the_summary_of_the_last_run(project: Path) -> None:
    from tfx_distill.pipeline import summary as summaries

    folder = project.parent / "runs/tiny"
    folder.mkdir(parents=True)
    summaries.write(summary(seed=41), folder)
    result = distill("show", project)
    assert result.exit_code == 0
    assert "seed 41" in result.output


def test_doctor_names_fixes_and_fails_with_them(monkeypatch: pytest.MonkeyPatch) -> None:
    good = doctor.Finding("disk", True, "9 GiB free")
    bad = doctor.Finding("dill", False, "cannot be imported", "Install it.")
    monkeypatch.setattr(doctor, "examine", lambda root: [good, bad])
    result = distill("doctor")
    assert result.exit_code == 1
    assert "ok   disk: 9 GiB free" in result.output
    assert "FAIL dill: cannot be imported" in result.output
    assert "fix: Install it." in result.output
    monkeypatch.setattr(doctor, "examine", lambda root: [good])
    assert distill("doctor").exit_code == 0


def test_the_simulator_writes_spans_once(tmp_path: Path) -> None:
    arguments = ("data", "simulator", "--into", tmp_path, "--spans", "1", "--examples", "1000")
    first = distill(*arguments)
    assert first.exit_code == 0
    assert "video span 0:" in first.output
    assert first.output.count("written") == 2
    (log,) = (tmp_path / "video/span-0").glob("train-*.parquet")
    before = log.stat().st_mtime_ns
    second = distill(*arguments)
    assert second.output.count("was there") == 2
    assert log.stat().st_mtime_ns == before


def test_movielens_from_a_wrong_folder_is_told(tmp_path: Path) -> None:
    result = distill("data", "movielens-100k", "--into", tmp_path / "out", "--source", tmp_path)
    assert result.exit_code == 1
    assert str(tmp_path) in lines(result.stderr)["error"]
    assert "Traceback" not in result.output
