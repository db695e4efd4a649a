"""How an embedding table follows its vocabulary, measured against TensorFlow's own table."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st

from tfx_distill.schema.config import CategoricalFeature
from tfx_distill.schema.errors import ModelError
from tfx_distill.trainer import vocabularies

NAME = "video"


def graph(folder: Path, values: Sequence[str]) -> str:
    """The part of a Transform output that holds a vocabulary."""
    assets = folder / "transform_fn/assets"
    assets.mkdir(parents=True)
    (assets / NAME).write_text("".join(f"{value}\n" for value in values))
    return str(folder)


def rows(transform_graph: str, oov_buckets: int, values: Sequence[Any]) -> list[int]:
    """Rows of the embedding table by the lookup of a Transform graph; 0 is for missing values."""
    dtype = tf.int64 if isinstance(values[0], int) else tf.string
    table = tf.lookup.StaticVocabularyTable(
        tf.lookup.TextFileInitializer(
            f"{transform_graph}/transform_fn/assets/{NAME}",
            dtype,
            tf.lookup.TextFileIndex.WHOLE_LINE,
            tf.int64,
            tf.lookup.TextFileIndex.LINE_NUMBER,
        ),
        oov_buckets,
        lookup_key_dtype=dtype,
    )
    return [int(row) + 1 for row in table.lookup(tf.constant(values, dtype)).numpy()]


def feature(vocab: int, oov_buckets: int) -> CategoricalFeature:
    return CategoricalFeature(name=NAME, vocab=vocab, oov_buckets=oov_buckets)


def test_rows_follow_their_ids_by_hand(tmp_path: Path) -> None:
    before = graph(tmp_path / "before", ["a", "b", "c"])
    now = graph(tmp_path / "now", ["c", "new", "a", "other"])
    # Before: 0 missing, 1-3 a b c, 4 all others, 5 and 6 unused. Now: 1 c, 2 new, 3 a, 4 other.
    sources = vocabularies.row_sources(before, now, feature(5, 1))
    assert sources.tolist() == [0, 3, 4, 1, 4, 4, 6]
    assert vocabularies.new_rows(before, now, feature(5, 1)).tolist() == (
        [False, False, True, False, True, False, False]
    )


def test_nothing_moves_with_the_same_vocabulary_or_with_buckets(tmp_path: Path) -> None:
    before = graph(tmp_path / "before", ["a", "b"])
    same = graph(tmp_path / "same", ["a", "b"])
    for now in (before, same):
        assert vocabularies.row_sources(before, now, feature(2, 3)).tolist() == list(range(6))
        assert not vocabularies.new_rows(before, now, feature(2, 3)).any()
    hashed = CategoricalFeature(name="user", buckets=4)
    assert vocabularies.row_sources(before, same, hashed).tolist() == list(range(5))


@pytest.mark.parametrize("kind", [int, str])
@given(data=st.data(), oov_buckets=st.integers(1, 4))
def test_every_value_goes_on_from_the_row_that_served_it(
    kind: type[Any], data: st.DataObject, oov_buckets: int
) -> None:
    value = st.integers(-(2**40), 2**40) if kind is int else st.sampled_from("abcdefghijklmü")
    vocabulary = st.lists(value, min_size=1, max_size=8, unique=True)
    earlier, later = data.draw(vocabulary), data.draw(vocabulary)
    if data.draw(st.booleans()):
        later = data.draw(st.permutations(list(dict.fromkeys([*earlier[:3], *later]))))[:8]
    own = feature(8, oov_buckets)
    with TemporaryDirectory() as folder:
        before = graph(Path(folder) / "before", list(map(str, earlier)))
        now = graph(Path(folder) / "now", list(map(str, later)))
        sources = vocabularies.row_sources(before, now, own)
        new = vocabularies.new_rows(before, now, own)
        # Those of the new vocabulary, and some that are in neither.
        absent = [x for x in ([77, 78, 79] if kind is int else ["x", "y", "z"]) if x not in earlier]
        seen = [*later, *(x for x in absent if x not in later)]
        was, will = rows(before, oov_buckets, seen), rows(now, oov_buckets, seen)
        gone = [x for x in earlier if x not in later]
        out = rows(now, oov_buckets, gone) if gone else []
    assert sources.dtype == np.int64
    assert sources.shape == (own.cardinality,)
    assert ((sources >= 0) & (sources < own.cardinality)).all()
    assert sources[0] == 0
    table = np.random.default_rng(0).normal(size=(own.cardinality, 2))
    np.testing.assert_array_equal(table[sources][will], table[was])
    assert [place for place in will if new[place]] == (
        [place for place, x in zip(will, seen, strict=True) if x in later and x not in earlier]
    )
    assert new.sum() == len(set(later) - set(earlier))
    # What left is served by a row that served unknown values before.
    assert all(sources[place] > len(earlier) for place in out)


def test_a_vocabulary_is_read_as_it_was_written(tmp_path: Path) -> None:
    values = ["a b", " ", "ü", "-1"]
    assert vocabularies.read(graph(tmp_path, values), NAME) == [v.encode() for v in values]


def test_a_missing_vocabulary_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no vocabulary of the feature 'device'"):
        vocabularies.read(graph(tmp_path, ["a"]), "device")
