"""Losses against values worked out by hand, and against NumPy and SciPy."""

import math

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit, log_softmax, softmax

from tfx_distill.schema.config import DistillConfig
from tfx_distill.trainer import losses

# Two queries in one batch: three items, then two.
QUERIES = tf.constant([0, 0, 0, 1, 1])
TEACHER = np.array([2.0, 0.0, -1.0, 0.5, 1.5], np.float32)
STUDENT = np.array([1.0, 0.5, -0.5, 2.0, -1.0], np.float32)
ALL = tf.ones(5)
LISTS = (slice(0, 3), slice(3, 5))


def per_query(loss):
    """The value of each query, once."""
    values = loss.numpy()
    for part in LISTS:
        assert np.ptp(values[part]) < 1e-6, "all examples of a query carry its loss"
    return [values[part.start] for part in LISTS]


def test_hard_binary_by_hand():
    # -log(sigma(0)) = log 2; a logit of 100 for label 1 costs nothing, for label 0 it costs 100.
    loss = losses.hard("binary", tf.constant([1.0, 1.0, 0.0]), tf.constant([0.0, 100.0, 100.0]))
    np.testing.assert_allclose(loss, [math.log(2), 0.0, 100.0], rtol=1e-6)


def test_hard_regression_by_hand():
    loss = losses.hard("regression", tf.constant([3.0]), tf.constant([1.0]))
    np.testing.assert_allclose(loss, [4.0])


def test_soft_cross_entropy_by_hand():
    # Teacher logit 0 means p = 1/2: -(log sigma(z) + log sigma(-z)) / 2 for z = log 3 is
    # -(log 3/4 + log 1/4) / 2.
    loss = losses.soft_cross_entropy(tf.constant([0.0]), tf.constant([math.log(3)]), 1.0)
    np.testing.assert_allclose(loss, [-(math.log(0.75) + math.log(0.25)) / 2], rtol=1e-6)


def test_temperature_divides_both_logits_and_keeps_the_gradients_size():
    warm = losses.soft_cross_entropy(tf.constant([4.0]), tf.constant([2.0]), 2.0)
    p, q = expit(2.0), expit(1.0)
    np.testing.assert_allclose(
        warm, [-4 * (p * math.log(q) + (1 - p) * math.log(1 - q))], rtol=1e-5
    )


@pytest.mark.parametrize(("error", "expected"), [(0.5, 0.125), (1.0, 0.5), (3.0, 2.5), (-3.0, 2.5)])
def test_huber_by_hand(error, expected):
    np.testing.assert_allclose(losses.huber(tf.constant([error]), tf.zeros(1), 1.0), [expected])


@pytest.mark.parametrize("temperature", [1.0, 2.0])
def test_listnet_is_the_cross_entropy_of_the_softmaxes(temperature):
    got = per_query(losses.listnet(TEACHER, STUDENT, QUERIES, ALL, temperature))
    expected = [
        -(temperature**2)
        * np.sum(softmax(TEACHER[q] / temperature) * log_softmax(STUDENT[q] / temperature))
        for q in LISTS
    ]
    np.testing.assert_allclose(got, expected, rtol=1e-5)


def test_listnet_leaves_out_examples_without_a_teacher_label():
    present = tf.constant([1.0, 0.0, 1.0, 1.0, 1.0])
    got = losses.listnet(TEACHER, STUDENT, QUERIES, present, 1.0).numpy()[0]
    kept = [0, 2]
    np.testing.assert_allclose(
        got, -np.sum(softmax(TEACHER[kept]) * log_softmax(STUDENT[kept])), rtol=1e-5
    )


def test_rank_distil_by_hand():
    # k = 1: the teacher's best item of each list (0 and 4) should take the whole softmax.
    got = per_query(losses.rank_distil(TEACHER, STUDENT, QUERIES, ALL, 1.0, 1))
    expected = [-log_softmax(STUDENT[:3])[0], -log_softmax(STUDENT[3:])[1]]
    np.testing.assert_allclose(got, expected, rtol=1e-5)


def test_rank_distil_penalises_a_large_score_below_the_top():
    quiet = losses.rank_distil(TEACHER, STUDENT, QUERIES, ALL, 1.0, 2).numpy()[0]
    loud = STUDENT.copy()
    loud[2] = 5.0  # the teacher's third
    assert losses.rank_distil(TEACHER, loud, QUERIES, ALL, 1.0, 2).numpy()[0] > quiet + 1


