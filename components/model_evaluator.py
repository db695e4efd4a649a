"""ModelEvaluator: TFMA's metrics of a candidate and of what it is compared with, and a blessing.

All models predict each eval example once, in columns; the predictions are kept; TFMA computes the
metrics of all of them in one pass. See ADR 6 for why this is not TFX's Evaluator.
"""

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import apache_beam as beam
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
from tfx import v1 as tfx
from tfx.components.evaluator import constants as blessing_constants
from tfx.dsl.component.experimental.annotations import BeamComponentParameter
from tfx.types import artifact_utils, standard_artifacts
from tfx.utils import path_utils

from tfx_distill.components import column_extracts, evaluation_result
from tfx_distill.components.verdict import Verdict, judge
from tfx_distill.schema import columns
from tfx_distill.schema.config import (
    FeaturesConfig,
    RunConfig,
    Section,
    StudentConfig,
    TaskConfig,
    Threshold,
)
from tfx_distill.schema.errors import DataError, ModelError
from tfx_distill.trainer import predict

CANDIDATE = "candidate"
BASELINE = "baseline"
TWIN = "twin"
TEACHER = "teacher"

PARTITION_ROWS = 131_072
"""Rows that are in memory at once, about, while metrics are computed: some 100 bytes each."""

_MODULES = {
    "AreaUnderCurve": "area_under_curve",
    "GroupedAuc": "grouped_auc",
    "QueryNdcg": "query_ndcg",
    **dict.fromkeys(
        (
            "LogLoss",
            "CalibrationRatio",
            "SquaredError",
            "AbsoluteError",
            "Examples",
            "WeightedExamples",
            "NotFinite",
        ),
        "mean_metrics",
    ),
}
_EVERY_TASK = ("CalibrationRatio", "QueryNdcg", "Examples", "WeightedExamples", "NotFinite")
_METRICS = {
    "binary": ("AreaUnderCurve", "LogLoss", "GroupedAuc", *_EVERY_TASK),
    "regression": ("SquaredError", "AbsoluteError", *_EVERY_TASK),
}


class EvaluationConfig(Section):
    """The part of the run config that the evaluation of one model depends on.

    `tasks` are those that the model serves; `thresholds` are on these tasks only.
    """

    candidate: str
    features: FeaturesConfig
    tasks: tuple[TaskConfig, ...]
    thresholds: tuple[Threshold, ...]
    slices: tuple[str, ...] = ()
    ndcg_at: int = 10

    @classmethod
    def of_student(cls, run: RunConfig, student: StudentConfig) -> "EvaluationConfig":
        """For one student, on the tasks that it serves."""
        served = {task.name for task in run.tasks if student.tasks is None} | {
            *(student.tasks or ())
        }
        return cls._of(run, student.name, served, run.gate.students)

    @classmethod
    def of_teacher(cls, run: RunConfig) -> "EvaluationConfig":
        """For the teacher, which serves every task."""
        return cls._of(run, TEACHER, {task.name for task in run.tasks}, run.gate.teacher)

    @classmethod
    def _of(
        cls, run: RunConfig, candidate: str, served: set[str], thresholds: Iterable[Threshold]
    ) -> "EvaluationConfig":
        return cls(
            candidate=candidate,
            features=run.features,
            tasks=tuple(task for task in run.tasks if task.name in served),
            thresholds=tuple(t for t in thresholds if t.task in served),
            slices=run.gate.slices,
            ndcg_at=run.gate.ndcg_at,
        )


