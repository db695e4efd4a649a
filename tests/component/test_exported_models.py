"""Exported models of one structure: same graph, other weights; used in turns, and without us."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import tensorflow as tf
from small_examples import Prepared

from tfx_distill.schema.config import ModelConfig
from tfx_distill.trainer import export, feature_table, heads, loaded_model, materialize, predict
from tfx_distill.trainer.features import Blocks
from tfx_distill.trainer.first_weights import first_weight
from tfx_distill.trainer.loaded_model import LoadedModel
from tfx_distill.trainer.ranker import Ranker

SIZES = {"small": 4, "large": 7}


def ranker(
    prepared: Prepared, seed: int, hidden: int = 4, architecture: str = "mmoe", twin: bool = False
) -> Ranker:
    config = prepared.config
    student = config.students[0]
    model = ModelConfig(hidden=hidden, tower=3, embedding=2, experts=2, architecture=architecture)
    built = Ranker(config.features, model, heads.of_student(student, config.tasks, twin=twin))
    for variable in built.trainable_variables:
        variable.assign(2 * first_weight(variable.name, variable.shape, seed))
    return built


def save(prepared: Prepared, built: Ranker, folder: Path) -> str:
    config = prepared.config
    graph = prepared.transform_graph.uri
    export.save(built, folder, config.features, config.tasks, graph)
    return str(folder)


@pytest.fixture(scope="module")
def models(prepared: Prepared, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Three models of one structure and two of another."""
    root = tmp_path_factory.mktemp("models")
    return {
        f"{size}{seed}": save(prepared, ranker(prepared, seed, SIZES[size]), root / f"{size}{seed}")
        for size, seed in (("small", 1), ("large", 1), ("small", 2), ("small", 3), ("large", 2))
    }


def raw_rows(prepared: Prepared) -> Path:
    return sorted((Path(prepared.examples.uri) / "Split-eval").glob("*.parquet"))[0]


def predictions(prepared: Prepared, folders: dict[str, str]) -> dict[str, np.ndarray]:
    """Of all models at once, batch by batch, so that they take turns."""
    config = prepared.config
    file = raw_rows(prepared)
    batches = pq.ParquetFile(file).iter_batches(batch_size=16)
    models = [predict.Predictor(name, folder) for name, folder in folders.items()]
    found = list(predict.predict(batches, models, config.features, config.tasks))
    assert len(found) > 2
    names = [predict.prediction(name, task.name) for name in folders for task in config.tasks]
    return {
        name: np.concatenate([batch.column(batch.schema.names.index(name)) for batch in found])
        for name in names
    }


def forget() -> None:
    """As a new process would be."""
    loaded_model._GRAPHS.clear()
    export._TEMPLATES.clear()
    materialize._GRAPHS.clear()


def test_models_in_turns_predict_as_each_alone_in_a_new_process(
    prepared: Prepared, models: dict[str, str]
) -> None:
    forget()
    together = predictions(prepared, models)
    for name, folder in models.items():
        forget()
        for column, values in predictions(prepared, {name: folder}).items():
            np.testing.assert_array_equal(together[column], values, err_msg=column)
    clicks = {together[f"{name}/click"].tobytes() for name in models}
    assert len(clicks) == len(models), "each has weights of its own"


