"""SpanValidator: compares the statistics of a span with its schema and with the span before.

This module has no deferred annotations: TFX reads those of a component function at run time.
"""

import logging
from pathlib import Path
from typing import Any

import tensorflow_data_validation as tfdv
from google.protobuf import text_format
from tensorflow_metadata.proto.v0 import anomalies_pb2, schema_pb2, statistics_pb2
from tfx.dsl.component.experimental.annotations import InputArtifact, OutputArtifact, Parameter
from tfx.dsl.component.experimental.decorators import component
from tfx.types import artifact_utils, standard_artifacts

from tfx_distill.schema.config import ValidationConfig
from tfx_distill.schema.errors import DataError

FILE = "SchemaDiff.pb"
"""The anomalies of a split, named as TFX's ExampleValidator names them."""


@component
def SpanValidator(  # noqa: N802
    statistics: InputArtifact[standard_artifacts.ExampleStatistics],
    schema: InputArtifact[standard_artifacts.Schema],
    anomalies: OutputArtifact[standard_artifacts.ExampleAnomalies],
    config: Parameter[str],
    previous: InputArtifact[standard_artifacts.ExampleStatistics] = None,
) -> None:
    """TFX's ExampleValidator, which knows the schema, plus the drift against the span before.

    Each split is compared with the same split of the span before. What counts as drift is in the
    schema: its drift comparators, which `schema.tfmd` sets from `data.validation`.

    Args:
      statistics: From StatisticsGen.
      schema: Of the examples.
      anomalies: Output: `Split-<split>/SchemaDiff.pb`, one TFMD `Anomalies` message each, with the
        measured drift of every compared feature. `span` is that of the statistics; the custom
        property `blessed` is 1 for each split without an anomaly, as in TFX.
      config: A `ValidationConfig` as JSON: whether anomalies warn or fail.
      previous: Statistics of the span before; without them nothing drifts.

    Raises:
      DataError: There are anomalies, and `on_breach` is `fail`. The message lists them all, since
        TFX removes what a failed component wrote.

    Example:
      SpanValidator(
          statistics=statistics_gen.outputs["statistics"],
          schema=schema_gen.outputs["schema"],
          config=run_config.data.validation.model_dump_json(),
          previous=statistics_before.outputs["found"],
      )
    """
    found = validate(statistics, schema.uri, previous)
    for split, result in found.items():
        file = Path(anomalies.uri) / f"Split-{split}" / FILE
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(result.SerializeToString())
    anomalies.split_names = artifact_utils.encode_split_names(list(found))
    anomalies.span = statistics.span
    lines = {split: describe(result) for split, result in found.items()}
    anomalies.set_json_value_custom_property(
        "blessed", {split: int(not texts) for split, texts in lines.items()}
    )
    breaches = [f"{split}, {text}" for split, texts in lines.items() for text in texts]
    for breach in breaches:
        logging.warning("span %d: %s", statistics.span, breach)
    if breaches and ValidationConfig.model_validate_json(config).on_breach == "fail":
        raise DataError(
            f"span {statistics.span}",
            got="; ".join(breaches),
            expected="examples that fit the schema and are like those of the span before "
            "(data.validation)",
            fix="Nothing was trained on the span. Correct its logs, or accept it: raise the limits "
            "in data.validation, or set its `on_breach` to warn.",
        )


def validate(
    statistics: Any, schema_folder: str, previous: Any = None
) -> dict[str, anomalies_pb2.Anomalies]:
    """The anomalies of each split; see `SpanValidator` for the arguments."""
    (schema_file,) = Path(schema_folder).iterdir()
    schema = text_format.Parse(schema_file.read_text(), schema_pb2.Schema())
    earlier = {} if previous is None else _by_split(previous)
    return {
        split: tfdv.validate_statistics(
            stats, schema=schema, previous_statistics=earlier.get(split)
        )
        for split, stats in _by_split(statistics).items()
    }


def describe(found: anomalies_pb2.Anomalies) -> list[str]:
    """One line for each anomaly, by column; empty if all is well."""
    lines = [f"{column}: {info.description}" for column, info in sorted(found.anomaly_info.items())]
    if found.HasField("dataset_anomaly_info"):
        lines.append(f"all columns: {found.dataset_anomaly_info.description}")
    return lines


def _by_split(statistics: Any) -> dict[str, statistics_pb2.DatasetFeatureStatisticsList]:
    return {
        split: tfdv.load_stats_binary(
            str(Path(statistics.uri) / f"Split-{split}" / "FeatureStats.pb")
        )
        for split in artifact_utils.decode_split_names(statistics.split_names)
    }