@tfx.dsl.components.component(use_beam=True)
def ModelEvaluator(  # noqa: N802
    examples: tfx.dsl.components.InputArtifact[standard_artifacts.Examples],
    model: tfx.dsl.components.InputArtifact[standard_artifacts.Model],
    config: tfx.dsl.components.Parameter[str],
    evaluation: tfx.dsl.components.OutputArtifact[standard_artifacts.ModelEvaluation],
    blessing: tfx.dsl.components.OutputArtifact[standard_artifacts.ModelBlessing],
    baseline: tfx.dsl.components.InputArtifact[standard_artifacts.Model] = None,
    twin: tfx.dsl.components.InputArtifact[standard_artifacts.Model] = None,
    teacher: tfx.dsl.components.InputArtifact[standard_artifacts.Model] = None,
    beam_pipeline: BeamComponentParameter[beam.Pipeline] = None,
) -> None:
    """Evaluates a model on the eval split and blesses it, or says why not.

    Args:
      examples: Ingested examples, in Parquet.
      model: The candidate.
      config: An EvaluationConfig as JSON.
      evaluation: TFMA's result, and what `evaluation_result` describes.
      blessing: As of TFX's Evaluator: honoured by the Pusher and the LatestBlessedModelStrategy.
        It is always written.
      baseline: The latest blessed model of the same student, from a Resolver; may be empty.
      twin: The student trained without distillation: the baseline where there is no other.
      teacher: Evaluated beside the others, for the reports; decides nothing.
      beam_pipeline: Comes from TFX.

    Example:
      evaluator = ModelEvaluator(
          examples=gen.outputs["examples"],
          model=trainer.outputs["model"],
          baseline=resolver.outputs["model"],
          twin=twin_trainer.outputs["model"],
          config=EvaluationConfig.of_student(run, student).model_dump_json(),
      ).with_id("ModelEvaluator.compact")

    Raises:
      DataError: The examples cannot be read.
      ModelError: A model cannot be used. Predictions that are not finite raise nothing: the
        candidate is refused.
    """
    settings = EvaluationConfig.model_validate_json(config)
    artifacts = {CANDIDATE: model, BASELINE: baseline, TWIN: twin, TEACHER: teacher}
    compared = _compared(
        {name: _serving_folder(a) for name, a in artifacts.items() if a is not None}, settings
    )
    files = _files(examples)
    with beam_pipeline as pipeline:
        _evaluate(pipeline, files, compared.models, settings, compared.baseline, evaluation.uri)
    values = _load(evaluation.uri)
    verdict = judge(
        settings.candidate,
        settings.thresholds,
        values.get(evaluation_result.OVERALL, {}),
        compared.baseline,
        compared.baseline_reason,
    )
    evaluation_result.write(evaluation.uri, values, verdict)
    _bless(blessing, verdict, model, artifacts[verdict.baseline] if verdict.baseline else None)


@dataclass(frozen=True)
class _Model:
    """A model to evaluate: its SavedModel and those of the wanted tasks that it serves."""

    folder: str
    tasks: tuple[str, ...]


@dataclass(frozen=True)
class _Compared:
    """The models of one evaluation, by name, and which of them is the baseline."""

    models: dict[str, _Model]
    baseline: Literal["baseline", "twin"] | None
    baseline_reason: str


def _serving_folder(model: Any) -> str:
    return str(
        path_utils.serving_model_path(model.uri, path_utils.is_old_model_artifact(model))
    )


def _compared(folders: Mapping[str, str], settings: EvaluationConfig) -> _Compared:
    """Looks at the models' signatures and chooses the baseline."""
    given = {
        feature.name
        for kind in (
            settings.features.numeric,
            settings.features.categorical,
            settings.features.multivalent,
        )
        for feature in kind
        if feature.serving_value is None
    }
    models: dict[str, _Model] = {}
    set_aside = ""
    for name, folder in folders.items():
        signature = predict.signature(folder)
        tasks = tuple(task.name for task in settings.tasks if task.name in signature.tasks)
        missing = sorted(signature.features - given)
        if name == BASELINE and (missing or not tasks):
            # Or a feature could never leave the config again once a model was blessed with it.
            set_aside = (
                f"The latest blessed model is set aside: it needs the features {missing}, which "
                "the config no longer has. "
                if missing
                else "The latest blessed model is set aside: it serves none of the tasks. "
            )
            continue
        absent = [task.name for task in settings.tasks if task.name not in signature.tasks]
        if name == CANDIDATE and absent:
            raise ModelError(
                f"model {settings.candidate!r} at {folder}",
                got=f"predictions of {sorted(signature.tasks)}",
                expected=f"also of {absent}",
                fix="Train the model again with the present config.",
            )
        if tasks:
            models[name] = _Model(folder, tasks)
    if BASELINE in models:
        return _Compared(models, BASELINE, "The baseline is the latest blessed model.")
    first = set_aside or "No model was blessed before. "
    if TWIN in models:
        return _Compared(models, TWIN, first + "The undistilled twin is the baseline.")
    return _Compared(models, None, first + "There is no undistilled twin either.")


