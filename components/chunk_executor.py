"""TFX's generic trainer, fed with a window of chunks: of the teacher, students and twins alike."""

from __future__ import annotations

import json
import logging
from functools import partial
from pathlib import Path
from typing import Any

from tfx.components.trainer import executor as trainer_executor
from tfx.types import artifact, artifact_utils
from tfx.types.standard_component_specs import (
    CUSTOM_CONFIG_KEY,
    EXAMPLES_KEY,
    MODEL_KEY,
    MODEL_RUN_KEY,
    TRANSFORM_GRAPH_KEY,
)
from tfx.utils import json_utils

from tfx_distill.components import spark_workers
from tfx_distill.components.artifacts import read_snapshots
from tfx_distill.components.code_version import code_version
from tfx_distill.components.lineage_properties import (
    CODE,
    SPAN,
    TRANSFORM_GRAPH,
    WATERMARK,
    newest_by_span,
)
from tfx_distill.trainer import chunks, run
from tfx_distill.trainer.chunks import Chunk
from tfx_distill.trainer.job import TrainingJob

TEACHER_LABELS = "teacher_labels"
SPANS_TRAINED = "spans_trained"
"""Custom property of a Model artifact: the chunks of its last training, by their spans."""

_log = logging.getLogger(__name__)


class ChunkExecutor(trainer_executor.GenericExecutor):
    """Hands the chunks to the run_fn, and notes on the model how far it has come.

    The input `examples` holds one or more feature tables, `teacher_labels` (optional) the labels
    of each. Both are put in order by their property `span`. A student that distils does without the
    feature tables that have no labels, and so does a twin that is given labels: the two are to be
    trained on the same examples.
    """

    def Do(  # noqa: N802
        self,
        input_dict: dict[str, list[artifact.Artifact]],
        output_dict: dict[str, list[artifact.Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        """Trains; see `trainer.run.run_fn`."""
        super().Do(input_dict, output_dict, exec_properties)
        last = _window(input_dict, _job(exec_properties))[-1]
        model = artifact_utils.get_single_instance(output_dict[MODEL_KEY])
        folder = artifact_utils.get_single_uri(output_dict[MODEL_RUN_KEY])
        record = json.loads(Path(folder, run.RECORD).read_text())
        trained = ",".join(str(chunk["span"]) for chunk in record["chunks"])
        model.set_int_custom_property(SPAN, last.span)
        model.set_int_custom_property(WATERMARK, last.watermark)
        model.set_string_custom_property(TRANSFORM_GRAPH, last.transform_graph)
        model.set_string_custom_property(SPANS_TRAINED, trained)
        model.set_string_custom_property(CODE, code_version())

    def _GetFnArgs(  # noqa: N802
        self,
        input_dict: dict[str, list[artifact.Artifact]],
        output_dict: dict[str, list[artifact.Artifact]],
        exec_properties: dict[str, Any],
    ) -> Any:
        fn_args = super()._GetFnArgs(input_dict, output_dict, exec_properties)
        job = _job(exec_properties)
        fn_args.custom_config[run.CHUNKS] = chunks.to_json(_window(input_dict, job))
        if job.spark is not None:
            fn_args.custom_config[run.LAUNCH] = partial(spark_workers.train, job.spark)
        return fn_args


def _job(exec_properties: dict[str, Any]) -> TrainingJob:
    custom_config = json_utils.loads(exec_properties[CUSTOM_CONFIG_KEY])
    return TrainingJob.model_validate_json(custom_config[run.JOB])


def _window(input_dict: dict[str, list[artifact.Artifact]], job: TrainingJob) -> list[Chunk]:
    """The chunks, in order of span."""
    wants_labels = bool(job.taught) or (job.twin and TEACHER_LABELS in input_dict)
    graphs = input_dict.get(TRANSFORM_GRAPH_KEY) or []
    graph = graphs[-1].uri if graphs else ""
    labels = newest_by_span(input_dict.get(TEACHER_LABELS, []))
    window = []
    for span, features in newest_by_span(input_dict[EXAMPLES_KEY]).items():
        if wants_labels and span not in labels:
            _log.warning("Span %d is left out: nobody labelled %s.", span, features.uri)
            continue
        snapshots = read_snapshots(labels[span].uri) if span in labels else []
        window.append(
            Chunk(
                span=span,
                examples=features.uri,
                transform_graph=features.get_string_custom_property(TRANSFORM_GRAPH) or graph,
                watermark=features.get_int_custom_property(WATERMARK),
                snapshots=tuple(snapshot.to_json() for snapshot in snapshots),
            )
        )
    return window
