"""A GPU that the config asks for and that is not there stops a run before it does anything."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import reported_runs
import tensorflow as tf

from tfx_distill.pipeline import session
from tfx_distill.schema.config import RunConfig
from tfx_distill.schema.errors import DataError, DistillError, EnvironmentProblem


def refused(root: Path, **trainer: Any) -> DistillError:
    """How a run is refused whose logs are not there either."""
    content = {**reported_runs.CONFIG, "root": str(root / "runs"), "trainer": trainer}
    content["data"] = {**content["data"], "spans": str(root / "{SPAN}/{split}.parquet")}
    with pytest.raises(DistillError) as caught:
        session.run_spans(RunConfig.model_validate(content), session.Spans(0, 0))
    return caught.value


# With a GPU there is nothing to refuse.
@pytest.mark.skipif(bool(tf.config.list_physical_devices("GPU")), reason="there is a GPU")
@pytest.mark.parametrize("workers", [1, 2])
def test_nothing_is_begun_without_the_gpu(tmp_path: Path, workers: int) -> None:
    error = refused(tmp_path, device="gpu", workers=workers)
    assert isinstance(error, EnvironmentProblem)
    assert error.where == "trainer.device"
    assert "no GPU" in error.got
    assert list(tmp_path.iterdir()) == []


def test_the_gpus_of_a_cluster_are_not_looked_for_here(tmp_path: Path) -> None:
    error = refused(tmp_path, device="gpu", workers=2, launch="spark")
    assert isinstance(error, DataError)


@pytest.mark.parametrize("device", ["auto", "cpu"])
def test_who_does_not_ask_for_a_gpu_does_not_wait_for_the_search(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, device: str
) -> None:
    def search(kind: str) -> list[Any]:
        raise AssertionError(kind)

    monkeypatch.setattr(tf.config, "list_physical_devices", search)
    assert isinstance(refused(tmp_path, device=device), DataError)
