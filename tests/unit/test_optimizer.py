"""The optimizer: plain Adam for small tables, lazy Adam for large ones, both against NumPy."""

import numpy as np
import pytest
import tensorflow as tf
import tf_keras
from feature_chunks import FEATURES, MODEL, TASKS, Labels, write_chunk

from tfx_distill.schema.config import StudentConfig, TrainingConfig
from tfx_distill.trainer import heads
from tfx_distill.trainer.optimizer import Optimizer
from tfx_distill.trainer.training import Training

ROWS, WIDTH = 12, 2
RATE, BETA_1, BETA_2, EPSILON = 0.05, 0.9, 0.999, 1e-7
# Ids of five batches; of 7 the second batch has two, and no batch has 11.
BATCHES = ([3, 7], [7, 0, 7], [3], [1, 2], [7, 3, 10])


def start():
    return np.random.default_rng(0).normal(size=(ROWS, WIDTH)).astype(np.float32)


def slices(ids, step):
    values = np.random.default_rng([1, step]).normal(size=(len(ids), WIDTH)).astype(np.float32)
    return tf.IndexedSlices(
        tf.constant(values), tf.constant(ids, tf.int32), tf.constant([ROWS, WIDTH])
    )


def dense(ids, step):
    out = np.zeros((ROWS, WIDTH))
    np.add.at(out, ids, slices(ids, step).values.numpy().astype(np.float64))
    return out


def stepped(**training):
    """An optimizer after the five batches, and its table."""
    table = tf.Variable(start(), name="table")
    settings = {"learning_rate": RATE, "clip_norm": None} | training
    optimizer = Optimizer(TrainingConfig(**settings), {"table:0": table})

    @tf.function
    def step(gradient):
        optimizer.apply([gradient])

    for number, ids in enumerate(BATCHES):
        step(slices(ids, number))
    return optimizer, table


def numpy_adam(*, lazy, clip_norm=None):
    """Kingma and Ba, algorithm 1; `lazy`: in the rows of the batch only."""
    weight, m, v = start().astype(np.float64), np.zeros((ROWS, WIDTH)), np.zeros((ROWS, WIDTH))
    for number, ids in enumerate(BATCHES):
        gradient = dense(ids, number)
        if clip_norm is not None:
            gradient *= min(1.0, clip_norm / np.sqrt((gradient**2).sum()))
        rows = np.unique(ids) if lazy else np.arange(ROWS)
        m[rows] = BETA_1 * m[rows] + (1 - BETA_1) * gradient[rows]
        v[rows] = BETA_2 * v[rows] + (1 - BETA_2) * gradient[rows] ** 2
        unbiased_m = m[rows] / (1 - BETA_1 ** (number + 1))
        unbiased_v = v[rows] / (1 - BETA_2 ** (number + 1))
        weight[rows] -= RATE * unbiased_m / (np.sqrt(unbiased_v) + EPSILON)
    return weight, m, v


