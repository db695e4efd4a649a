"""VocabularyRefresher: what it learns, what it leaves alone, and who works on its output."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import apache_beam as beam
import numpy as np
import polars as pl
import pyarrow as pa
import pytest
import tensorflow as tf
import tensorflow_transform as tft
import tensorflow_transform.beam as tft_beam
from small_examples import BEAM, Prepared, logged, made
from tfx.dsl.components.common.importer import Importer
from tfx.orchestration import metadata
from tfx.orchestration.local.local_dag_runner import LocalDagRunner
from tfx.orchestration.pipeline import Pipeline
from tfx.types import standard_artifacts
from tfx_bsl.tfxio import parquet_tfxio

from tfx_distill.components.span_example_gen import SpanExampleGen, ingest
from tfx_distill.components.span_resolver import span_resolver
from tfx_distill.components.vocabulary_refresher import VocabularyRefresher
from tfx_distill.datasets import logs
from tfx_distill.datasets.example_shards import read_shard
from tfx_distill.datasets.logs import LogConfig
from tfx_distill.schema import tfmd
from tfx_distill.schema.config import ModelConfig
from tfx_distill.schema.errors import ModelError
from tfx_distill.trainer import export, vocabularies
from tfx_distill.trainer.export import ServingModel
from tfx_distill.trainer.features import preprocessing_fn
from tfx_distill.trainer.heads import Head
from tfx_distill.trainer.materialize import Materializer
from tfx_distill.trainer.ranker import Ranker

DUE = ("device", "video", "topics")
SPANS = (4, 5)


def later_log(span: int) -> pl.DataFrame:
    """The same columns, other values: ties at every cut, ids that come, go and stay."""
    before = logged()
    number = np.arange(before.height)
    devices = np.array(["pad"] * 4 + ["fridge"] * 3 + ["tv"] * 3 + ["phone"] * 2 + ["ü"] * 2)
    # Sixes and fours: 40, 5 and -1 tie for two places, and decimals sort as text.
    videos = np.array([9] * 6 + [40] * 4 + [5] * 4 + [-1] * 4 + [8] * 2)
    return before.with_columns(
        device=pl.Series([None if n % 9 == 0 else str(devices[n % 14]) for n in number]),
        video=pl.Series(videos[number % 20]),
        topics=pl.Series([[f"t{3 + (n + span) % 7}"] * (n % 3) + ["late"] for n in number]),
        age=pl.col("age") + 50.0,
    )


@dataclass(frozen=True)
class Later:
    """Two later spans, what was learned from them, and what TFT itself learns from them."""

    logs: LogConfig
    examples: list[Any]
    refreshed: Any
    reference: str


def refresh(examples: Sequence[Any], graph: Any, folder: Path, features: str, due: Any) -> Any:
    refreshed = made(standard_artifacts.TransformGraph, folder / "refreshed", 12)
    Path(refreshed.uri).mkdir(parents=True, exist_ok=True)  # as TFX does
    executor = VocabularyRefresher.EXECUTOR_SPEC.executor_class
    executor(executor.Context(tmp_dir=str(folder), unique_id="1")).Do(
        {"examples": list(examples), "transform_graph": [graph]},
        {"refreshed": [refreshed]},
        {
            "features": features,
            "due": json.dumps(dict.fromkeys(due, len(SPANS))),
            "span": SPANS[-1],
        },
    )
    return refreshed


def analyse(prepared: Prepared, shards: str, folder: Path) -> str:
    """What TFX's Transform would make of these shards."""
    config = prepared.config
    own = LogConfig.of(config)
    schema = tfmd.tfmd_schema(config, logs.column_types(own, logs.files(own.data)))
    source = parquet_tfxio.ParquetTFXIO(
        shards, column_names=[feature.name for feature in schema.feature], schema=schema
    )
    custom = {"features": config.features.model_dump_json(), "data": "later"}
    options = beam.pipeline.PipelineOptions(BEAM)
    with beam.Pipeline(options=options) as pipeline, tft_beam.Context(temp_dir=str(folder / "tmp")):
        raw = pipeline | "Read" >> source.BeamSource(batch_size=1000)
        analysed = (raw, source.TensorAdapterConfig()) | tft_beam.AnalyzeDataset(
            lambda inputs: preprocessing_fn(inputs, custom)
        )
        _ = analysed | tft_beam.WriteTransformFn(str(folder / "graph"))
    # Of the raw columns; it is the same for all spans.
    shutil.copytree(f"{prepared.transform_graph.uri}/metadata", folder / "graph/metadata")
    return str(folder / "graph")


