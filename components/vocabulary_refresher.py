"""VocabularyRefresher: learns vocabularies again from the last spans of a stream.

This module has no deferred annotations: TFX reads those of a component function at run time.
"""

import json
import logging
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import pyarrow as pa
from tfx.dsl.component.experimental.annotations import InputArtifact, OutputArtifact, Parameter
from tfx.dsl.component.experimental.decorators import component
from tfx.types import standard_artifacts

from tfx_distill.components.value_counts import ValueCounts
from tfx_distill.datasets.example_shards import read_shard
from tfx_distill.schema.config import FeaturesConfig
from tfx_distill.trainer import vocabularies


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
            counts = ValueCounts()
            for values in _values(shards, feature.name):
                counts.add(values)
            now = merged(counts.most_frequent(), before, feature.vocab)
            fresh = len(set(now) - set(before))
            logging.info(
                "%s: %d of %d ids are new from span %d on", feature.name, fresh, len(now), span
            )
            renewed[feature.name] = now
    vocabularies.replace(transform_graph.uri, refreshed.uri, renewed)
    refreshed.set_int_custom_property("span", span)


def merged(values: pa.Array, before: Sequence[bytes], size: int) -> list[bytes]:
    """The first `size` of `values`, filled up with what else was there before."""
    now: list[bytes] = values[:size].to_pylist()
    if len(now) < size:
        there = set(now)
        now += [value for value in before if value not in there][: size - len(now)]
    return now


def _values(shards: Iterable[Path], name: str) -> Iterator[pa.Array]:
    for shard in shards:
        for batch in read_shard(shard, [name]):
            yield batch.column(0).flatten()
