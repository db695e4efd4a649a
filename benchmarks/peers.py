"""Other ways to label examples with a SavedModel, on the same examples: TFX's and Beam's."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import apache_beam as beam
import pyarrow as pa
import tensorflow as tf
from apache_beam.ml.inference.base import ModelHandler, RunInference
from apache_beam.options.pipeline_options import PipelineOptions
from google.protobuf import json_format
from tfx.components.bulk_inferrer import executor
from tfx.proto import bulk_inferrer_pb2
from tfx.types import standard_artifacts, standard_component_specs
from tfx.utils import path_utils

from benchmarks.artifacts import BEAM_ARGUMENTS, artifact, execute
from tfx_distill.datasets import example_shards

_SIGNATURE = "serving_default"


def write_examples(shards: Sequence[Path], names: Sequence[str], rows: int, folder: Path) -> Path:
    """The first examples of some shards as ExampleGen writes them: tf.Examples, gzipped TFRecords.

    Args:
      shards: Of ingested examples.
      names: Features to take along.
      rows: How many examples.
      folder: Of the Examples artifact that is made.
    """
    file = folder / "Split-train" / "examples-00000-of-00001.gz"
    if file.exists():
        return folder
    file.parent.mkdir(parents=True)
    unfinished = file.with_suffix(".partial")
    with tf.io.TFRecordWriter(str(unfinished), "GZIP") as writer:
        left = rows
        for batch in (b for shard in shards for b in example_shards.read_shard(shard, names)):
            for row in batch.slice(0, left).to_pylist():
                writer.write(_example(row))
            left -= min(left, batch.num_rows)
            if not left:
                break
    unfinished.rename(file)
    return folder


def _example(row: dict[str, Any]) -> bytes:
    example = tf.train.Example()
    for name, values in row.items():
        feature = example.features.feature[name]
        for value in values or ():
            if isinstance(value, bytes):
                feature.bytes_list.value.append(value)
            elif isinstance(value, int):
                feature.int64_list.value.append(value)
            else:
                feature.float_list.value.append(value)
    return example.SerializeToString()


def bulk_inferrer(examples: Path, model: Path, scratch: Path) -> None:
    """TFX's BulkInferrer, its executor as the orchestrator calls it."""
    shutil.rmtree(scratch, ignore_errors=True)
    given = artifact(standard_artifacts.Examples, examples)
    given.split_names = '["train"]'
    specs = {
        standard_component_specs.DATA_SPEC_KEY: bulk_inferrer_pb2.DataSpec(),
        standard_component_specs.MODEL_SPEC_KEY: bulk_inferrer_pb2.ModelSpec(
            model_signature_name=[_SIGNATURE]
        ),
    }
    execute(
        executor.Executor,
        scratch,
        {
            standard_component_specs.EXAMPLES_KEY: given,
            standard_component_specs.MODEL_KEY: artifact(standard_artifacts.Model, model),
        },
        {
            standard_component_specs.INFERENCE_RESULT_KEY: artifact(
                standard_artifacts.InferenceResult, scratch / "inferred"
            )
        },
        {key: json_format.MessageToJson(spec) for key, spec in specs.items()},
    )


class _SavedModel(ModelHandler[bytes, dict[str, Any], Any]):
    """Beam's interface to a model, over a signature that takes serialised tf.Examples."""

    def __init__(self, folder: str) -> None:
        super().__init__()
        self._folder = folder

    def load_model(self) -> Any:
        return tf.saved_model.load(self._folder)

    def run_inference(
        self, batch: Sequence[bytes], model: Any, inference_args: dict[str, Any] | None = None
    ) -> list[dict[str, Any]]:
        outputs = model.signatures[_SIGNATURE](tf.constant(list(batch)))
        tasks = {task: tensor.numpy() for task, tensor in outputs.items()}
        return [{t: values[i] for t, values in tasks.items()} for i in range(len(batch))]


def run_inference(examples: Path, model: Path, scratch: Path) -> None:
    """Beam's RunInference over the same files, one example an element, written as Parquet."""
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir(parents=True)
    folder = path_utils.serving_model_path(str(model))
    with beam.Pipeline(options=PipelineOptions(list(BEAM_ARGUMENTS))) as pipeline:
        predicted = (
            pipeline
            | beam.io.ReadFromTFRecord(str(examples / "Split-train" / "*.gz"))
            | RunInference(_SavedModel(folder))
        )
        # Tasks are the same for all rows; the schema comes from the signature.
        loaded = tf.saved_model.load(folder).signatures[_SIGNATURE].structured_outputs
        schema = pa.schema([(task, pa.float32()) for task in sorted(loaded)])
        _ = (
            predicted
            | beam.Map(lambda row: {task: float(value) for task, value in row.items()})
            | beam.io.WriteToParquet(str(scratch / "predicted"), schema)
        )