@pytest.fixture(scope="module")
def later(prepared: Prepared, tmp_path_factory: pytest.TempPathFactory) -> Later:
    folder = tmp_path_factory.mktemp("later")
    config = prepared.config
    data = config.data.model_copy(
        update={"spans": f"{folder}/logs/span-{{SPAN}}/{{split}}-*.parquet", "shard_rows": 128}
    )
    own = LogConfig.of(config.model_copy(update={"data": data}))
    examples = []
    for span in SPANS:
        target = folder / f"logs/span-{span}"
        target.mkdir(parents=True)
        for (split,), part in later_log(span).partition_by("split", as_dict=True).items():
            part.drop("split").write_parquet(target / f"{split}-0.parquet")
        ingest(own, (span, span), folder / f"examples/{span}")
        examples.append(made(standard_artifacts.Examples, folder / f"examples/{span}", span))
        examples[-1].span = span
    features = config.features.model_dump_json()
    return Later(
        own,
        examples,
        refresh(examples, prepared.transform_graph, folder, features, DUE),
        analyse(prepared, f"{folder}/examples/*/Split-train/*.parquet", folder / "reference"),
    )


def blocks(graph: str, prepared: Prepared, examples: Any) -> dict[str, np.ndarray[Any, Any]]:
    """Feature blocks of the eval split, where there are values that no vocabulary holds."""
    materializer = Materializer(graph, prepared.config.features, prepared.config.tasks)
    shards = sorted(Path(examples.uri).glob("Split-eval/*.parquet"))
    rows = pa.Table.from_batches(
        [row for shard in shards for row in materializer.rows(read_shard(shard))]
    )
    return {
        name: np.array(rows.column(name).to_pylist())
        for name in ("numeric", "categorical", "multivalent")
    }


def test_the_new_vocabularies_are_those_that_transform_would_learn(later: Later) -> None:
    refreshed = tft.TFTransformOutput(later.refreshed.uri)
    reference = tft.TFTransformOutput(later.reference)
    for feature in DUE:
        assert refreshed.vocabulary_by_name(feature) == reference.vocabulary_by_name(feature)
    # By hand: 40 and 5 win the tie as text, the larger first.
    assert refreshed.vocabulary_by_name("video") == [b"9", b"5", b"40"]
    assert refreshed.vocabulary_by_name("topics")[0] == b"late"
    assert later.refreshed.get_int_custom_property("span") == SPANS[-1]


def test_ids_are_those_of_the_new_vocabularies_and_numbers_those_of_the_old_graph(
    later: Later, prepared: Prepared
) -> None:
    examples = later.examples[-1]
    got = blocks(later.refreshed.uri, prepared, examples)
    reference = blocks(later.reference, prepared, examples)
    old = blocks(prepared.transform_graph.uri, prepared, examples)
    for name in ("categorical", "multivalent"):
        np.testing.assert_array_equal(got[name], reference[name])
        assert not np.array_equal(got[name], old[name])
    # Three buckets for unknown devices, one for unknown videos, behind two and three ids.
    assert got["categorical"][:, 0].max() in (4, 5)
    assert got["categorical"][:, 1].max() == 4
    np.testing.assert_array_equal(got["numeric"], old["numeric"])
    assert not np.array_equal(got["numeric"], reference["numeric"])


def test_a_vocabulary_that_is_not_due_stays_and_so_does_every_other_file(
    later: Later, prepared: Prepared, tmp_path: Path
) -> None:
    features = prepared.config.features.model_dump_json()
    pinned = prepared.transform_graph
    refreshed = refresh(later.examples, pinned, tmp_path, features, ["video"])
    changed = {
        str(file.relative_to(pinned.uri))
        for file in Path(pinned.uri).rglob("*")
        if file.is_file()
        and (
            not (Path(refreshed.uri) / file.relative_to(pinned.uri)).exists()
            or (Path(refreshed.uri) / file.relative_to(pinned.uri)).read_bytes()
            != file.read_bytes()
        )
    }
    assert changed == {
        "transform_fn/assets/video",
        "transform_fn/fingerprint.pb",
        "transform_fn/saved_model.pb",
    }