def _files(examples: Any) -> list[Path]:
    """The shards of the eval split.

    Raises:
      DataError: There is none, or no row.
    """
    folder = Path(artifact_utils.get_split_uri([examples], "eval"))
    files = sorted(folder.glob("*.parquet"))
    if not files:
        raise DataError(
            str(folder),
            got="no Parquet file",
            expected="the eval split",
            fix="Ingest the span again.",
        )
    return files


def _evaluate(
    pipeline: beam.Pipeline,
    files: list[Path],
    models: Mapping[str, _Model],
    settings: EvaluationConfig,
    baseline: str | None,
    output: str,
) -> None:
    """Adds the steps: predict, keep, partition by query, let TFMA compute and write."""
    partitions = max(1, math.ceil(sum(_rows(file) for file in files) / PARTITION_ROWS))
    eval_config = _eval_config(models, settings, baseline)
    served = {name: model.tasks for name, model in models.items()}
    slicing = extractor.Extractor(
        # Under the name of TFMA's extractor, after which TFMA's evaluator runs.
        stage_name=slice_key_extractor.SLICE_KEY_EXTRACTOR_STAGE_NAME,
        ptransform=beam.FlatMap(_sliced, served, settings.slices),
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
            model_locations={name: model.folder for name, model in models.items()},
        ),
        # Not TFMA's validations: the verdict is ours.
        metrics_plots_and_validations_writer.MetricsPlotsAndValidationsWriter(
            output_paths={
                key: f"{output}/{key}"
                for key in ("metrics", "plots", "attributions")
            },
            eval_config=eval_config,
            output_file_format="tfrecord",
        ),
    ]
    shards = [(i, len(files), str(file)) for i, file in enumerate(files)]
    _ = (
        pipeline
        | "Shards" >> beam.Create(shards)
        | "OneByOne" >> beam.Reshuffle()
        | "Predict" >> beam.ParDo(_PredictShard(models, settings, output, partitions))
        | "ByQuery" >> beam.GroupByKey()
        | "Values" >> beam.Values()
        | "ExtractAndEvaluate"
        >> model_eval_lib.ExtractAndEvaluate(extractors=[slicing], evaluators=[evaluator])
        | "WriteResults" >> model_eval_lib.WriteResults(writers=writers)
    )


def _rows(file: Path) -> int:
    try:
        return int(pq.ParquetFile(str(file)).metadata.num_rows)
    except (pa.ArrowException, OSError):
        return 0  # Predicting will say what is wrong, in full.


def _sliced(
    tables: Iterable[pa.Table], served: Mapping[str, tuple[str, ...]], slices: tuple[str, ...]
) -> Iterator[dict[str, Any]]:
    return column_extracts.extracts(pa.concat_tables(tables), served, slices)


class _PredictShard(beam.DoFn):  # type: ignore[misc]
    """From a shard of examples to stored predictions, and these by partition of queries."""

    def __init__(
        self,
        models: Mapping[str, _Model],
        settings: EvaluationConfig,
        output: str,
        partitions: int,
    ) -> None:
        self._models = dict(models)
        self._settings = settings.model_dump_json()
        self._output = output
        self._partitions = partitions

    def setup(self) -> None:
        """Loads each model once per worker."""
        self._config = EvaluationConfig.model_validate_json(self._settings)
        self._predictors = [
            predict.Predictor(name, model.folder) for name, model in self._models.items()
        ]

    def process(self, shard: tuple[int, int, str]) -> Iterator[tuple[int, pa.Table]]:
        """Predicts one file; what is in memory is bounded by the shard."""
        index, count, file = shard
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
        batches = predict.predict(
            predict.read(Path(file), list(wanted)),
            self._predictors,
            config.features,
            config.tasks,
            config.slices,
        )
        predicted = list(batches)
        if not predicted:
            return
        table = pa.Table.from_batches(predicted)
        folder = Path(self._output) / "predictions"
        folder.mkdir(parents=True, exist_ok=True)
        name = f"part-{index:05d}-of-{count:05d}.parquet"
        # A retried shard replaces what it wrote before, and is seen only when complete.
        pq.write_table(table, folder / f".{name}")
        (folder / f".{name}").replace(folder / name)
        if self._partitions == 1:
            yield 0, table
            return
        partition = table.column(columns.QUERY_ID).to_numpy() % self._partitions
        for key in range(self._partitions):
            rows = table.filter(pa.array(partition == key))
            if rows.num_rows:
                yield key, rows


