"""The Beam steps of an evaluation: predict, keep, partition by query, let TFMA do the rest."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from tensorflow_model_analysis.api import model_eval_lib
from tensorflow_model_analysis.evaluators import metrics_plots_and_validations_evaluator
from tensorflow_model_analysis.extractors import extractor, slice_key_extractor
from tensorflow_model_analysis.proto import config_pb2
from tensorflow_model_analysis.slicer import slicer_lib
from tensorflow_model_analysis.writers import (
    eval_config_writer,
    metrics_plots_and_validations_writer,
)

from tfx_distill.components.area_under_curve import AreaUnderCurve
from tfx_distill.components.column_extracts import extracts
from tfx_distill.components.column_metric import ColumnMetric
from tfx_distill.components.column_plot import ColumnPlot
from tfx_distill.components.comparison import Compared, Comparison
from tfx_distill.components.evaluation_config import EvaluationConfig
from tfx_distill.components.evaluation_result import PREDICTIONS, ByModel
from tfx_distill.components.grouped_auc import GroupedAuc
from tfx_distill.components.mean_metrics import (
    AbsoluteError,
    CalibrationRatio,
    Examples,
    LogLoss,
    NotFinite,
    SquaredError,
    WeightedExamples,
)
from tfx_distill.components.query_ndcg import QueryNdcg
from tfx_distill.components.stored_predictions import PARTITION_ROWS
from tfx_distill.schema import columns
from tfx_distill.trainer import predict


def evaluate(
    pipeline: beam.Pipeline,
    files: Sequence[Path],
    compared: Comparison,
    config: EvaluationConfig,
    output: str,
) -> None:
    """Adds the steps to a pipeline.

    Args:
      pipeline: Where to add them.
      files: Shards of ingested examples, in Parquet.
      compared: The models.
      config: What to evaluate them on.
      output: Folder of the stored predictions and of TFMA's result.
    """
    partitions = math.ceil(sum(predict.rows(file) for file in files) / PARTITION_ROWS)
    eval_config = _eval_config(compared, config)
    served = {name: model.tasks for name, model in compared.models.items()}
    slicing = extractor.Extractor(
        # Under the name of TFMA's extractor, after which TFMA's evaluator runs.
        stage_name=slice_key_extractor.SLICE_KEY_EXTRACTOR_STAGE_NAME,
        ptransform=beam.FlatMap(_sliced, served, config.slices),
    )
    evaluator = metrics_plots_and_validations_evaluator.MetricsPlotsAndValidationsEvaluator(
        eval_config
    )
    writers = [
        eval_config_writer.EvalConfigWriter(
            output,
            eval_config=eval_config,
            data_location=str(files[0].parent),
            data_file_format="parquet",
            model_locations={name: model.folder for name, model in compared.models.items()},
        ),
        # TFMA's validations are left out: the verdict is ours, and there must not be two. So are
        # its attributions, of which there are none: each file costs a dozen steps of Beam.
        metrics_plots_and_validations_writer.MetricsPlotsAndValidationsWriter(
            output_paths={key: f"{output}/{key}" for key in ("metrics", "plots")},
            eval_config=eval_config,
            output_file_format="tfrecord",
        ),
    ]
    _ = (
        pipeline
        | "Shards" >> beam.Create([(i, str(file)) for i, file in enumerate(files)])
        | "OneByOne" >> beam.Reshuffle()
        | "Predict" >> beam.ParDo(_PredictShard(compared.models, config, output, partitions))
        | "ByQuery" >> beam.GroupByKey()
        | "Partitions" >> beam.Values()
        | "ExtractAndEvaluate"
        >> model_eval_lib.ExtractAndEvaluate(extractors=[slicing], evaluators=[evaluator])
        | "WriteResults" >> model_eval_lib.WriteResults(writers=writers)
    )


def load(output: str) -> dict[str, ByModel]:
    """The values of TFMA's result by slice, model, task and metric, without the differences."""
    out: dict[str, ByModel] = {}
    for part in model_eval_lib.load_metrics(output):
        key = slicer_lib.deserialize_slice_key(part.slice_key)
        by_model = out.setdefault(",".join(f"{column}={value}" for column, value in key), {})
        for item in part.metric_keys_and_values:
            if not item.key.is_diff:
                by_task = by_model.setdefault(item.key.model_name, {})
                values = by_task.setdefault(item.key.output_name, {})
                values[item.key.name] = item.value.double_value.value
    return out