def test_graphs_with_other_vocabularies_live_side_by_side(later: Later, prepared: Prepared) -> None:
    graphs = [prepared.transform_graph.uri, later.refreshed.uri, later.reference]
    examples = prepared.examples
    once = [blocks(graph, prepared, examples)["categorical"] for graph in graphs]
    again = [blocks(graph, prepared, examples)["categorical"] for graph in reversed(graphs)]
    for first, second in zip(once, reversed(again), strict=True):
        np.testing.assert_array_equal(first, second)
    assert not np.array_equal(once[0], once[1])


def test_graphs_and_models_of_other_vocabularies_have_other_bytes(
    later: Later, prepared: Prepared, tmp_path: Path
) -> None:
    # Their tables bear names of their own, also a second time, and names do not grow.
    features = prepared.config.features.model_dump_json()
    again = refresh(later.examples[:1], later.refreshed, tmp_path, features, DUE)
    pinned = prepared.transform_graph
    graphs = [
        (Path(graph.uri) / "transform_fn/saved_model.pb").read_bytes()
        for graph in (pinned, later.refreshed, again)
    ]
    assert len(set(graphs)) == 3
    assert len(graphs[1]) == len(graphs[2])
    # The same vocabularies give the same bytes.
    same = refresh(later.examples, again, tmp_path / "same", features, DUE)
    assert (Path(same.uri) / "transform_fn/saved_model.pb").read_bytes() == graphs[1]


def test_in_a_pipeline_it_takes_the_examples_of_several_runs(
    later: Later, prepared: Prepared, tmp_path: Path
) -> None:
    connection = metadata.sqlite_metadata_connection_config(str(tmp_path / "metadata.sqlite"))

    def run(*components: Any) -> None:
        LocalDagRunner().run(
            Pipeline(
                pipeline_name="refresh",
                pipeline_root=str(tmp_path / "root"),
                components=list(components),
                metadata_connection_config=connection,
            )
        )

    for span in SPANS:
        run(SpanExampleGen(config=later.logs.model_dump_json(), spans=str(span), fingerprint="-"))
    recent = span_resolver(
        standard_artifacts.Examples, "SpanExampleGen", first=SPANS[0], last=SPANS[-1]
    ).with_id("Recent")
    graph = Importer(
        source_uri=prepared.transform_graph.uri, artifact_type=standard_artifacts.TransformGraph
    )
    refresher = VocabularyRefresher(
        examples=recent.outputs["found"],
        transform_graph=graph.outputs["result"],
        features=prepared.config.features.model_dump_json(),
        due=json.dumps(dict.fromkeys(DUE, len(SPANS))),
        span=SPANS[-1],
    )
    run(recent, graph, refresher)
    (refreshed,) = (tmp_path / "root/VocabularyRefresher/refreshed").iterdir()
    for feature in DUE:
        assert vocabularies.read(str(refreshed), feature) == (
            vocabularies.read(later.refreshed.uri, feature)
        )


