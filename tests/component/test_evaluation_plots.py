"""Our plots through TFMA's own evaluator, writer and reader, beside metrics that are compared."""

from __future__ import annotations

from pathlib import Path

import apache_beam as beam
import numpy as np
import pytest
import tensorflow_model_analysis as tfma
import tfma_writers
from tensorflow_model_analysis import constants
from tensorflow_model_analysis.evaluators import (
    metrics_plots_and_validations_evaluator as evaluators,
)
from tensorflow_model_analysis.proto import config_pb2
from tensorflow_model_analysis.slicer import slicer_lib
from tensorflow_model_analysis.view import util

from tfx_distill.components.column_plot import ColumnPlot
from tfx_distill.components.mean_metrics import LogLoss
from tfx_distill.schema.columns import QUERY_ID

LABEL = np.array([0.0, 1, 1, 0])
PREDICTION = np.array([0.25, 0.5, 0.75, 0.5], np.float32)


@pytest.fixture(scope="module")
def evaluation(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two models, the second one better, on four examples in two partitions."""
    folder = tmp_path_factory.mktemp("evaluation")
    metrics = [
        config_pb2.MetricConfig(class_name=type(m).__name__, module=type(m).__module__)
        for m in (LogLoss(), ColumnPlot())
    ]
    config = config_pb2.EvalConfig(
        model_specs=[
            config_pb2.ModelSpec(name="candidate"),
            config_pb2.ModelSpec(name="baseline", is_baseline=True),
        ],
        slicing_specs=[config_pb2.SlicingSpec()],
        metrics_specs=[
            config_pb2.MetricsSpec(
                metrics=metrics,
                model_names=[name],
                output_names=["click"],
                example_weights=config_pb2.ExampleWeightOptions(weighted=True),
            )
            for name in ("candidate", "baseline")
        ],
    )
    extracts = [
        {
            constants.FEATURES_KEY: {QUERY_ID: np.arange(4)[rows]},
            constants.LABELS_KEY: {"click": LABEL[rows]},
            constants.EXAMPLE_WEIGHTS_KEY: {"click": np.ones(4)[rows]},
            constants.PREDICTIONS_KEY: {
                "candidate": {"click": PREDICTION[rows]},
                "baseline": {"click": PREDICTION[rows] / 2},
            },
            constants.SLICE_KEY_TYPES_KEY: [()],
        }
        for rows in (slice(0, 2), slice(2, 4))
    ]
    with beam.Pipeline(runner="FnApiRunner") as pipeline:
        found = (
            pipeline
            | beam.Create(extracts)
            | evaluators.MetricsPlotsAndValidationsEvaluator(config).ptransform
        )
        tfma_writers.write(found, config, folder)
    return folder


@pytest.mark.parametrize(("model", "scale"), [("candidate", 1.0), ("baseline", 0.5)])
def test_tfma_reads_the_plots_of_each_model(evaluation: Path, model: str, scale: float) -> None:
    result = tfma.load_eval_result(str(evaluation), model_name=model)
    plot, config = util.get_plot_data_and_config(
        result.plots, slicer_lib.SingleSliceSpec(), output_name="click"
    )
    assert config["sliceName"] == "Overall"
    buckets = [
        (b["totalWeightedRefinedPrediction"], b["totalWeightedLabel"], b["numWeightedExamples"])
        for b in plot["calibrationHistogramBuckets"]["buckets"]
        if b["numWeightedExamples"]
    ]
    assert buckets == [(0.25 * scale, 0, 1), (1.0 * scale, 1, 2), (0.75 * scale, 1, 1)]
    matrices = plot["confusionMatrixAtThresholds"]["matrices"]
    assert [m.get("truePositives", 0) for m in matrices] == [2, 2, 1, 0]
    assert [m.get("falsePositives", 0) for m in matrices] == [2, 1, 0, 0]


def test_metrics_beside_them_are_still_compared(evaluation: Path) -> None:
    result = tfma.load_eval_result(str(evaluation), model_name="candidate")
    ((_, values),) = result.slicing_metrics
    found = {name: value["doubleValue"] for name, value in values["click"][""].items()}

    def log_loss(prediction: np.ndarray) -> float:
        return float(-np.mean(np.log(np.where(LABEL, prediction, 1 - prediction))))

    assert found == {
        "log_loss": pytest.approx(log_loss(PREDICTION)),
        "log_loss_diff": pytest.approx(log_loss(PREDICTION) - log_loss(PREDICTION / 2)),
    }