def _sliced(
    tables: Iterable[pa.Table], served: Mapping[str, tuple[str, ...]], slices: tuple[str, ...]
) -> Iterator[dict[str, Any]]:
    return extracts(pa.concat_tables(tables), served, slices)


class _PredictShard(beam.DoFn):
    """From a shard of examples to stored predictions, and these by partition of the queries."""

    def __init__(
        self,
        models: Mapping[str, Compared],
        config: EvaluationConfig,
        output: str,
        partitions: int,
    ) -> None:
        self._models = dict(models)
        self._config = config
        self._output = output
        self._partitions = partitions

    def setup(self) -> None:
        """Loads each model once per worker."""
        self._predictors = [
            predict.Predictor(name, model.folder) for name, model in self._models.items()
        ]

    def process(self, shard: tuple[int, str]) -> Iterator[tuple[int, pa.Table]]:
        """Predicts one file; memory is bounded by the shard."""
        index, file = shard
        config = self._config
        wanted = dict.fromkeys(
            (
                columns.EXAMPLE_ID,
                columns.QUERY_ID,
                *config.features.names,
                *(task.label for task in config.tasks),
                *(task.applies_when for task in config.tasks if task.applies_when),
                *config.slices,
            )
        )
        predicted = list(
            predict.predict(
                predict.read(Path(file), list(wanted)),
                self._predictors,
                config.features,
                config.tasks,
                config.slices,
            )
        )
        if not predicted:
            return
        table = pa.Table.from_batches(predicted)
        self._keep(table, f"part-{index:05d}.parquet")
        partition = table.column(columns.QUERY_ID).to_numpy() % self._partitions
        order = np.argsort(partition, kind="stable")
        sorted_table = table.take(pa.array(order)) if self._partitions > 1 else table
        keys, starts = np.unique(partition[order], return_index=True)
        for key, start, end in zip(keys, starts, [*starts[1:], len(order)], strict=True):
            yield int(key), sorted_table.slice(start, end - start)

    def _keep(self, table: pa.Table, name: str) -> None:
        folder = Path(self._output) / PREDICTIONS
        folder.mkdir(parents=True, exist_ok=True)
        # A retried shard replaces what it wrote before, and is seen only when complete.
        pq.write_table(table, folder / f".{name}")
        (folder / f".{name}").replace(folder / name)


_EVERY_KIND = (CalibrationRatio, Examples, WeightedExamples, NotFinite)


def _metrics(kind: str, config: EvaluationConfig) -> list[ColumnMetric]:
    """The metrics and plots of a kind of task; metrics are named as thresholds in the config."""
    ranking = QueryNdcg(top_k=config.ndcg_at)
    plots = ColumnPlot(thresholds=kind == "binary")
    if kind == "binary":
        own: list[ColumnMetric] = [AreaUnderCurve(), LogLoss(), GroupedAuc(), ranking]
    else:
        own = [SquaredError(), AbsoluteError(), ranking]
    return [*own, *(metric() for metric in _EVERY_KIND), plots]


def _eval_config(compared: Comparison, config: EvaluationConfig) -> config_pb2.EvalConfig:
    """TFMA's config: a spec for each model and kind of task."""
    result = config_pb2.EvalConfig(
        model_specs=[
            config_pb2.ModelSpec(
                name=name,
                is_baseline=name == compared.baseline,
                label_keys={task: columns.label(task) for task in model.tasks},
                example_weight_keys={task: columns.weight(task) for task in model.tasks},
                prediction_keys={task: predict.prediction(name, task) for task in model.tasks},
            )
            for name, model in compared.models.items()
        ],
        slicing_specs=[
            config_pb2.SlicingSpec(),
            *(config_pb2.SlicingSpec(feature_keys=[name]) for name in config.slices),
        ],
    )
    for name, model in compared.models.items():
        for kind in ("binary", "regression"):
            tasks = [t.name for t in config.tasks if t.kind == kind and t.name in model.tasks]
            if tasks:
                result.metrics_specs.append(
                    config_pb2.MetricsSpec(
                        metrics=[_metric_config(metric) for metric in _metrics(kind, config)],
                        model_names=[name],
                        output_names=tasks,
                        example_weights=config_pb2.ExampleWeightOptions(weighted=True),
                    )
                )
    return result


def _metric_config(metric: ColumnMetric) -> config_pb2.MetricConfig:
    return config_pb2.MetricConfig(
        class_name=type(metric).__name__,
        module=type(metric).__module__,
        config=json.dumps(metric.get_config()),
    )
