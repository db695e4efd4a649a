"""What TFX does around a component, and what the component itself does, are told apart."""

# No `from __future__ import annotations`: TFX reads the annotations of a component.

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

PAUSE = 0.5


@component
def Sleeper(model: OutputArtifact[Model]) -> None:  # noqa: N802 (a component is a class)
    """Works for a while."""
    time.sleep(PAUSE)


def test_bookkeeping_is_what_is_around_the_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = outputs_utils.make_output_dirs

    def slow(outputs):
        time.sleep(2 * PAUSE)
        return real(outputs)

    monkeypatch.setattr(outputs_utils, "make_output_dirs", slow)
    connection = metadata.sqlite_metadata_connection_config(str(tmp_path / "metadata.sqlite"))
    pipeline = Pipeline(
        pipeline_name="sleeping",
        pipeline_root=str(tmp_path / "artifacts"),
        components=[Sleeper()],
        metadata_connection_config=connection,
    )
    outcome = local_runner.run(pipeline, report=lambda line: None)
    assert outcome.errors == ()
    (step,) = outcome.steps
    work = step.seconds - sum(step.phases.values())
    assert work == pytest.approx(PAUSE, abs=0.3)
    assert step.phases["bookkeeping"] >= 2 * PAUSE
    assert step.cpu_seconds < step.seconds - PAUSE
