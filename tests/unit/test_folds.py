"""Folds: stable, even, by query; and where the fold models lie."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tfx_distill.trainer.folds import fold_model, fold_models, fold_of

MASK = 2**64 - 1


def split_mix(value):
    """SplitMix64 in plain integers, after the reference in C."""
    mixed = (value + 0x9E3779B97F4A7C15) & MASK
    mixed = ((mixed ^ (mixed >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    mixed = ((mixed ^ (mixed >> 27)) * 0x94D049BB133111EB) & MASK
    return mixed ^ (mixed >> 31)


def test_the_published_first_number_of_the_generator():
    # The first output of SplitMix64 for the seed 1234567.
    assert split_mix(1234567) == 6457827717110365317


@given(st.lists(st.integers(-(2**63), 2**63 - 1), max_size=20), st.integers(2, 10))
def test_a_fold_is_the_hash_of_the_query(queries, folds):
    expected = [split_mix(query & MASK) % folds for query in queries]
    assert fold_of(np.array(queries, np.int64), folds).tolist() == expected


def test_folds_are_even_for_consecutive_ids():
    counts = np.bincount(fold_of(np.arange(50_000, dtype=np.int64), 5), minlength=5)
    assert counts.min() > 9_700
    assert counts.max() < 10_300


def test_fold_models_come_by_number(tmp_path):
    assert fold_models(tmp_path) == []
    for number in (10, 2, 0):
        fold_model(tmp_path, number).mkdir(parents=True)
        (fold_model(tmp_path, number) / "saved_model.pb").touch()
    assert [folder.name for folder in fold_models(tmp_path)] == ["0", "2", "10"]


@pytest.mark.parametrize("folds", [2, 7])
def test_all_examples_of_a_query_are_in_one_fold(folds):
    queries = np.repeat(np.arange(30, dtype=np.int64) * 977, 4)
    found = fold_of(queries, folds).reshape(30, 4)
    assert (found == found[:, :1]).all()