@pytest.mark.parametrize("clip_norm", [None, 0.5])
@pytest.mark.parametrize(("lazy_rows", "lazy"), [(ROWS, True), (ROWS + 1, False), (None, False)])
def test_large_tables_are_lazy_and_small_ones_are_not(lazy_rows, lazy, clip_norm):
    optimizer, table = stepped(lazy_rows=lazy_rows, clip_norm=clip_norm)
    weight, m, v = numpy_adam(lazy=lazy, clip_norm=clip_norm)
    # 1 - 0.999 in float32 is right to five digits; a step moves a weight by up to 0.05.
    np.testing.assert_allclose(table.numpy(), weight, atol=2e-5)
    np.testing.assert_allclose(optimizer.state["m/table:0"].numpy(), m, rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(optimizer.state["v/table:0"].numpy(), v, rtol=1e-4, atol=1e-9)
    assert optimizer.state["iteration:0"].numpy() == len(BATCHES)


def test_rows_that_no_batch_has_stay_to_the_last_bit():
    optimizer, table = stepped(lazy_rows=1)
    seen = np.unique(np.concatenate(BATCHES))
    unseen = np.setdiff1d(np.arange(ROWS), seen)
    np.testing.assert_array_equal(table.numpy()[unseen], start()[unseen])
    assert not optimizer.state["m/table:0"].numpy()[unseen].any()
    assert (table.numpy()[seen] != start()[seen]).all()
    # The third batch moved row 3; after it, row 0 had been seen once.
    assert abs(stepped(lazy_rows=None)[1].numpy()[0] - table.numpy()[0]).max() > 1e-3


def test_a_small_table_is_trained_by_keras_own_adam_to_the_last_bit():
    optimizer, table = stepped(lazy_rows=ROWS + 1, clip_norm=0.5)
    theirs = tf.Variable(start(), name="table")
    keras = tf_keras.optimizers.legacy.Adam(RATE, global_clipnorm=0.5)

    @tf.function
    def step(gradient):
        keras.apply_gradients([(tf.convert_to_tensor(gradient), theirs)])

    for number, ids in enumerate(BATCHES):
        step(slices(ids, number))
    np.testing.assert_array_equal(table.numpy(), theirs.numpy())
    for slot in ("m", "v"):
        np.testing.assert_array_equal(
            optimizer.state[f"{slot}/table:0"].numpy(), keras.get_slot(theirs, slot).numpy()
        )


def training(lazy_rows):
    return Training(
        "s",
        features=FEATURES,
        model=MODEL,
        heads=heads.of_student(StudentConfig(name="s"), TASKS, twin=False),
        training=TrainingConfig(batch_size=32, learning_rate=0.01, lazy_rows=lazy_rows),
        seed=1,
        quiet=True,
    )


def readers_of_whole_tables(built):
    """Operations of a step that read or write all of an embedding table or of its moments."""
    graph = built.step.graph.graph
    tables = {
        id(variable.handle): name
        for name, variable in {**built._weights, **built._moments}.items()
        if "embedding_" in name
    }
    inside = {
        id(inner): tables[id(outer)] for outer, inner in graph.captures if id(outer) in tables
    }
    assert len(inside) == 6, "two tables with two moments each"
    by_rows = {
        *("ResourceGather", "ResourceScatterUpdate", "ResourceScatterSub", "VariableShape"),
        *("Identity", "NoOp"),
    }
    sizes = {tuple(variable.shape) for name, variable in built._weights.items() if "emb" in name}
    return {
        f"{op.type} {inside.get(id(tensor), '')}"
        for op in graph.get_operations()
        for tensor in (*op.inputs, *op.outputs)
        if (id(tensor) in inside and op.type not in {*by_rows, "Placeholder"})
        or (tensor.shape.rank == 2 and tuple(tensor.shape) in sizes)
    }


def test_a_step_never_touches_all_of_a_large_table():
    assert readers_of_whole_tables(training(lazy_rows=1)) == set()
    found = readers_of_whole_tables(training(lazy_rows=None))
    assert any(name.startswith("ResourceApplyAdam m/embedding_user") for name in found)


def test_a_model_with_large_tables_learns_and_goes_on_from_its_state(tmp_path):
    chunk = write_chunk(tmp_path, seed=0)
    lazy = training(lazy_rows=1)
    record = lazy.fit(chunk, Labels(), span=0, epochs=3)
    assert record.losses["loss"][-1] < record.losses["loss"][0]
    plain = training(lazy_rows=None)
    assert lazy.state().optimizer.keys() == plain.state().optimizer.keys()
    # A state of either kind is one of the other.
    plain.load(lazy.state())
    lazy.load(plain.state())
    lazy.fit(chunk, Labels(), span=1, epochs=1)
    whole = training(lazy_rows=1)
    whole.fit(chunk, Labels(), span=0, epochs=3)
    whole.fit(chunk, Labels(), span=1, epochs=1)
    for name, value in lazy.state().weights.items():
        np.testing.assert_array_equal(value, whole.state().weights[name], err_msg=name)
