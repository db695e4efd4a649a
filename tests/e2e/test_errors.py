"""The table of errors: what a user meets on the command line when something is wrong.

Each one names the place, what was got and expected, and the fix; none starts with a stack trace;
and whatever was finished before is not done again.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from click.testing import CliRunner
from small_disk import mount_command

from tfx_distill.pipeline import cli, session
from tfx_distill.schema.errors import DataError

Change = Callable[[Any], None]


def log_file(span: int, split: str) -> str:
    return f"data/video/span-{span}/{split}-00000.parquet"


def rewrite(file: str, change: Callable[[pl.DataFrame], pl.DataFrame]) -> Change:
    """Replaces a log file of the project by what `change` makes of it."""

    def spoil(project: Any) -> None:
        path = project.folder / file
        change(pl.read_parquet(path)).write_parquet(path)

    return spoil


def put(column: str, row: int, value: Any) -> Callable[[pl.DataFrame], pl.DataFrame]:
    at_row = pl.int_range(pl.len()) == row
    return lambda frame: frame.with_columns(
        pl.when(at_row).then(pl.lit(value)).otherwise(pl.col(column)).alias(column)
    )


def truncate(project: Any) -> None:
    path = project.folder / log_file(0, "eval")
    path.write_bytes(path.read_bytes()[:-50])


@dataclass(frozen=True)
class Row:
    """One row of the table: what is wrong, and what is said about it, line by line."""

    spoil: Change
    where: tuple[str, ...]
    got: str
    expected: str
    fix: str


ERRORS: dict[str, Row] = {
    "missing column": Row(
        rewrite(log_file(1, "train"), lambda frame: frame.rename({"watch_s": "watch_seconds"})),
        (log_file(1, "train"), "column 'watch_s'"),
        "no such column",
        "every column that the config names",
        "did you mean 'watch_seconds'?",
    ),
    "wrong type": Row(
        rewrite(log_file(1, "eval"), lambda frame: frame.cast({"views": pl.String})),
        (log_file(1, "eval"), "column 'views'"),
        "string",
        "a number",
        "Correct the column in the log, or its role in the config",
    ),
    "NaN label": Row(
        rewrite(log_file(0, "train"), put("ltv", 17, float("nan"))),
        (log_file(0, "train"), "column 'ltv'", "row 17"),
        "nan",
        "a label in every row",
        "leave the row out",
    ),
    "label out of range": Row(
        rewrite(log_file(1, "train"), put("clicked", 23, 2)),
        (log_file(1, "train"), "column 'clicked'", "row 23"),
        "2",
        "0 or 1",
        "Correct the value",
    ),
    "empty split": Row(
        rewrite(log_file(1, "eval"), lambda frame: frame.clear()),
        ("span 1, split eval",),
        "no rows in 1 file(s)",
        "at least one example",
        "Bring the examples, or leave the span out",
    ),
    "duplicate ids": Row(
        rewrite(log_file(1, "train"), lambda frame: pl.concat([frame[:9], frame[4], frame[9:]])),
        (log_file(1, "train"), "row 9"),
        "again, first seen in",
        "an id of its own",
        "Log unique ids",
    ),
    "corrupt Parquet file": Row(
        truncate,
        (log_file(0, "eval"),),
        "Parquet",
        "a complete Parquet file",
        "write it again",
    ),
    "unknown config key": Row(
        lambda project: project.change(teacher={"widht": 4}),
        ("video.yaml: teacher.widht",),
        "an unknown key",
        "['model', 'training']",
        "Correct or remove the key",
    ),
}


@pytest.fixture
def spoilt(tiny_project: Any, tmp_path: Path) -> Any:
    """A project of its own, before its first run."""
    shutil.copytree(tiny_project.folder / "data", tmp_path / "data")
    text = tiny_project.file.read_text().replace(str(tiny_project.folder), str(tmp_path))
    (tmp_path / "video.yaml").write_text(text)
    return type(tiny_project)(tmp_path, tmp_path / "video.yaml")


def told(text: str) -> dict[str, str]:
    """The lines of the error, of which there is one."""
    lines = text.splitlines()
    (start,) = (place for place, line in enumerate(lines) if line.startswith("error: "))
    found = {"error": lines[start].removeprefix("error: ")}
    for title, line in zip(("got", "expected", "fix"), lines[start + 1 :], strict=False):
        assert line.startswith(f"  {title}:")
        found[title] = line.partition(":")[2].strip()
    assert len(found) == 4
    return found


def assert_says(row: Row, output: str) -> None:
    said = told(output)
    for words in row.where:
        assert words in said["error"]
    assert row.got in said["got"]
    assert row.expected in said["expected"]
    assert row.fix in said["fix"]
    assert "Traceback" not in output


@pytest.mark.parametrize("name", ERRORS)
def test_check_names_what_is_wrong(name: str, spoilt: Any) -> None:
    ERRORS[name].spoil(spoilt)
    result = CliRunner().invoke(cli.main, ["check", str(spoilt.file)])
    assert result.exit_code == 1
    assert_says(ERRORS[name], result.output)


def test_check_finds_nothing_wrong_with_what_was_not_spoilt(spoilt: Any) -> None:
    result = CliRunner().invoke(cli.main, ["check", str(spoilt.file)])
    assert result.exit_code == 0, result.output
    assert "fine." in result.output


# What only a run can meet. The runs below go on from the finished one.


@pytest.fixture
def unfinished(tiny_run: Any, copied: Any) -> Iterator[Any]:
    """The finished project to be run with another config; its summary is put back afterwards."""
    summary = tiny_run.config.run_folder / "summary.json"
    before = summary.read_bytes()
    yield copied
    summary.write_bytes(before)


def distill(*arguments: str | Path, mount: str | None = None) -> tuple[int, str]:
    """Runs the command in a process of its own, like a user; returns its status and output."""
    command = [str(Path(sys.executable).parent / "distill"), *map(str, arguments)]
    if mount is not None:
        command = ["unshare", "-rm", "sh", "-c", f'{mount} && exec "$@"', "sh", *command]
    # Not what the tests themselves set: a user has not set it.
    environment = {k: v for k, v in os.environ.items() if k != "TF_CPP_MIN_LOG_LEVEL"}
    done = subprocess.run(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=environment,
        timeout=300,
    )
    return done.returncode, done.stdout


def states(output: str) -> dict[str, str]:
    """What the progress says of each component."""
    found = {}
    for line in output.splitlines():
        if line.startswith("[") and ": " in line:
            title, _, state = line.partition(": ")
            name = title.split()[-1]
            found[name] = (
                "cached" if state.startswith("from cache") else state.split()[0].strip(",")
            )
    return found


BEFORE_THE_TEACHER = {
    "SpanExampleGen",
    "ImportSchemaGen",
    "StatisticsGen",
    "ExampleValidator",
    "Transform",
    "FeatureMaterializer",
}


def test_a_teacher_that_predicts_nan_ends_its_training(tiny_run: Any, unfinished: Any) -> None:
    teacher = tiny_run.config.teacher.model_dump(mode="json")
    teacher["training"] |= {"learning_rate": 1e30, "clip_norm": None}
    unfinished.change(teacher=teacher)
    status, output = distill("run", unfinished.file, "--until", "TeacherLabeler")
    assert status == 1
    assert_says(
        Row(
            lambda project: None,
            ("model teacher, epoch 1",),
            "nan",
            "a finite loss",
            "Lower training.learning_rate, set training.clip_norm",
        ),
        output,
    )
    found = states(output)
    assert found["TeacherTrainer"] == "failed"
    assert found["TeacherLabeler"] == "skipped"
    assert {name for name, state in found.items() if state == "cached"} == BEFORE_THE_TEACHER
    assert "What was finished is kept" in output
    # With the teacher as it was, nothing is done again.
    config = tiny_run.project.config()
    summary, error = session.run(config, until="TeacherLabeler")
    assert error is None
    assert {step.state for step in summary.steps} == {"cached"}


def test_a_disk_that_is_full_while_labelling(
    tiny_run: Any, unfinished: Any, tmp_path: Path
) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = mount_command(disk, "64k")
    unfinished.change(labels={"table": str(disk / "labels")})
    status, output = distill("run", unfinished.file, "--until", "TeacherLabeler", mount=mount)
    assert status == 1
    assert_says(
        Row(
            lambda project: None,
            (str(disk / "labels"), "span 1, split "),
            "a full disk after",
            "room for the label file",
            "Free space or raise the quota there, then run again.",
        ),
        output,
    )
    found = states(output)
    assert found.pop("TeacherLabeler") == "failed"
    assert set(found.values()) == {"cached"}
    taught = {"TeacherTrainer", "TeacherEvaluator", "TeacherGate"}
    assert found.keys() == {*BEFORE_THE_TEACHER, *taught}
    # Outside of that process the disk has room: only the labelling is left to do.
    summary, error = session.run(unfinished.config(), until="TeacherLabeler")
    assert error is None
    left = {step.component for step in summary.steps if step.state != "cached"}
    assert left == {"TeacherLabeler"}
    examples = tiny_run.summary.examples
    assert len(pl.read_delta(str(disk / "labels"))) == sum(examples.values())


def test_a_run_stops_at_what_check_would_have_found(spoilt: Any) -> None:
    row = ERRORS["NaN label"]
    row.spoil(spoilt)
    summary, error = session.run(spoilt.config(), until="FeatureMaterializer")
    assert isinstance(error, DataError)
    for words in row.where:
        assert words in error.where
    assert {step.component: step.state for step in summary.steps} == {
        "ImportSchemaGen": "ran",
        "SpanExampleGen": "failed",
        "StatisticsGen": "skipped",
        "ExampleValidator": "skipped",
        "Transform": "skipped",
        "FeatureMaterializer": "skipped",
    }
    assert summary.failed == str(error)
