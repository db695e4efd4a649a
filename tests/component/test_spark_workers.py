"""Workers that Spark launches: the losses of one process, in a cluster of two executors."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import spark_here
from small_examples import Prepared
from test_student_trainer import ENOUGH, small
from test_warm_start import Run, record_of, state_of

from tfx_distill.components import spark_workers
from tfx_distill.schema.config import SparkConfig
from tfx_distill.schema.errors import EnvironmentProblem, ModelError
from tfx_distill.trainer.course import Course
from tfx_distill.trainer.job import TrainingJob

TWO = {"master": "local-cluster[2,1,1024]", "options": {}}


@pytest.fixture(scope="module", autouse=True)
def installed() -> None:
    spark_here.require()


def job(prepared: Prepared, **changes: Any) -> TrainingJob:
    config = small(prepared, labels=ENOUGH, **changes)
    return TrainingJob.of_student(config, config.students[0], twin=True)


def test_two_executors_train_as_one_process_does(
    prepared: Prepared, features: Any, tmp_path: Path
) -> None:
    run = Run(prepared, tmp_path)
    features.span = 3
    alone = run(job(prepared), [features])
    spread = {"trainer": {"workers": 2, "launch": "spark"}, "spark": TWO}
    together = run(job(prepared, **spread), [features])
    mine, theirs = record_of(together), record_of(alone)
    assert mine["losses"].keys() == theirs["losses"].keys()
    for name, values in theirs["losses"].items():
        assert mine["losses"][name] == pytest.approx(values, rel=1e-4), name
    for name, value in state_of(alone).weights.items():
        np.testing.assert_allclose(state_of(together).weights[name], value, atol=1e-3, err_msg=name)
    logs = Path(together.uri).parent / "run-workers"
    assert sorted(file.name for file in logs.iterdir()) == [
        *("course.json", "worker-0.log", "worker-1.log")
    ]
    assert (Path(together.uri) / "Format-Serving/saved_model.pb").exists()


def test_an_error_of_a_user_comes_back_and_is_not_tried_again(
    prepared: Prepared, tmp_path: Path
) -> None:
    spread = {"trainer": {"workers": 1, "launch": "spark"}, "spark": TWO}
    course = Course(job(prepared, **spread), ())
    with pytest.raises(ModelError, match="no span to train on"):
        spark_workers.train(SparkConfig(master="local[1]"), course, tmp_path)
    assert (tmp_path / "worker-0.log").exists()


def test_more_workers_than_cores_are_refused(prepared: Prepared, tmp_path: Path) -> None:
    spread = {"trainer": {"workers": 3, "launch": "spark"}, "spark": TWO}
    once = dict.fromkeys(spark_workers.WAIT, "1")
    with pytest.raises(EnvironmentProblem, match=r"more slots.*Spark needs 3 free cores"):
        spark_workers.train(
            SparkConfig(master="local[1]", options=once),
            Course(job(prepared, **spread), ()),
            tmp_path,
        )
