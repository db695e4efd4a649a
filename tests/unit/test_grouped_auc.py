"""GAUC, against values worked out by hand and against scikit-learn query by query."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from tfx_distill.components.grouped_auc import GroupedAuc, grouped_auc


def by_scikit_learn(
    query: NDArray[np.int64], label: NDArray[np.float64], prediction: NDArray[np.float32]
) -> tuple[float, float]:
    total = examples = 0.0
    for one in np.unique(query):
        rows = query == one
        if 0 < label[rows].sum() < rows.sum():
            total += rows.sum() * roc_auc_score(label[rows], prediction[rows])
            examples += rows.sum()
    return total, examples


def test_by_hand() -> None:
    # Query 7: one of two pairs in order; 3 examples. Query 2: in order; 2. Query 5: one class.
    query = np.array([7, 2, 7, 5, 7, 2, 5])
    label = np.array([1, 0, 0, 1, 0, 1, 1])
    prediction = np.array([0.5, 0.1, 0.2, 0.9, 0.8, 0.3, 0.1])
    assert grouped_auc(query, label, prediction) == pytest.approx([3 * 0.5 + 2 * 1.0, 5])


def test_a_tie_is_worth_one_half() -> None:
    query, label = np.zeros(3, int), np.array([1, 0, 0])
    assert grouped_auc(query, label, np.array([0.5, 0.5, 0.1])) == pytest.approx([3 * 0.75, 3])


def test_no_query_with_both_classes_has_no_value() -> None:
    sums = grouped_auc(np.array([1, 1, 2]), np.array([1, 1, 0]), np.array([0.1, 0.2, 0.3]))
    assert list(sums) == [0, 0]
    assert math.isnan(GroupedAuc().value(sums))
    assert list(grouped_auc(np.array([], int), np.array([]), np.array([]))) == [0, 0]


rows = st.integers(1, 60)


@given(
    rows.flatmap(
        lambda n: st.tuples(
            hnp.arrays(np.int64, n, elements=st.integers(-3, 4)),
            hnp.arrays(np.int64, n, elements=st.integers(0, 1)),
            hnp.arrays(np.float32, n, elements=st.sampled_from([0.0, 0.125, 0.25, 0.5, 0.75, 1.0])),
        )
    )
)
def test_equals_scikit_learn_query_by_query(
    columns: tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]],
) -> None:
    query, label, prediction = columns
    expected = by_scikit_learn(query, label.astype(float), prediction)
    assert grouped_auc(query, label, prediction) == pytest.approx(expected, rel=1e-12)
    # Any rising function of the predictions, and any order of the rows, change nothing.
    order = np.random.default_rng(len(query)).permutation(len(query))
    moved = grouped_auc(query[order], label[order], np.exp(prediction[order].astype(float)))
    assert moved == pytest.approx(expected)
