"""TFMA's own writers, for tests that make an evaluation without the ModelEvaluator."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import apache_beam as beam
from tensorflow_model_analysis.proto import config_pb2
from tensorflow_model_analysis.writers import (
    eval_config_writer,
    metrics_plots_and_validations_writer,
)


def write(
    evaluation: Mapping[str, beam.PCollection], config: config_pb2.EvalConfig, folder: Path
) -> None:
    """Adds steps to a pipeline that leave what `tfma.load_eval_result` reads in a folder."""
    writers = [
        eval_config_writer.EvalConfigWriter(
            str(folder), config, data_location="", data_file_format="parquet", model_locations={}
        ),
        metrics_plots_and_validations_writer.MetricsPlotsAndValidationsWriter(
            output_paths={name: str(folder / name) for name in ("metrics", "plots")},
            eval_config=config,
            output_file_format="tfrecord",
        ),
    ]
    for number, writer in enumerate(writers):
        _ = evaluation | f"Write{number}" >> writer.ptransform
