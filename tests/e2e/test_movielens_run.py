"""The whole pipeline on the real MovieLens-100K, two months of it."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from tfx_distill.datasets import movielens
from tfx_distill.pipeline import session
from tfx_distill.schema import config as run_config

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def months(tmp_path_factory):
    folder = tmp_path_factory.mktemp("movielens")
    return folder, movielens.write(folder / "data")


def test_the_real_ratings_become_eight_months(months):
    _, spans = months
    assert [span.month for span in spans] == [
        *("1997-09", "1997-10", "1997-11", "1997-12"),
        *("1998-01", "1998-02", "1998-03", "1998-04"),
    ]
    assert sum(span.train_rows + span.eval_rows for span in spans) == 100_000


def test_a_run_over_two_months_pushes_or_says_why_not(months):
    folder, spans = months
    content = yaml.safe_load((REPOSITORY / "configs/movielens.yaml").read_text())
    content["data"]["spans"] = str(folder / "data/span-{SPAN}/{split}-*.parquet")
    small = {"hidden": 8, "tower": 4, "embedding": 4, "experts": 2}
    content["teacher"]["model"] = {"architecture": "mmoe", "width": 2} | small
    content["teacher"]["training"]["epochs"] = 2
    content["students"][0] |= {"model": small, "training": {"epochs": 2, "batch_size": 1024}}
    # What a model learns of two months is little: here it only has to be finite to label.
    content["gate"]["teacher"] = [
        {"task": "like", "metric": "auc", "min": 0.0},
        {"task": "rating", "metric": "mse", "max": 100.0},
    ]
    content["root"] = str(folder / "runs")
    content["push"] = {"directory": str(folder / "serving")}
    file = folder / "movielens.yaml"
    file.write_text(yaml.safe_dump(content))

    summary, error = session.run(run_config.load(file), spans=(6, 7))

    assert error is None
    assert {step.state for step in summary.steps} == {"ran"}
    # Everything before the last eval split is for training.
    last, before = spans[7], spans[6]
    assert summary.examples == {
        "train": before.train_rows + before.eval_rows + last.train_rows,
        "eval": last.eval_rows,
    }
    (student,) = summary.students
    assert student.coverage == 1.0
    assert student.verdict.blessed == (student.pushed is not None)
    assert student.pushed or student.verdict.failures
    assert set(student.metrics["candidate"]) == {"like", "rating"}