def test_a_pushed_model_serves_the_new_ids(
    later: Later, prepared: Prepared, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = prepared.config
    heads = tuple(Head(task) for task in config.tasks)
    ranker = Ranker(config.features, ModelConfig(), heads)
    rng = np.random.default_rng(3)
    for weight in ranker.trainable_variables:
        weight.assign(rng.normal(0, 0.3, weight.shape))
    example = tf.train.Example(
        features=tf.train.Features(
            feature={
                name: tf.train.Feature(**value)
                for name, value in {
                    "device": {"bytes_list": tf.train.BytesList(value=[b"fridge"])},
                    "video": {"int64_list": tf.train.Int64List(value=[40])},
                    "topics": {"bytes_list": tf.train.BytesList(value=[b"late"])},
                }.items()
            }
        )
    ).SerializeToString()
    export._TEMPLATES.clear()
    traced: list[object] = []
    monkeypatch.setattr(
        export, "ServingModel", lambda *given: traced.append(given) or ServingModel(*given)
    )
    features = config.features.model_dump_json()
    newer = refresh(later.examples[:1], later.refreshed, tmp_path, features, DUE)
    graphs = {
        "old": prepared.transform_graph.uri,
        "new": later.refreshed.uri,
        "newer": newer.uri,
    }
    served = {}
    for name, graph in graphs.items():
        export.save(ranker, str(tmp_path / name), config.features, config.tasks, graph)
        served[name] = tf.saved_model.load(str(tmp_path / name))
    assert len(traced) == 2, "what was traced with renewed vocabularies serves all later ones"
    for name, graph in graphs.items():
        output = tft.TFTransformOutput(graph)
        raw = {
            key: tf.SparseTensor(tf.zeros([0, 2], tf.int64), tf.zeros([0], spec.dtype), [1, 1])
            for key, spec in output.raw_feature_spec().items()
        }
        for key, value in (("device", b"fridge"), ("video", 40), ("topics", b"late"), ("place", 1)):
            raw[key] = tf.SparseTensor([[0, 0]], tf.constant([value], raw[key].dtype), [1, 1])
        made_blocks = output.transform_features_layer()(raw)
        expected, _ = ranker(
            {
                k: tf.cast(v, tf.float32 if k == "numeric" else tf.int32)
                for k, v in made_blocks.items()
            }
        )
        got = served[name].signatures["serving_default"](tf.constant([example]))
        np.testing.assert_allclose(got["click"], tf.sigmoid(expected["click"]), rtol=1e-5)
    signatures = [served[name].signatures["serving_default"] for name in ("old", "new")]
    old, new = (float(f(tf.constant([example]))["click"][0]) for f in signatures)
    assert old != new
    assert (tmp_path / "old/saved_model.pb").read_bytes() != (
        tmp_path / "new/saved_model.pb"
    ).read_bytes()


def test_fewer_values_than_places_keep_the_ids_that_were_there(
    prepared: Prepared, later: Later, tmp_path: Path
) -> None:
    wide = prepared.config.features.model_dump()
    wide["categorical"][1]["vocab"] = 7
    refreshed = refresh(
        later.examples, prepared.transform_graph, tmp_path, json.dumps(wide), ["video"]
    )
    # -1 and 5 occur and come first; 2**40 was there, and does not occur.
    assert tft.TFTransformOutput(refreshed.uri).vocabulary_by_name("video") == (
        [b"9", b"5", b"40", b"-1", b"8", str(2**40).encode()]
    )


def test_each_feature_learns_from_spans_of_its_own(
    prepared: Prepared, later: Later, tmp_path: Path
) -> None:
    refreshed = made(standard_artifacts.TransformGraph, tmp_path / "refreshed", 12)
    Path(refreshed.uri).mkdir()
    executor = VocabularyRefresher.EXECUTOR_SPEC.executor_class
    executor(executor.Context(tmp_dir=str(tmp_path), unique_id="1")).Do(
        {"examples": later.examples, "transform_graph": [prepared.transform_graph]},
        {"refreshed": [refreshed]},
        {
            "features": prepared.config.features.model_dump_json(),
            "due": json.dumps({"topics": 1, "device": 2}),
            "span": SPANS[-1],
        },
    )
    features = prepared.config.features.model_dump_json()
    last = refresh(
        later.examples[-1:], prepared.transform_graph, tmp_path / "last", features, ["topics"]
    )
    expected = {"topics": last.uri, "device": later.refreshed.uri}
    for name, graph in expected.items():
        assert vocabularies.read(refreshed.uri, name) == vocabularies.read(graph, name)
    assert vocabularies.read(refreshed.uri, "topics") != (
        vocabularies.read(later.refreshed.uri, "topics")
    )


def test_a_feature_without_a_vocabulary_is_refused(
    prepared: Prepared, later: Later, tmp_path: Path
) -> None:
    features = json.dumps({"categorical": [{"name": "user", "vocab": 3}]})
    with pytest.raises(ModelError, match="no vocabulary of the feature 'user'"):
        refresh(later.examples, prepared.transform_graph, tmp_path, features, ["user"])
