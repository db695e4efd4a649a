"""What the last step of a run makes of steps that say nothing."""

from __future__ import annotations

from pathlib import Path

import pytest
from compiled import ANYWHERE, config

from tfx_distill.kubeflow import finishing, records
from tfx_distill.kubeflow.preparation import Prepared
from tfx_distill.kubeflow.records import Failure, Record

NEEDS = {"gen": set[str](), "train": {"gen"}, "judge": {"train", "gen"}, "push": {"judge"}}


@pytest.fixture
def prepared(tmp_path: Path) -> Prepared:
    return Prepared(run="run", config=config("video", tmp_path).to_yaml(), source=ANYWHERE)


def ended(prepared: Prepared, *components: str) -> None:
    for component in components:
        records.begin("run", component, prepared.run_config.run_folder)
        record = Record(
            run="run",
            component=component,
            inputs={},
            outputs={},
            seconds=1,
            cpu_seconds=1,
            peak_mib=1,
            finished=1,
        )
        records.write(record, prepared.run_config.run_folder)


def test_a_killed_step_is_blamed_and_nobody_else(prepared: Prepared) -> None:
    ended(prepared, "gen", "train")
    records.begin("run", "judge", prepared.run_config.run_folder)
    found = finishing._unrecorded(NEEDS, prepared)
    assert found == {"judge": "its container was killed"}


def test_a_step_whose_outputs_nobody_got_is_blamed(prepared: Prepared) -> None:
    ended(prepared, "gen", "train")
    (blamed,) = finishing._unrecorded(NEEDS, prepared)
    assert blamed == "train"


def test_a_step_that_said_why_it_failed_has_said_all(prepared: Prepared) -> None:
    ended(prepared, "gen")
    folder = prepared.run_config.run_folder
    records.begin("run", "train", folder)
    records.write_failure(
        Failure(run="run", component="train", error="no memory", labels_refused=False), folder
    )
    assert finishing._unrecorded(NEEDS, prepared) == {}


def test_where_all_ended_well_nobody_is_blamed(prepared: Prepared) -> None:
    ended(prepared, *NEEDS)
    assert finishing._unrecorded(NEEDS, prepared) == {}