def test_one_graph_is_loaded_per_structure(
    prepared: Prepared, models: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    forget()
    loaded: list[str] = []
    real = tf.saved_model.load
    monkeypatch.setattr(tf.saved_model, "load", lambda f: loaded.append(f) or real(f))
    predictions(prepared, models)
    assert len(loaded) == 2
    predictions(prepared, models)
    assert len(loaded) == 2


def test_later_exports_differ_from_the_first_in_their_variables_only(
    prepared: Prepared, models: dict[str, str], tmp_path: Path
) -> None:
    def files(folder: str) -> dict[str, bytes]:
        return {
            str(p.relative_to(folder)): p.read_bytes()
            for p in Path(folder).rglob("*")
            if p.is_file()
        }

    first, later = files(models["small1"]), files(models["small3"])
    assert first.keys() == later.keys()
    assert {name for name in first if first[name] != later[name]} == {
        "variables/variables.data-00000-of-00001",
        "variables/variables.index",
        "fingerprint.pb",
    }
    assert first["saved_model.pb"] != files(models["large1"])["saved_model.pb"]


def test_a_student_and_its_twin_are_one_graph_whichever_comes_first(
    prepared: Prepared, features: Any, tmp_path: Path
) -> None:
    shard = feature_table.read(feature_table.shards(features.uri, "eval")[0])
    blocks = {name: tf.constant(shard[name]) for name in Blocks.of(prepared.config.features).spec}
    for first in (True, False):
        forget()
        graphs = set()
        for twin in (first, not first):
            built = ranker(prepared, 1 + twin, twin=twin)
            assert bool(built.taught_tasks) != twin
            folder = tmp_path / f"{first}-{twin}"
            got = LoadedModel(save(prepared, built, folder))("logits", blocks)
            graphs.add((folder / "saved_model.pb").read_bytes())
            for task in built.served_tasks:
                np.testing.assert_allclose(got[task], built(blocks)[0][task], rtol=1e-5, atol=1e-6)
        assert len(graphs) == 1


BARE = """
import sys
import numpy as np
import tensorflow as tf

folder, inputs, outputs = sys.argv[1:]
model = tf.saved_model.load(folder)
blocks = {name: tf.constant(block) for name, block in np.load(inputs).items()}
np.savez(outputs, **{k: v.numpy() for k, v in model.signatures["logits"](**blocks).items()})
assert not {"tfx_distill", "tensorflow_transform"} & set(sys.modules)
"""


def test_a_later_export_serves_in_a_process_that_has_tensorflow_alone(
    prepared: Prepared, features: Any, models: dict[str, str], tmp_path: Path
) -> None:
    shard = feature_table.read(feature_table.shards(features.uri, "eval")[0])
    blocks = {name: shard[name] for name in Blocks.of(prepared.config.features).spec}
    np.savez(tmp_path / "inputs.npz", **blocks)
    arguments = [models["small2"], str(tmp_path / "inputs.npz"), str(tmp_path / "outputs.npz")]
    subprocess.run([sys.executable, "-I", "-c", BARE, *arguments], check=True, timeout=300)
    want, _ = ranker(prepared, 2)({name: tf.constant(block) for name, block in blocks.items()})
    with np.load(tmp_path / "outputs.npz") as got:
        assert set(got.files) == set(want)
        for task, values in want.items():
            np.testing.assert_allclose(got[task], values, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("architecture", ["shared_bottom", "dcn_v2"])
def test_every_architecture_gets_its_weights(
    prepared: Prepared, features: Any, tmp_path: Path, architecture: str
) -> None:
    shard = feature_table.read(feature_table.shards(features.uri, "eval")[0])
    blocks = {name: tf.constant(shard[name]) for name in Blocks.of(prepared.config.features).spec}
    for seed in (1, 2):
        built = ranker(prepared, seed, architecture=architecture)
        got = LoadedModel(save(prepared, built, tmp_path / str(seed)))("logits", blocks)
        for task, values in built(blocks)[0].items():
            np.testing.assert_allclose(got[task], values, rtol=1e-5, atol=1e-6)


def test_other_assets_are_another_structure(
    prepared: Prepared, models: dict[str, str], tmp_path: Path
) -> None:
    shutil.copytree(models["small1"], tmp_path / "model")
    (tmp_path / "model/assets/device").write_bytes(b"nothing known\n")
    columns = predictions(prepared, {"a": models["small1"], "b": str(tmp_path / "model")})
    assert not np.array_equal(columns["a/click"], columns["b/click"])
