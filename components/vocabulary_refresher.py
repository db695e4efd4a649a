"""VocabularyRefresher: learns vocabularies again from the last spans of a stream.

This module has no deferred annotations: TFX reads those of a component function at run time.
"""

import json
import logging
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
from tfx.dsl.component.experimental.annotations import InputArtifact, OutputArtifact, Parameter
from tfx.dsl.component.experimental.decorators import component
from tfx.types import standard_artifacts

from tfx_distill.datasets.example_shards import read_shard
from tfx_distill.schema.config import FeaturesConfig
from tfx_distill.trainer import vocabularies

PENDING_VALUES = 1 << 18
"""Values whose counts are kept apart at least, before they are added up."""


@component
def VocabularyRefresher(  # noqa: N802
    examples: InputArtifact[list[standard_artifacts.Examples]],
    transform_graph: InputArtifact[standard_artifacts.TransformGraph],
    refreshed: OutputArtifact[standard_artifacts.TransformGraph],
    features: Parameter[str],
    due: Parameter[str],
    span: Parameter[int],
) -> None:
    """Renews the vocabularies of some features; all else of the Transform graph stays.

    A new vocabulary holds the most frequent values of the train splits, ordered as TFX's Transform
    orders them. Where fewer than `vocab` values occur, earlier ids that do not occur any more keep
    a place behind them, in their order: an id gives way only to one that occurs.

    Args:
      examples: Of the spans to learn from.
      transform_graph: The one in use.
      refreshed: Output: the graph with the new vocabularies. The custom property `span` says since
        when it is used.
      features: The features section of the run config as JSON.
      due: The features to renew, with how many spans each learns from: a JSON object.
      span: The span from which on the new vocabularies are used.

    Raises:
      ModelError: The Transform graph has no vocabulary for one of the features.

    Example:
      VocabularyRefresher(
          examples=recent.outputs["found"],
          transform_graph=pinned.outputs["found"],
          features=run_config.features.model_dump_json(),
          due='{"video_id": 4}',
          span=12,
      )
    """
    config = FeaturesConfig.model_validate_json(features)
    spans = json.loads(due)
    renewed = {}
    for feature in (*config.categorical, *config.multivalent):
        if feature.name in spans and feature.vocab is not None:
            shards = [
                shard
                for item in examples
                if item.span > span - spans[feature.name]
                for shard in sorted((Path(item.uri) / "Split-train").glob("*.parquet"))
            ]
            before = vocabularies.read(transform_graph.uri, feature.name)
            now = merged(most_frequent(_values(shards, feature.name)), before, feature.vocab)
            fresh = len(set(now) - set(before))
            logging.info(
                "%s: %d of %d ids are new from span %d on", feature.name, fresh, len(now), span
            )
            renewed[feature.name] = now
    vocabularies.replace(transform_graph.uri, refreshed.uri, renewed)
    refreshed.set_int_custom_property("span", span)


def most_frequent(batches: Iterable[pa.Array]) -> pa.Array:
    """The distinct values by falling count, those of one count by falling bytes, as TFT has them.

    Memory grows with the distinct values, not with the values.

    Args:
      batches: Integers or binary values. Integers count as their decimals.

    Returns:
      Binary values, without those that no vocabulary can hold: empty ones and those with line
      breaks.
    """
    counts = pa.table({"value": pa.array([], pa.binary()), "count": pa.array([], pa.int64())})
    pending: list[pa.Table] = []
    for batch in batches:
        found = pc.value_counts(batch)
        values = found.field("values")
        if pa.types.is_integer(values.type):
            values = values.cast(pa.string())
        pending.append(
            pa.table({"value": values.cast(pa.binary()), "count": found.field("counts")})
        )
        if sum(part.num_rows for part in pending) > max(PENDING_VALUES, counts.num_rows):
            counts, pending = _added_up([counts, *pending]), []
    counts = _added_up([counts, *pending])
    text = counts["value"].cast(pa.string())
    unusable = pc.or_(pc.equal(text, ""), pc.match_substring_regex(text, "[\n\r]"))
    counts = counts.filter(pc.invert(unusable))
    order = pc.sort_indices(counts, sort_keys=[("count", "descending"), ("value", "descending")])
    return counts["value"].take(order).combine_chunks()


def merged(values: pa.Array, before: Sequence[bytes], size: int) -> list[bytes]:
    """The first `size` of `values`, filled up with what else was there before."""
    now: list[bytes] = values[:size].to_pylist()
    if len(now) < size:
        there = set(now)
        now += [value for value in before if value not in there][: size - len(now)]
    return now


def _added_up(parts: list[pa.Table]) -> pa.Table:
    together = pa.concat_tables(parts).group_by("value").aggregate([("count", "sum")])
    return together.select(["value", "count_sum"]).rename_columns(["value", "count"])


def _values(shards: Iterable[Path], name: str) -> Iterator[pa.Array]:
    for shard in shards:
        for batch in read_shard(shard, [name]):
            yield batch.column(0).flatten()