def _eval_config(
    models: Mapping[str, _Model], settings: EvaluationConfig, baseline: str | None
) -> config_pb2.EvalConfig:
    """TFMA's config: a spec for each model and kind of task."""
    config = config_pb2.EvalConfig(
        model_specs=[
            config_pb2.ModelSpec(
                name=name,
                is_baseline=name == baseline,
                label_keys={task: columns.label(task) for task in model.tasks},
                example_weight_keys={task: columns.weight(task) for task in model.tasks},
                prediction_keys={task: predict.prediction(name, task) for task in model.tasks},
            )
            for name, model in models.items()
        ],
        slicing_specs=[
            config_pb2.SlicingSpec(),
            *(config_pb2.SlicingSpec(feature_keys=[name]) for name in settings.slices),
        ],
    )
    for name, model in models.items():
        for kind, metrics in _METRICS.items():
            tasks = [t.name for t in settings.tasks if t.kind == kind and t.name in model.tasks]
            if tasks:
                config.metrics_specs.append(
                    config_pb2.MetricsSpec(
                        metrics=[_metric(metric, settings) for metric in metrics],
                        model_names=[name],
                        output_names=tasks,
                        example_weights=config_pb2.ExampleWeightOptions(weighted=True),
                    )
                )
    return config


def _metric(name: str, settings: EvaluationConfig) -> config_pb2.MetricConfig:
    return config_pb2.MetricConfig(
        class_name=name,
        module=f"tfx_distill.components.{_MODULES[name]}",
        config=f'{{"top_k": {settings.ndcg_at}}}' if name == "QueryNdcg" else "",
    )


def _load(output: str) -> dict[str, evaluation_result.ByModel]:
    """The values of TFMA's result, by slice, model, task and metric, without the differences."""
    out: dict[str, evaluation_result.ByModel] = {}
    for part in model_eval_lib.load_metrics(output):
        key = slicer_lib.deserialize_slice_key(part.slice_key)
        name = ",".join(f"{column}={value}" for column, value in key)
        by_model = out.setdefault(name, {})
        for item in part.metric_keys_and_values:
            if not item.key.is_diff:
                by_task = by_model.setdefault(item.key.model_name, {})
                values = by_task.setdefault(item.key.output_name, {})
                values[item.key.name] = item.value.double_value.value
    return out


def _bless(blessing: Any, verdict: Verdict, model: Any, baseline: Any) -> None:
    """Writes the blessing just as TFX's Evaluator does."""
    constants = blessing_constants
    blessing.set_string_custom_property(
        constants.ARTIFACT_PROPERTY_CURRENT_MODEL_URI_KEY, model.uri
    )
    blessing.set_int_custom_property(constants.ARTIFACT_PROPERTY_CURRENT_MODEL_ID_KEY, model.id)
    if baseline is not None:
        blessing.set_string_custom_property(
            constants.ARTIFACT_PROPERTY_BASELINE_MODEL_URI_KEY, baseline.uri
        )
        blessing.set_int_custom_property(
            constants.ARTIFACT_PROPERTY_BASELINE_MODEL_ID_KEY, baseline.id
        )
    value, file = (
        (constants.BLESSED_VALUE, constants.BLESSED_FILE_NAME)
        if verdict.blessed
        else (constants.NOT_BLESSED_VALUE, constants.NOT_BLESSED_FILE_NAME)
    )
    blessing.set_int_custom_property(constants.ARTIFACT_PROPERTY_BLESSED_KEY, value)
    folder = Path(blessing.uri)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / file).write_text("")
