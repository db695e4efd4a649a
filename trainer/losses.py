"""Losses against hard labels and against teacher labels.

Functions take float32 tensors of shape [batch] and return one loss per example, [batch], or, for
the listwise ones, one per example whose mean over a query is that query's loss. Those that are not
listwise take any shape, [tasks, batch] for instance. Weighting and averaging are the caller's.
"""

from __future__ import annotations

from collections.abc import Callable

import tensorflow as tf

from tfx_distill.schema.config import DistillConfig, DistillLoss, Kind

Total = Callable[[tf.Tensor], tf.Tensor]

LISTWISE: frozenset[DistillLoss] = frozenset({"listnet", "rank_distil", "calibrated_listwise"})


def _alone(values: tf.Tensor) -> tf.Tensor:
    return values


def hard(kind: str, label: tf.Tensor, output: tf.Tensor) -> tf.Tensor:
    """Cross-entropy of a binary label and a logit, or the squared error of a regression."""
    if kind == "binary":
        return tf.nn.sigmoid_cross_entropy_with_logits(labels=label, logits=output)
    return tf.math.squared_difference(label, output)


def soft_cross_entropy(teacher: tf.Tensor, student: tf.Tensor, temperature: float) -> tf.Tensor:
    """T^2 * CE(sigma(t / T), sigma(z / T)) for teacher logits t and student logits z.

    The factor T^2 keeps the size of the gradient when T changes (Hinton, Vinyals and Dean, 2015,
    section 2).
    """
    return temperature**2 * tf.nn.sigmoid_cross_entropy_with_logits(
        labels=tf.sigmoid(teacher / temperature), logits=student / temperature
    )


def huber(teacher: tf.Tensor, student: tf.Tensor, delta: float) -> tf.Tensor:
    """e^2 / 2 where |e| <= delta, else delta * (|e| - delta / 2) (Huber, 1964)."""
    error = tf.abs(teacher - student)
    return tf.where(error <= delta, 0.5 * error**2, delta * (error - 0.5 * delta))


def listnet(
    teacher: tf.Tensor,
    student: tf.Tensor,
    queries: tf.Tensor,
    present: tf.Tensor,
    temperature: float,
) -> tf.Tensor:
    """Cross-entropy between the two softmaxes over each query, temperature-scaled, times T^2.

    The top-one probability loss of ListNet (Cao et al., ICML 2007) with the teacher's scores in
    the place of relevance judgements.

    Args:
      teacher: Teacher labels.
      student: Student outputs.
      queries: int32, the query of each example, numbered from 0 within the batch.
      present: 1 where there is a teacher label, else 0; others take no part in a list.
      temperature: Divides both scores.
    """
    target = _softmax(teacher / temperature, queries, present)
    log_probability = _log_softmax(student / temperature, queries, present)
    return -(temperature**2) * _per_query_sum(target * log_probability, queries, present)


def rank_distil(
    teacher: tf.Tensor,
    student: tf.Tensor,
    queries: tf.Tensor,
    present: tf.Tensor,
    temperature: float,
    top_k: int,
) -> tf.Tensor:
    """Keep the teacher's top k in order, and push everything below it down.

    The teacher's softmax is restricted to its k best items of each query; the student's runs over
    the whole list, so that a large score for an item that the teacher ranks low is penalised. It is
    the softmax instance of the framework of RankDistil (Reddi et al., AISTATS 2021).
    """
    in_top = present * tf.cast(_rank(teacher, queries, present) < top_k, tf.float32)
    target = _softmax(teacher / temperature, queries, in_top)
    log_probability = _log_softmax(student / temperature, queries, present)
    return -(temperature**2) * _per_query_sum(target * log_probability, queries, present)


def calibrated_listwise(
    teacher: tf.Tensor, student: tf.Tensor, queries: tf.Tensor, present: tf.Tensor
) -> tf.Tensor:
    """Cross-entropy plus a listwise term that has the same minimiser.

    The listwise term compares p / sum(p) over a query for the probabilities p = sigma(score) of
    teacher and student. Unlike a softmax over logits it is smallest where the student's
    probabilities are proportional to the teacher's, so it does not pull against calibration
    (regression-compatible ListCE, Bai et al., CIKM 2023).
    """
    teacher_probability = tf.sigmoid(teacher) * present
    target = tf.math.divide_no_nan(teacher_probability, _gathered_sum(teacher_probability, queries))
    student_probability = tf.sigmoid(student) * present
    total = _gathered_sum(student_probability, queries)
    log_share = tf.math.log_sigmoid(student) - tf.math.log(tf.maximum(total, 1e-30))
    listwise = -_per_query_sum(target * log_share * present, queries, present)
    return soft_cross_entropy(teacher, student, 1.0) + listwise


