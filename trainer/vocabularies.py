"""The learned vocabularies of a Transform output: read, replaced, and two of them compared.

Ids of a feature, and so the rows of its embedding table, with V ids in the vocabulary: row 0 is a
missing value, 1 to V are the vocabulary in its order, then follow the `oov_buckets` rows for all
other values, then rows that are not used because the vocabulary is not full.
"""

from __future__ import annotations

import hashlib
import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import tensorflow as tf
import tensorflow_transform as tft
from tensorflow.core.protobuf import saved_model_pb2

from tfx_distill.schema.config import CategoricalFeature
from tfx_distill.schema.errors import ModelError
from tfx_distill.trainer.process_cache import digest

if TYPE_CHECKING:
    from numpy.typing import NDArray

_MARK = "_vocabularies_"
_MARKED = re.compile(rf"{_MARK}[0-9a-f]{{16}}".encode())


@dataclass(frozen=True)
class Vocabularies:
    """The vocabularies of a Transform output, apart from the graph that uses them.

    Attributes:
      files: Content by name.
      mark: What the names of the tables in the graph end with, where they were renewed.
      surroundings: Digest of the graph; of those that differ in their vocabularies alone it is the
        same, once these were renewed.
    """

    files: Mapping[str, bytes]
    mark: bytes
    surroundings: str

    @classmethod
    def of(cls, transform_graph: str) -> Vocabularies:
        """Reads them."""
        model = Path(tft.TFTransformOutput(transform_graph).transform_savedmodel_dir)
        graph = (model / "saved_model.pb").read_bytes()
        files = {asset.name: asset.read_bytes() for asset in (model / "assets").glob("*")}
        marked = _MARKED.search(graph)
        if marked is None:
            return cls(files, b"", digest(transform_graph))
        unmarked = hashlib.sha256(_MARKED.sub(b"", graph)).hexdigest()
        schemas = digest(transform_graph, leave_out=(tft.TFTransformOutput.TRANSFORM_FN_DIR,))
        return cls(files, marked[0], unmarked + schemas)

    def in_place_of(self, others: Vocabularies, graph: bytes) -> bytes:
        """A graph with other vocabularies of the same surroundings, with these."""
        # Of equal length, so the lengths within the protocol buffer stay right.
        return graph.replace(others.mark, self.mark) if others.mark else graph


def read(transform_graph: str, feature: str) -> list[bytes]:
    """The vocabulary of a feature, the most frequent value first; integers as decimals.

    Raises:
      ModelError: There is none in the Transform output.
    """
    return Path(_file(transform_graph, feature)).read_bytes().split(b"\n")[:-1]


def replace(pinned: str, target: str, vocabularies: Mapping[str, Sequence[bytes]]) -> None:
    """Copies a Transform output with other vocabularies; all else it computes stays as it is.

    A graph takes the size of a vocabulary, and so the first id of the values outside it, from its
    file when it is loaded.

    Args:
      pinned: Path of the Transform output.
      target: Where to write; what is there is overwritten.
      vocabularies: By feature, the values without line breaks, at least one.

    Raises:
      ModelError: `pinned` has no vocabulary for a feature.
    """
    shutil.copytree(pinned, target, dirs_exist_ok=True)
    for feature, values in vocabularies.items():
        Path(_file(target, feature)).write_bytes(b"".join(value + b"\n" for value in values))
    model = Path(tft.TFTransformOutput(target).transform_savedmodel_dir)
    _rename_tables(model)
    # It identifies the bytes of the graph; TensorFlow does without it.
    (model / "fingerprint.pb").unlink(missing_ok=True)


def row_sources(before: str, now: str, feature: CategoricalFeature) -> NDArray[np.int64]:
    """For each row of an embedding table, the earlier row that it goes on from.

    An id that stays keeps its row. A new id goes on from the out-of-vocabulary row that served it
    so far; an id that left is served by an out-of-vocabulary row, which keeps what it learned about
    the others. Unused rows keep their place.

    Args:
      before: Path of the Transform output that the table was trained with.
      now: Path of the Transform output that it is used with from now on.
      feature: Whose table; only the vocabularies may differ between the two.

    Returns:
      Row numbers under `before`, of shape [`feature.cardinality`].

    Raises:
      ModelError: A Transform output has no vocabulary for the feature.
    """
    return _compared(before, now, feature)[0]


def new_rows(before: str, now: str, feature: CategoricalFeature) -> NDArray[np.bool_]:
    """Which rows of an embedding table belong to an id that was not in the vocabulary before.

    See `row_sources` for the arguments; of shape [`feature.cardinality`].
    """
    return _compared(before, now, feature)[1]


def _compared(
    before: str, now: str, feature: CategoricalFeature
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    sources = np.arange(feature.cardinality)
    new = np.zeros(feature.cardinality, np.bool_)
    if feature.vocab is None or before == now:
        return sources, new
    earlier, later = read(before, feature.name), read(now, feature.name)
    places = {value: place for place, value in enumerate(earlier)}
    known = np.array([places.get(value, -1) for value in later], np.int64)
    # As TensorFlow's lookup layer spreads values outside of a vocabulary, integers as decimals.
    buckets = tf.strings.to_hash_bucket_fast(tf.constant(later, tf.string), feature.oov_buckets)
    outside = 1 + len(earlier)
    sources[1 : 1 + len(later)] = np.where(known >= 0, 1 + known, outside + buckets.numpy())
    new[1 : 1 + len(later)] = known < 0
    first = 1 + len(later)
    sources[first : first + feature.oov_buckets] = outside + np.arange(feature.oov_buckets)
    return sources, new


def _file(transform_graph: str, feature: str) -> str:
    path = tft.TFTransformOutput(transform_graph).vocabulary_file_by_name(feature)
    if path is None:
        raise ModelError(
            transform_graph,
            got=f"no vocabulary of the feature {feature!r}",
            expected="the Transform output of this stream's bootstrap",
            fix="Run the bootstrap of the stream again: the features changed since.",
        )
    return str(path)


def _rename_tables(model: Path) -> None:
    """Names the lookup tables of a SavedModel after the content of its vocabularies.

    TensorFlow shares tables of one name. Its Python loader makes the names of each load unique, but
    others need not; and graphs that differ only in their assets would have the same bytes, by which
    models of one structure are recognised.
    """
    digest = hashlib.sha256()
    for asset in sorted((model / "assets").iterdir()):
        digest.update(f"{asset.name}\0{asset.stat().st_size}\0".encode() + asset.read_bytes())
    file = model / "saved_model.pb"
    graph = saved_model_pb2.SavedModel.FromString(file.read_bytes())
    for meta in graph.meta_graphs:
        functions = meta.graph_def.library.function
        for nodes in (meta.graph_def.node, *(function.node_def for function in functions)):
            for node in nodes:
                if node.op == "HashTableV2":
                    name = node.attr["shared_name"].s.decode()
                    name = re.sub(rf"{_MARK}[0-9a-f]+$", "", name)
                    node.attr["shared_name"].s = f"{name}{_MARK}{digest.hexdigest()[:16]}".encode()
    file.write_bytes(graph.SerializeToString(deterministic=True))