def test_rank_distil_with_a_long_k_is_listnet():
    np.testing.assert_allclose(
        losses.rank_distil(TEACHER, STUDENT, QUERIES, ALL, 1.5, 10),
        losses.listnet(TEACHER, STUDENT, QUERIES, ALL, 1.5),
        rtol=1e-5,
    )


def test_calibrated_listwise_against_numpy():
    got = losses.calibrated_listwise(TEACHER, STUDENT, QUERIES, ALL).numpy()
    t, s = expit(TEACHER), expit(STUDENT)
    expected = -(t * np.log(s) + (1 - t) * np.log(1 - s))
    for q in LISTS:
        expected[q] += -np.sum(t[q] / t[q].sum() * np.log(s[q] / s[q].sum()))
    np.testing.assert_allclose(got, expected, rtol=1e-5)


@pytest.mark.parametrize("loss", ["cross_entropy", "listnet", "rank_distil", "calibrated_listwise"])
def test_the_teachers_own_scores_are_a_stationary_point(loss):
    rule = DistillConfig(loss=loss, top_k=10)
    student = tf.Variable(TEACHER)
    with tf.GradientTape() as tape:
        total = tf.reduce_sum(
            losses.distillation(rule, "binary", TEACHER[None], student[tf.newaxis], QUERIES, ALL)
        )
    np.testing.assert_allclose(tape.gradient(total, student), np.zeros(5), atol=1e-5)


@pytest.mark.parametrize("loss", sorted(losses.LISTWISE))
def test_huge_logits_and_absent_queries_stay_finite(loss):
    rule = DistillConfig(loss=loss)
    teacher = tf.constant([80.0, -80.0, 0.0, 0.0, 0.0])
    student = tf.Variable([-80.0, 80.0, 0.0, 3.0, 3.0])
    present = tf.constant([1.0, 1.0, 1.0, 0.0, 0.0])  # the second query has no label at all
    with tf.GradientTape() as tape:
        found = losses.distillation(
            rule, "binary", teacher[tf.newaxis], student[tf.newaxis], QUERIES, present
        )
        value = losses.weighted_mean(found, present[tf.newaxis])[0]
    assert np.isfinite(value)
    gradient = tape.gradient(value, student).numpy()
    assert np.isfinite(gradient).all()
    assert gradient[3] == gradient[4] == 0


def test_a_weighted_mean_is_by_task_and_that_of_nothing_is_zero():
    loss = tf.constant([[5.0, 1.0], [7.0, 2.0]])
    np.testing.assert_array_equal(
        losses.weighted_mean(loss, tf.constant([[0.0, 1.0], [0.0, 0.0]])), [1, 0]
    )
    np.testing.assert_array_equal(losses.weighted_mean(loss, tf.constant([[1.0, 1.0]])), [3, 4.5])


@pytest.mark.parametrize(
    "loss", ["cross_entropy", "huber", "listnet", "rank_distil", "calibrated_listwise"]
)
def test_tasks_side_by_side_have_the_losses_that_they_have_alone(loss):
    rule = DistillConfig(loss=loss)
    teacher = np.stack([TEACHER, TEACHER[::-1]])
    student = np.stack([STUDENT, STUDENT * 2])

    def of(tasks):
        return losses.distillation(
            rule, "binary", teacher[tasks], student[tasks], QUERIES, ALL
        ).numpy()

    np.testing.assert_allclose(of([0, 1]), np.concatenate([of([0]), of([1])]), rtol=1e-6)


finite = st.floats(-20, 20, width=32)


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.tuples(finite, finite, st.integers(0, 3)), min_size=1, max_size=12),
    st.randoms(use_true_random=False),
)
def test_listwise_losses_do_not_depend_on_the_order_of_the_batch(rows, random):
    order = list(range(len(rows)))
    random.shuffle(order)
    teacher, student, query = (np.array(column) for column in zip(*rows, strict=True))
    ones = tf.ones(len(rows))

    def loss(index):
        return losses.listnet(
            teacher[index].astype(np.float32),
            student[index].astype(np.float32),
            tf.constant(query[index].astype(np.int32) % len(rows)),
            ones,
            1.0,
        ).numpy()

    np.testing.assert_allclose(loss(np.arange(len(rows)))[order], loss(order), rtol=1e-4, atol=1e-4)
