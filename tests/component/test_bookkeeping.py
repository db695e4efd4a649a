"""What TFX does around a component, and what the component itself does, are told apart."""

# No `from __future__ import annotations`: TFX reads the annotations of a component.

import threading
import time
from pathlib import Path

import pytest
from tfx.dsl.component.experimental.annotations import OutputArtifact
from tfx.dsl.component.experimental.decorators import component
from tfx.orchestration import metadata
from tfx.orchestration.pipeline import Pipeline
from tfx.orchestration.portable import outputs_utils
from tfx.types.standard_artifacts import Model

from tfx_distill.pipeline import local_runner
from tfx_distill.pipeline.meter import Meter

PAUSE = 0.5


@component
def Sleeper(model: OutputArtifact[Model]) -> None:  # noqa: N802 (a component is a class)
    """Works for a while."""
    time.sleep(PAUSE)


def run(folder: Path, monkeypatch: pytest.MonkeyPatch) -> local_runner.Outcome:
    """Sleeps in what TFX does around the component for twice as long as in the component."""
    real = outputs_utils.make_output_dirs

    def slow(outputs):
        time.sleep(2 * PAUSE)
        return real(outputs)

    monkeypatch.setattr(outputs_utils, "make_output_dirs", slow)
    connection = metadata.sqlite_metadata_connection_config(str(folder / "metadata.sqlite"))
    pipeline = Pipeline(
        pipeline_name="sleeping",
        pipeline_root=str(folder / "artifacts"),
        components=[Sleeper()],
        metadata_connection_config=connection,
    )
    return local_runner.run(pipeline, report=lambda line: None)


def test_bookkeeping_is_what_is_around_the_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    outcome = run(tmp_path, monkeypatch)
    assert outcome.errors == ()
    (step,) = outcome.steps
    work = step.seconds - sum(step.phases.values())
    assert PAUSE - 0.2 < work < 2 * PAUSE
    assert step.phases["bookkeeping"] > 2 * PAUSE - 0.2
    assert step.cpu_seconds < step.seconds - PAUSE


def test_the_bookkeeping_of_one_component_is_not_that_of_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = threading.Thread(target=run, args=(tmp_path, monkeypatch))
    with Meter() as meter:
        other.start()
        other.join()
    assert meter.seconds > 3 * PAUSE
    assert meter.phases["bookkeeping"] == 0
