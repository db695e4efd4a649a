"""SpanExampleGen: ingests the logged examples of one or several spans.

This module has no deferred annotations: TFX reads those of a component function at run time.
"""

import errno
import shutil
from pathlib import Path

from tfx.components.util import examples_utils
from tfx.dsl.component.experimental.annotations import OutputArtifact, Parameter
from tfx.dsl.component.experimental.decorators import component
from tfx.proto import example_gen_pb2
from tfx.types import artifact_utils, standard_artifacts

from tfx_distill.datasets import logs
from tfx_distill.datasets.example_shards import ShardWriter, read_shard
from tfx_distill.schema import columns
from tfx_distill.schema.errors import DistillError, EnvironmentProblem

__all__ = ["SpanExampleGen", "ingest", "read_shard"]


@component
def SpanExampleGen(  # noqa: N802 - the name of a component class
    examples: OutputArtifact[standard_artifacts.Examples],
    config: Parameter[str],
    spans: Parameter[str],
    fingerprint: Parameter[str],
    carried: Parameter[int] = -1,
) -> None:
    """Reads, checks and stores logged examples, in columns.

    The examples of all spans but the last, and the train files of the last, become the train split;
    the eval files of the last span become the eval split, so that every evaluated example is later
    than every trained one. On a stream, a later span is ingested alone, and the eval files of the
    span before, evaluated by then, are carried over to its train split.

    Args:
      examples: Output, payload `FORMAT_PARQUET`: `Split-train` and `Split-eval` with shards as
        `datasets.example_shards` describes them. `span` is the last span. Custom properties:
        `spans`, `fingerprint` (of the log files), `rows_train`, `rows_eval`, `carried` and
        `watermark`, the newest event time of the train split in seconds since the epoch.
      config: A `datasets.logs.LogConfig` as JSON.
      spans: `FIRST-LAST`, or one number.
      fingerprint: `datasets.logs.fingerprint` of these spans and `carried`. Not read, but a part of
        the cache key: changed files are ingested anew.
      carried: An earlier span whose eval files become a part of the train split; -1 for none.

    Raises:
      DataError: The logs cannot be used. Nothing is published.

    Example:
      own = LogConfig.of(run_config)
      gen = SpanExampleGen(
          config=own.model_dump_json(),
          spans="0-3",
          fingerprint=logs.fingerprint(own.data, [0, 1, 2, 3]),
      )
      StatisticsGen(examples=gen.outputs["examples"])
    """
    report = ingest(
        logs.LogConfig.model_validate_json(config),
        logs.parse_spans(spans),
        Path(examples.uri),
        carried=None if carried < 0 else carried,
    )
    examples.split_names = artifact_utils.encode_split_names(list(columns.SPLITS))
    examples.span = report.spans[-1]
    examples.version = 0
    examples_utils.set_payload_format(examples, example_gen_pb2.PayloadFormat.FORMAT_PARQUET)
    examples_utils.set_file_format(
        examples,
        example_gen_pb2.FileFormat.Name(example_gen_pb2.FileFormat.FILE_FORMAT_PARQUET),
    )
    examples.set_string_custom_property("spans", spans)
    examples.set_string_custom_property("fingerprint", fingerprint)
    examples.set_int_custom_property("carried", carried)
    examples.set_int_custom_property("watermark", report.watermark)
    for split in columns.SPLITS:
        examples.set_int_custom_property(f"rows_{split}", report.rows(split))


def ingest(
    config: logs.LogConfig, spans: tuple[int, int], folder: Path, carried: int | None = None
) -> logs.Report:
    """Writes the splits of these spans into `folder`, all of them or none.

    Args:
      config: Says where the logs are and what they hold.
      spans: First and last span.
      folder: Gets `Split-train` and `Split-eval`; what is there of these is replaced.
      carried: An earlier span whose eval files become a part of the train split.

    Returns:
      What the check of the logs found.

    Raises:
      DataError: The logs cannot be used.
      EnvironmentProblem: The disk is full.
    """
    chosen = logs.split_files(config.data, logs.select_spans(config.data, spans), carried)
    types = logs.column_types(config, [*chosen["train"], *chosen["eval"]])
    census = logs.Census(types)
    unfinished = folder / "_unfinished"
    shutil.rmtree(unfinished, ignore_errors=True)
    try:
        for split in columns.SPLITS:
            target = unfinished / f"Split-{split}"
            target.mkdir(parents=True)
            # Evaluation keeps the order of time; training wants none.
            seed = config.seed if split == "train" else None
            writer = ShardWriter(target, config.data.shard_rows, shuffle=seed)
            for file in chosen[split]:
                census.open(file)
                for batch in logs.read(file, config, types):
                    census.add(batch)
                    writer.write(batch)
            writer.close()
        report = census.report()
        for split in columns.SPLITS:
            target = folder / f"Split-{split}"
            shutil.rmtree(target, ignore_errors=True)
            (unfinished / target.name).rename(target)
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        raise _disk_full(folder) from error
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return report


def _disk_full(folder: Path) -> DistillError:
    return EnvironmentProblem(
        str(folder),
        got=f"a full disk: {shutil.disk_usage(folder).free} bytes are free",
        expected="room for the ingested examples",
        fix="Free space, or set 'root' to another disk; then run again.",
    )