def distillation(
    rule: DistillConfig,
    kind: Kind,
    teacher: tf.Tensor,
    student: tf.Tensor,
    queries: tf.Tensor | None,
    present: tf.Tensor,
) -> tf.Tensor:
    """The distillation loss that a config asks for, per example, of tasks of one kind.

    Args:
      rule: Which loss.
      kind: Of the tasks.
      teacher: Teacher labels, of shape [tasks, batch].
      student: Student outputs, of shape [tasks, batch].
      queries: int32 [batch], the query of each example; listwise losses need it.
      present: [batch], 1 where there is a teacher label.

    Returns:
      float32 [tasks, batch].
    """
    name = rule.loss_for(kind)
    # Absent teacher labels are 0 and get weight 0 later; here they must only stay finite.
    if name == "cross_entropy":
        return soft_cross_entropy(teacher, student, rule.temperature)
    if name == "squared":
        return tf.math.squared_difference(teacher, student)
    if name == "huber":
        return huber(teacher, student, rule.huber_delta)

    def of_task(teacher: tf.Tensor, student: tf.Tensor) -> tf.Tensor:
        if name == "listnet":
            return listnet(teacher, student, queries, present, rule.temperature)
        if name == "rank_distil":
            return rank_distil(teacher, student, queries, present, rule.temperature, rule.top_k)
        return calibrated_listwise(teacher, student, queries, present)

    pairs = zip(tf.unstack(teacher), tf.unstack(student), strict=True)
    return tf.stack([of_task(*pair) for pair in pairs])


def weighted_mean(loss: tf.Tensor, weight: tf.Tensor, total: Total = _alone) -> tf.Tensor:
    """Mean loss of each task over its examples of weight 1; 0 if there is none.

    Args:
      loss: float32 [tasks, batch].
      weight: 0 or 1, of shape [tasks, batch], or [1, batch] for all tasks alike.
      total: Sums over the workers, each of which has a part of the batch. The means of the whole
        batch are then the sums of what the workers get.
    """
    return tf.math.divide_no_nan(tf.reduce_sum(loss * weight, 1), total(tf.reduce_sum(weight, 1)))


def _gathered_sum(values: tf.Tensor, queries: tf.Tensor) -> tf.Tensor:
    """For each example, the sum over its query."""
    # A batch of n examples has at most n queries: a static bound instead of a dynamic count.
    sums = tf.math.unsorted_segment_sum(values, queries, tf.size(queries))
    return tf.gather(sums, queries)


def _per_query_sum(values: tf.Tensor, queries: tf.Tensor, present: tf.Tensor) -> tf.Tensor:
    """The sum over each query's present examples, given to each example of the query."""
    return _gathered_sum(values * present, queries)


def _log_softmax(scores: tf.Tensor, queries: tf.Tensor, present: tf.Tensor) -> tf.Tensor:
    low = tf.where(present > 0, scores, tf.float32.min)
    top = tf.math.unsorted_segment_max(low, queries, tf.size(queries))
    shifted = tf.where(present > 0, scores - tf.gather(top, queries), 0.0)
    total = _gathered_sum(tf.exp(shifted) * present, queries)
    return shifted - tf.math.log(tf.maximum(total, 1e-30))


def _softmax(scores: tf.Tensor, queries: tf.Tensor, present: tf.Tensor) -> tf.Tensor:
    return tf.exp(_log_softmax(scores, queries, present)) * present


def _rank(scores: tf.Tensor, queries: tf.Tensor, present: tf.Tensor) -> tf.Tensor:
    """Place of each example in its query by falling score, from 0; absent ones come last."""
    low = tf.where(present > 0, scores, tf.float32.min)
    by_score = tf.argsort(-low, stable=True)
    by_query = tf.argsort(tf.gather(queries, by_score), stable=True)
    order = tf.gather(by_score, by_query)
    sorted_queries = tf.gather(queries, order)
    first = tf.math.unsorted_segment_min(
        tf.range(tf.size(queries)), sorted_queries, tf.size(queries)
    )
    places = tf.range(tf.size(queries)) - tf.gather(first, sorted_queries)
    return tf.scatter_nd(order[:, tf.newaxis], places, tf.shape(queries))
