"""A small evaluation as TFMA writes it, with values that the tests of its view know."""

from __future__ import annotations

from pathlib import Path

import apache_beam as beam
import numpy as np
import tfma_writers
from tensorflow_model_analysis.metrics import metric_types
from tensorflow_model_analysis.proto import config_pb2

from tfx_distill.components.column_metric import ScoredColumns
from tfx_distill.components.column_plot import ColumnPlot

MODELS = {"candidate": 0.0, "baseline": 0.1}
TASKS = ("click", "watch")
TV = "tv <i>old</i> </script>"
"""Values come from the data: what looks like HTML must be shown as it is."""
AUC = {"phone": 0.71, TV: 0.64, "desktop": 0.83}
COUNT = {"phone": 500.0, TV: 90.0, "desktop": 210.0}


def columns(rows: int = 4000) -> ScoredColumns:
    """Predictions that are a little too high, of a class."""
    rng = np.random.default_rng(3)
    prediction = rng.beta(2, 5, rows).astype(np.float32)
    label = (rng.random(rows) < 0.9 * prediction).astype(np.float64)
    return ScoredColumns(np.arange(rows), label, prediction, np.ones(rows))


def write(folder: Path) -> Path:
    """Writes metrics, plots and config; returns the folder."""
    config = config_pb2.EvalConfig(
        model_specs=[
            config_pb2.ModelSpec(name=name, is_baseline=name == "baseline") for name in MODELS
        ],
        slicing_specs=[config_pb2.SlicingSpec(), config_pb2.SlicingSpec(feature_keys=["device"])],
    )
    plot = ColumnPlot()
    protos = plot.results(plot.statistic(columns()))

    def key(kind: type, name: str, model: str, task: str) -> metric_types.MetricKey:
        return kind(name=name, model_name=model, output_name=task, example_weighted=True)

    def values(auc: float, count: float) -> dict[metric_types.MetricKey, float]:
        return {
            key(metric_types.MetricKey, name, model, task): value
            for model, lost in MODELS.items()
            for task in TASKS
            for name, value in (("auc", auc - lost), ("weighted_example_count", count))
        }

    metrics = [((), values(0.7, 800.0))]
    metrics += [((("device", name),), values(auc, COUNT[name])) for name, auc in AUC.items()]
    plots = {
        plot_key: proto
        for model in MODELS
        for plot_key, proto in zip(
            plot.keys(key(metric_types.MetricKey, "plots", model, "click")), protos, strict=True
        )
    }
    with beam.Pipeline(runner="FnApiRunner") as pipeline:
        evaluation = {
            "metrics": pipeline | "Metrics" >> beam.Create(metrics),
            "plots": pipeline | "Plots" >> beam.Create([((), plots)]),
        }
        tfma_writers.write(evaluation, config, folder)
    return folder
