"""SpanTransform against TFT's analysers, on columns made to be difficult."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pytest
import tensorflow as tf
import tensorflow_transform as tft
import tensorflow_transform.beam as tft_beam
from small_examples import BEAM, execute, made
from tensorflow_metadata.proto.v0 import schema_pb2
from tfx.types import standard_artifacts
from tfx_bsl.tfxio import parquet_tfxio

from tfx_distill.components import span_transform
from tfx_distill.components.span_transform import SpanTransform
from tfx_distill.datasets.example_shards import ShardWriter
from tfx_distill.schema import columns, tfmd
from tfx_distill.schema.config import CategoricalFeature, FeaturesConfig
from tfx_distill.trainer.features import preprocessing_fn

ROWS = 500
SHARDS = 5
TYPES = {
    "price": pa.float32(),
    "count": pa.int64(),
    "huge": pa.float32(),
    "several": pa.list_(pa.float32()),
    "nowhere": pa.float32(),
    "word": pa.large_binary(),
    "number": pa.int64(),
    "words": pa.list_(pa.large_binary()),
    "no_word": pa.large_binary(),
    "no_number": pa.int64(),
    "hashed": pa.large_binary(),
    "no_words": pa.list_(pa.large_binary()),
}
FEATURES = FeaturesConfig.model_validate(
    {
        "numeric": [
            "price",
            {"name": "count", "transform": "log1p"},
            "huge",
            "several",
            "nowhere",
        ],
        "categorical": [
            {"name": "word", "vocab": 6, "oov_buckets": 2},
            {"name": "number", "vocab": 5},
            {"name": "no_word", "vocab": 3, "oov_buckets": 2},
            {"name": "no_number", "vocab": 3},
            {"name": "hashed", "buckets": 8},
        ],
        "multivalent": [
            {"name": "words", "vocab": 9, "max_length": 3},
            {"name": "no_words", "vocab": 9, "max_length": 2},
        ],
    }
)


def rows() -> dict[str, list[Any]]:
    """Missing, empty, tied and broken values; bytes that are no text; several numbers in a row."""
    rng = np.random.default_rng(3)
    number = range(ROWS)
    words = [b"a", b"b", b"", b"c\nd", b"\xff\xfe", b"e f", "ü".encode(), b"z", b"y\r", b"q"]
    ids = [7, -1, 40, 5, 2**40, -1, 0]
    return {
        "price": [None if n % 3 == 0 else float(v) for n, v in enumerate(rng.normal(5, 2, ROWS))],
        "count": [None if n % 5 == 0 else n % 40 - 4 for n in number],
        "huge": [1e6 + n % 7 for n in number],
        "several": [None if n % 4 == 0 else [1.0 * n] * (n % 4) + [9e9] for n in number],
        "nowhere": [None] * ROWS,
        "word": [None if n % 6 == 0 else words[n % 10] for n in number],
        "number": [None if n % 11 == 0 else ids[n % 7] for n in number],
        "words": [
            None if n % 7 == 0 else [words[n * k % 10] for k in range(n % 5)] for n in number
        ],
        "no_word": [None] * ROWS,
        "no_number": [None] * ROWS,
        "hashed": [b"%d" % n for n in number],
        "no_words": [[]] * ROWS,
    }


@dataclass(frozen=True)
class Graphs:
    """Of SpanTransform and of TFT, on the same examples."""

    own: str
    stock: str


def by_tft(schema: schema_pb2.Schema, shards: str, folder: Path) -> str:
    source = parquet_tfxio.ParquetTFXIO(
        shards, column_names=[feature.name for feature in schema.feature], schema=schema
    )
    custom = {"features": FEATURES.model_dump_json(), "data": "stock"}
    options = beam.pipeline.PipelineOptions(BEAM)
    with beam.Pipeline(options=options) as pipeline, tft_beam.Context(temp_dir=str(folder / "tmp")):
        raw = pipeline | "Read" >> source.BeamSource(batch_size=90)
        analysed = (raw, source.TensorAdapterConfig()) | tft_beam.AnalyzeDataset(
            lambda inputs: preprocessing_fn(inputs, custom)
        )
        _ = analysed | tft_beam.WriteTransformFn(str(folder / "stock"))
        raw_metadata = str(folder / "stock/metadata")
        _ = tft.DatasetMetadata(schema) | tft_beam.WriteMetadata(raw_metadata, pipeline)
    return str(folder / "stock")


@pytest.fixture(scope="module")
def graphs(tmp_path_factory: pytest.TempPathFactory) -> Graphs:
    folder = tmp_path_factory.mktemp("transform")
    train = folder / "examples/Split-train"
    train.mkdir(parents=True)
    batch = pa.RecordBatch.from_pydict(
        {columns.QUERY_ID: list(range(ROWS))} | rows(),
        schema=pa.schema({columns.QUERY_ID: pa.int64()} | TYPES),
    )
    writer = ShardWriter(train, shard_rows=ROWS // SHARDS)
    writer.write(batch)
    writer.close()
    assert len(list(train.iterdir())) == SHARDS
    kinds = {pa.int64(): schema_pb2.INT, pa.float32(): schema_pb2.FLOAT}
    schema = schema_pb2.Schema()
    for name, kind in TYPES.items():
        item = kind.value_type if pa.types.is_list(kind) else kind
        schema.feature.add(name=name, type=kinds.get(item, schema_pb2.BYTES))
    tfmd.write(schema, folder / "schema")
    own = made(standard_artifacts.TransformGraph, folder / "own")
    execute(
        SpanTransform,
        folder,
        {
            "examples": made(standard_artifacts.Examples, folder / "examples"),
            "schema": made(standard_artifacts.Schema, folder / "schema"),
        },
        {"transform_graph": own},
        features=FEATURES.model_dump_json(),
        data="own",
    )
    return Graphs(own.uri, by_tft(schema, f"{train}/*.parquet", folder))


def files(graph: str) -> dict[str, bytes]:
    """All but the graph itself and its variables, which it has none of."""
    return {
        str(file.relative_to(graph)): file.read_bytes()
        for file in Path(graph).rglob("*")
        if file.is_file() and file.parent.name not in ("transform_fn", "variables")
    }


def test_vocabularies_and_schemas_are_those_of_tft(graphs: Graphs) -> None:
    own = files(graphs.own)
    assert own == files(graphs.stock)
    assert {Path(name).name for name in own if "assets" in name} == {
        *("word", "number", "words", "no_word", "no_number", "no_words")
    }


def test_examples_become_what_they_become_by_tft(graphs: Graphs) -> None:
    given = rows()
    given["word"][:2] = [b"never seen", b"neither"]
    given["number"][:2] = [99, 98]
    given["nowhere"][0], given["no_word"][0], given["no_number"][0] = 1.0, b"x", 8

    def blocks(graph: str) -> dict[str, Any]:
        output = tft.TFTransformOutput(graph)
        spec = output.raw_feature_spec()
        made = output.transform_features_layer()(
            {
                name: tf.RaggedTensor.to_sparse(
                    tf.ragged.constant(
                        [[] if v is None else v if isinstance(v, list) else [v] for v in values],
                        spec[name].dtype,
                        ragged_rank=1,
                    )
                )
                for name, values in given.items()
            }
        )
        return {name: block.numpy() for name, block in made.items()}

    own, stock = blocks(graphs.own), blocks(graphs.stock)
    assert own.keys() == stock.keys() == {"numeric", "categorical", "multivalent"}
    for name in ("categorical", "multivalent"):
        np.testing.assert_array_equal(own[name], stock[name])
        assert len(np.unique(own[name])) > 4
    # TFT adds up in another order, and `huge` is 1e6 with a variance of 4.
    np.testing.assert_allclose(own["numeric"], stock["numeric"], rtol=1e-5, atol=1e-5)
    assert own["numeric"][:, 2].std() == pytest.approx(1, abs=0.01)


def test_nothing_else_is_left_in_the_artifact(graphs: Graphs) -> None:
    assert {file.name for file in Path(graphs.own).iterdir()} == {
        *("metadata", "transform_fn", "transformed_metadata")
    }


def test_no_two_vocabularies_are_one_file(tmp_path: Path) -> None:
    names = ("a.b", "a_b", "a-b", "a/b", "a%2Fb")
    features = [CategoricalFeature(name=name, vocab=2) for name in names]
    files = {span_transform._file(tmp_path, feature) for feature in features}
    assert len(files) == len(names)
    assert {Path(file).parent for file in files} == {tmp_path}
