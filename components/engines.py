"""Which engine carries shard work: Beam, or Spark where a component is given one."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import apache_beam as beam

from tfx_distill.components import beam_engine, spark_engine
from tfx_distill.components.shard_work import Note, Shard, ShardWork
from tfx_distill.schema.config import Engine, RunConfig, SparkConfig
from tfx_distill.schema.errors import EnvironmentProblem


def parameter(engine: Engine, config: RunConfig) -> str:
    """What a component is told of its engine: Spark's section as JSON, or nothing for Beam.

    It is no part of the component's own config: the engine makes no difference to the outputs.
    """
    return config.spark.model_dump_json() if engine == "spark" else ""


def run(
    work: ShardWork,
    shards: Sequence[Shard],
    *,
    spark: str,
    beam_pipeline: beam.Pipeline,
    notes: Path,
) -> list[Note]:
    """Does the work of all shards.

    Args:
      work: What to do.
      shards: With what.
      spark: From `parameter`.
      beam_pipeline: For Beam.
      notes: For Beam, a folder that all workers see; it is gone afterwards.

    Returns:
      A note for each shard, in their order.

    Raises:
      DistillError: As the work raises it, or because the engine cannot do it.
    """
    if spark:
        where = SparkConfig.model_validate_json(spark)
        found = spark_engine.run(work, shards, where)
        advice = "Read the log of the Spark driver"
    else:
        found = beam_engine.run(work, shards, beam_pipeline, notes)
        advice = "Check that all Beam workers write to this folder"
    by_shard = {(note.split, note.name): note for note in found}
    if len(found) != len(shards) or any((s.split, s.name) not in by_shard for s in shards):
        raise EnvironmentProblem(
            str(notes),
            got=f"{len(found)} finished shards",
            expected=f"{len(shards)}, one for each shard of the examples",
            fix=f"{advice}; then run again.",
        )
    return [by_shard[shard.split, shard.name] for shard in shards]
