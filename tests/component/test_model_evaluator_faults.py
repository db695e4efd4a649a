"""What the ModelEvaluator says of examples and models that it cannot use."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import tensorflow as tf
import tensorflow_model_analysis as tfma
from evaluated import (
    CLICK,
    config,
    ingest,
    logged,
    run,
)

from tfx_distill.components import evaluation_result
from tfx_distill.components.comparison import comparison
from tfx_distill.schema.config import FeaturesConfig, TaskConfig
from tfx_distill.schema.errors import DataError, ModelError
from tfx_distill.trainer import predict


def test_a_lone_candidate_that_predicts_nan_has_metrics_that_are_none(
    world: dict[str, str], tmp_path: Path
) -> None:
    evaluation = run(tmp_path, world["examples"], config(slices=()), model=world["broken"])
    click = evaluation_result.metrics(evaluation)["candidate"]["click"]
    assert math.isnan(click["auc"])
    assert click["not_finite_count"] == 900
    assert json.loads((Path(evaluation) / "metrics.json").read_text())[""]["candidate"]
    # TFMA knows the only model by its name as well.
    assert tfma.load_eval_result(evaluation, model_name="candidate").slicing_metrics


def test_a_corrupt_shard_is_named(world: dict[str, str], tmp_path: Path) -> None:
    examples = ingest(tmp_path / "examples", logged())
    bad = Path(examples) / "Split-eval" / "part-00001.parquet"
    content = bytearray(bad.read_bytes())
    content[4:2000] = b"\0" * 1996  # the footer stays whole: found only when rows are read
    bad.write_bytes(content)
    with pytest.raises(DataError, match=r"part-00001\.parquet") as caught:
        run(tmp_path, examples, config(), model=world["good"])
    assert caught.value.expected == "a Parquet file of examples"


def test_an_empty_split_is_an_error(world: dict[str, str], tmp_path: Path) -> None:
    data = logged()
    nothing = ingest(tmp_path / "examples", {name: [] for name in data})
    with pytest.raises(DataError, match="no example"):
        run(tmp_path, nothing, config(), model=world["good"])


def test_a_missing_column_is_named(tmp_path: Path) -> None:
    examples = ingest(tmp_path, {k: v for k, v in logged().items() if k != "device"})
    file = Path(examples) / "Split-eval" / "part-00000.parquet"
    with pytest.raises(DataError, match=r"part-00000\.parquet: got no column\(s\) \['device'\]"):
        list(predict.read(file, ["quality", "device"]))


def test_a_candidate_that_does_not_serve_a_task_is_an_error(world: dict[str, str]) -> None:
    other = TaskConfig(name="like", kind="binary", label="liked")
    with pytest.raises(ModelError, match=r"also of \['like'\]"):
        comparison({"candidate": f"{world['good']}/Format-Serving"}, config(tasks=(CLICK, other)))


def test_a_folder_without_a_model_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"saved_model\.pb"):
        comparison({"candidate": str(tmp_path)}, config())


def test_a_blessed_model_that_needs_a_lost_feature_gives_way_to_the_twin(
    world: dict[str, str], tmp_path: Path
) -> None:
    class Smaller(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, name="quality")])
        def serve(self, quality: tf.Tensor) -> Any:
            return {"click": tf.sigmoid(quality), "watch": quality}

    model = Smaller()
    smaller = str(tmp_path / "smaller")
    tf.saved_model.save(
        model, smaller, signatures={"serving_raw": model.serve.get_concrete_function()}
    )
    settings = config(features=FeaturesConfig.model_validate({"numeric": ["quality"]}))
    folders = {"candidate": smaller, "baseline": f"{world['good']}/Format-Serving"}
    alone = comparison(folders, settings)
    assert (alone.baseline, list(alone.models)) == (None, ["candidate"])
    found = comparison({**folders, "twin": smaller}, settings)
    assert (found.baseline, list(found.models)) == ("twin", ["candidate", "twin"])
    assert "needs ['device', 'topics'], which the config no longer has" in found.reason
