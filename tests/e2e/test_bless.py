"""`distill bless` on a finished run: a refused student is pushed, and everything says so."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import tensorflow as tf
import yaml

from tfx_distill.pipeline import lineage, session, summary
from tfx_distill.schema import config as run_config

NAME = "newcomer"
"""A student of its own: the other tests know nothing of it."""
REASON = "the eval split lacks the new market"


@pytest.fixture
def refused(tiny_run, tmp_path):
    """The tiny project after a run whose only student did not pass its gate."""
    kept = tiny_run.config.run_folder / "summary.json"
    shutil.copy(kept, tmp_path / "summary.json")
    content = yaml.safe_load(tiny_run.project.file.read_text())
    content["students"] = [content["students"][0] | {"name": NAME}]
    # No student ranks without a fault.
    content["gate"]["students"][0]["min"] = 1.0
    file = tmp_path / "video.yaml"
    file.write_text(yaml.safe_dump(content))
    config = run_config.load(file)
    result, error = session.run(config)
    assert error is None
    (student,) = result.students
    assert student.refused
    assert student.pushed is None
    yield file
    shutil.copy(tmp_path / "summary.json", kept)


def distill(*arguments):
    command = [str(Path(sys.executable).parent / "distill"), *map(str, arguments)]
    # In a narrow terminal sentences are wrapped.
    wide = os.environ | {"COLUMNS": "500"}
    return subprocess.run(command, capture_output=True, text=True, timeout=300, env=wide)


def bless(file):
    return distill("bless", file, "--student", NAME, "--because", REASON)


def test_a_refused_student_is_let_through(refused):
    config = run_config.load(refused)
    first = bless(refused)
    assert first.returncode == 0, first.stderr
    (student,) = summary.read(config.run_folder).students
    assert f"Pushed to {student.pushed}" in first.stdout
    assert Path(student.pushed).parent == Path(config.push.directory).absolute() / NAME
    assert "serving_default" in tf.saved_model.load(student.pushed).signatures
    assert not student.verdict.blessed
    assert student.verdict.failures
    assert student.verdict.overridden.because == REASON
    assert student.serving.blessed
    assert student.serving.checks

    # Nothing is left to be let through, and the error says what serves.
    second = bless(refused)
    assert second.returncode == 1
    assert f"was not refused: it serves from {student.pushed}" in second.stderr

    shown = distill("show", refused).stdout
    assert f"Student {NAME}: refused" in shown
    assert f": {REASON}" in shown
    assert f"Pushed to {student.pushed}" in shown

    # A run of the same config comes from the cache, and does not forget it.
    again, error = session.run(config)
    assert error is None
    assert again.students == (student,)

    # The next student has to be better than the one that was let through.
    content = yaml.safe_load(refused.read_text())
    content["students"][0]["training"]["epochs"] = 1
    refused.write_text(yaml.safe_dump(content))
    after, error = session.run(run_config.load(refused))
    assert error is None
    store = lineage.sqlite(str(config.run_folder / "metadata.sqlite"))
    before = lineage.outputs(store, again.run_id)[f"StudentTrainer.{NAME}"]["model"]
    found = lineage.outputs(store, after.run_id)[f"BaselineResolver.{NAME}"]["model"]
    assert found.id == before.id
    assert after.students[0].verdict.overridden is None
