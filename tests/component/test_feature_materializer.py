"""FeatureMaterializer alone: its table is what NumPy makes of the logs."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import tensorflow as tf
from small_examples import KNOWN_USERS, ROWS, SPAN, Prepared, made, materialize
from tfx.types import standard_artifacts

from tfx_distill.components import engines
from tfx_distill.components.artifacts import fingerprint
from tfx_distill.datasets.example_shards import read_shard
from tfx_distill.schema.errors import DataError
from tfx_distill.trainer import feature_table


@pytest.fixture(scope="module")
def table(features: Any) -> dict[str, np.ndarray]:
    """The whole feature table in the order of the log."""
    shards = [
        feature_table.read(file)
        for split in ("train", "eval")
        for file in feature_table.shards(features.uri, split)
    ]
    whole = {name: np.concatenate([shard[name] for shard in shards]) for name in shards[0]}
    order = np.argsort(whole["example_id"])
    return {name: values[order] for name, values in whole.items()}


def words(log: pl.DataFrame, name: str) -> list[Any]:
    return log[name].to_list()


def test_every_example_is_there_once_with_its_keys(table: Any, prepared: Prepared) -> None:
    for key, column in (
        ("example_id", "impression_id"),
        ("query_id", "request_id"),
        ("event_time", "timestamp"),
    ):
        np.testing.assert_array_equal(table[key], prepared.log[column].to_numpy())
        assert table[key].dtype == np.int64


def test_numbers_are_standardised_by_the_train_split(table: Any, prepared: Prepared) -> None:
    train = (prepared.log["split"] == "train").to_numpy()
    for column, (name, scale) in enumerate(
        [("age", np.asarray), ("views", np.log1p), ("place", np.asarray)]
    ):
        raw = scale(prepared.log[name].cast(pl.Float64).fill_null(np.nan).to_numpy())
        mean, spread = np.nanmean(raw[train]), np.nanstd(raw[train])
        expected = np.nan_to_num((raw - mean) / spread, nan=0.0)
        place = column if name != "place" else 3
        np.testing.assert_allclose(table["numeric"][:, place], expected, rtol=1e-5, atol=1e-5)
        flags = table["numeric"][:, 4 + place]
        np.testing.assert_array_equal(flags, np.isnan(raw).astype(np.float32))
    assert table["numeric"].shape == (400, 8)
    assert table["numeric"].dtype == np.float32
    # The eval split is 100 years older: it was not part of the mean.
    assert table["numeric"][~train, 0].max() > 5


def test_a_constant_number_becomes_zero(table: Any) -> None:
    # 0.1 has no exact representation: what rounding leaves must not be blown up to ones.
    assert (table["numeric"][:, 2] == 0).all()
    assert (table["numeric"][:, 6] == 0).all()


@pytest.mark.parametrize(
    ("column", "name", "vocab", "oov"), [(0, "device", 2, 3), (1, "video", 3, 1)]
)
def test_categories_are_numbered_by_falling_frequency(
    column: int, name: str, vocab: int, oov: int, table: Any, prepared: Prepared
) -> None:
    log = prepared.log
    counts = log.filter(split="train").drop_nulls(name)[name].value_counts(sort=True)
    ranked = dict(zip(words(counts, name)[:vocab], range(1, vocab + 1), strict=True))
    assert len(ranked) == vocab < len(counts)
    ids = table["categorical"][:, column]
    unknown: dict[Any, set[int]] = {}
    for value, got in zip(words(log, name), ids.tolist(), strict=True):
        if value is None:
            assert got == 0
        elif value in ranked:
            assert got == ranked[value]
        else:
            assert vocab < got <= vocab + oov
            unknown.setdefault(value, set()).add(got)
    assert unknown
    assert all(len(found) == 1 for found in unknown.values())
    if name == "device":
        assert "car" in unknown  # seen in the eval split only


def test_strings_are_hashed_as_everybody_hashes_them(table: Any, prepared: Prepared) -> None:
    ids = table["categorical"][:, 2]
    by_user: dict[str, set[int]] = {}
    for user, got in zip(words(prepared.log, "user"), ids.tolist(), strict=True):
        by_user.setdefault(user, set()).add(got)
    for user, print_ in KNOWN_USERS.items():
        assert by_user[user] == {print_ % 2**64 % 16 + 1}
    assert all(len(found) == 1 for found in by_user.values())
    assert ids.min() >= 1
    assert ids.max() <= 16
    assert len(set(ids.tolist())) > 8


def test_integers_are_hashed_by_their_decimals(table: Any, prepared: Prepared) -> None:
    expected = [
        0 if value is None else int(tf.strings.to_hash_bucket_fast(str(value), 8)) + 1
        for value in words(prepared.log, "channel")
    ]
    assert table["categorical"][:, 3].tolist() == expected
    assert table["categorical"].dtype == np.int32


def test_lists_are_cut_and_padded(table: Any, prepared: Prepared) -> None:
    log, ids = prepared.log, table["multivalent"]
    assert ids.shape == (400, 2 + 3)
    seen = log.filter(split="train").explode("topics").drop_nulls("topics")["topics"]
    counts = seen.value_counts().sort(["count", "topics"], descending=[True, True])
    ranked = dict(zip(words(counts, "topics")[:4], range(1, 5), strict=True))
    for topics, tags, got in zip(words(log, "topics"), words(log, "tags"), ids, strict=True):
        kept = [ranked.get(topic, 5) for topic in (topics or [])[:2]]
        assert got[:2].tolist() == kept + [0] * (2 - len(kept))
        kept = [int(tf.strings.to_hash_bucket_fast(str(tag), 32)) + 1 for tag in tags[:3]]
        assert got[2:].tolist() == kept + [0] * (3 - len(kept))
    assert max(map(len, words(log, "tags"))) > 3


def test_labels_are_on_the_training_scale_and_weighted(table: Any, prepared: Prepared) -> None:
    clicked = prepared.log["clicked"].to_numpy()
    np.testing.assert_array_equal(table["label_click"], clicked)
    np.testing.assert_array_equal(table["weight_click"], np.ones(400))
    seconds = prepared.log["watch_s"].fill_null(0).to_numpy()
    assert ((seconds > 0) & (clicked == 0)).any()  # logged where the task does not apply
    np.testing.assert_allclose(table["label_watch"], np.log1p(seconds * clicked), rtol=1e-6)
    np.testing.assert_array_equal(table["weight_watch"], clicked)
    mood = prepared.log["mood"].to_numpy()
    assert mood.min() < 0
    np.testing.assert_allclose(table["label_mood"], mood, rtol=1e-6)
    assert {table[name].dtype for name in table if name.startswith(("label", "weight"))} == {
        np.dtype(np.float32)
    }


def test_a_shard_of_examples_is_a_shard_of_features(features: Any, prepared: Prepared) -> None:
    assert features.span == SPAN
    assert features.get_int_custom_property("watermark") == ROWS["train"] - 1
    assert features.split_names == '["train", "eval"]'
    for split, rows in ROWS.items():
        assert features.get_int_custom_property(f"rows_{split}") == rows
        examples = sorted((Path(prepared.examples.uri) / f"Split-{split}").glob("*.parquet"))
        shards = feature_table.shards(features.uri, split)
        assert [file.stem for file in shards] == [file.stem for file in examples]
        assert feature_table.rows(shards) == rows
        for shard, example in zip(shards, examples, strict=True):
            ids = [v for b in read_shard(example, ["example_id"]) for (v,) in b[0].to_pylist()]
            assert feature_table.read(shard, ["example_id"])["example_id"].tolist() == ids
    assert len(feature_table.shards(features.uri, "train")) == 3


def test_a_second_time_the_bytes_are_the_same(
    features: Any, prepared: Prepared, tmp_path: Path
) -> None:
    # The label table reuses labels by these bytes.
    assert fingerprint(materialize(prepared, tmp_path).uri) == fingerprint(features.uri)


def test_a_damaged_shard_is_named_and_leaves_nothing_behind(
    prepared: Prepared, tmp_path: Path
) -> None:
    shutil.copytree(prepared.examples.uri, tmp_path / "examples")
    shard = tmp_path / "examples/Split-train/part-00001.parquet"
    shard.write_bytes(shard.read_bytes()[:-100])
    with pytest.raises(DataError) as caught:
        materialize(prepared, tmp_path, made(standard_artifacts.Examples, shard.parents[1]))
    assert str(shard) in caught.value.where
    assert list((tmp_path / "features").rglob("*part-00001*")) == []


def test_what_a_killed_attempt_left_is_no_part_of_the_table(
    features: Any, prepared: Prepared, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = engines.run

    def leaving(*arguments: Any, **options: Any) -> Any:
        notes = run(*arguments, **options)
        (tmp_path / "features/Split-train/.part-00001.arrow.99").write_bytes(b"half of it")
        return notes

    monkeypatch.setattr(engines, "run", leaving)
    assert fingerprint(materialize(prepared, tmp_path).uri) == fingerprint(features.uri)
