"""The ranker: who learns from whom, which heads there are, and what is stripped."""

import numpy as np
import pytest
import tensorflow as tf
import tf_keras

from tfx_distill.schema.config import (
    DistillConfig,
    FeaturesConfig,
    ModelConfig,
    StudentConfig,
    TaskConfig,
)
from tfx_distill.trainer import heads
from tfx_distill.trainer.first_weights import first_weight
from tfx_distill.trainer.ranker import Ranker

FEATURES = FeaturesConfig.model_validate(
    {
        "numeric": ["x"],
        "categorical": [{"name": "user", "buckets": 20}],
        "multivalent": [{"name": "topics", "vocab": 5, "max_length": 3}],
    }
)
CLICK = TaskConfig(name="click", kind="binary", label="clicked")
WATCH = TaskConfig(name="watch", kind="regression", label="watched", weight=0.5)
TASKS = (CLICK, WATCH)
SMALL = ModelConfig(hidden=8, tower=4, embedding=4, experts=2)


def batch(rows=6, seed=0):
    random = np.random.default_rng(seed)
    return {
        "numeric": tf.constant(random.normal(size=(rows, 2)), tf.float32),
        "categorical": tf.constant(random.integers(0, 21, (rows, 1)), tf.int32),
        "multivalent": tf.constant(random.integers(0, 7, (rows, 3)), tf.int32),
        "example_id": tf.range(rows, dtype=tf.int64),
        "query_index": tf.zeros(rows, tf.int32),
        # Rows: click, watch.
        "labels": tf.constant(
            np.stack([random.integers(0, 2, rows), random.normal(size=rows)]), tf.float32
        ),
        "weights": tf.constant(np.array([[1] * 6, [1, 0] * 3])[:, :rows], tf.float32),
        "teacher_label_present": tf.constant([1.0, 1, 0, 1, 1, 1][:rows]),
        "teacher": tf.constant(random.normal(size=(2, rows)), tf.float32),
    }


def ranker(student, *, twin=False, model=SMALL, tasks=TASKS):
    built = Ranker(FEATURES, model, heads.of_student(student, tasks, twin=twin))
    for variable in built.trainable_variables:
        variable.assign(first_weight(variable.name, variable.shape, seed=0))
    return built


def loss(built, data):
    return float(built.eval_losses(data)[0])


def learn(built, data, steps):
    optimizer = tf_keras.optimizers.SGD(0.1)
    for step in range(steps):
        with tf.GradientTape() as tape:
            objective, _ = built.objective(data, tf.constant([0, step]))
        optimizer.minimize(objective, built.trainable_variables, tape=tape)


def gradients(built, data):
    """By the name of the variable."""
    with tf.GradientTape() as tape:
        objective, _ = built.objective(data, tf.constant([0, 0]))
    variables = built.trainable_variables
    found = tape.gradient(objective, variables)
    return {v.name: tf.convert_to_tensor(g).numpy() for v, g in zip(variables, found, strict=True)}


def taught(built, add):
    """Names of the variables that learn something else when `add` is added to teacher labels."""
    data = batch()
    data["teacher"] = data["teacher"][: len(built.taught_tasks)]
    before, after = (
        gradients(built, data),
        gradients(built, data | {"teacher": data["teacher"] + add}),
    )
    # Bit for bit: no difference is too small.
    return {name for name in before if not np.array_equal(before[name], after[name])}


@pytest.mark.parametrize("add", [1.0, 1e30, np.nan], ids=["wrong", "absurd", "nan"])
@pytest.mark.parametrize("architecture", ["shared_bottom", "mmoe", "dcn_v2"])
def test_an_auxiliary_teacher_label_never_reaches_the_serving_head(architecture, add):
    model = SMALL.model_copy(update={"architecture": architecture})
    names = taught(ranker(StudentConfig(name="s"), model=model), add)
    assert any("/distillation/" in name for name in names)
    assert any("/tower/" in name for name in names)
    assert any("embedding_user" in name for name in names)
    assert not any("/serving/" in name for name in names)


def test_a_direct_teacher_label_trains_the_serving_head():
    distill = {"click": DistillConfig(mode="direct"), "watch": DistillConfig(mode="none")}
    built = ranker(StudentConfig(name="s", distill=distill))
    names = taught(built, 1.0)
    assert {name for name in names if "/serving/" in name} == {
        "ranker/task_click/serving/kernel:0",
        "ranker/task_click/serving/bias:0",
    }
    assert not any("distillation" in v.name for v in built.variables)


def test_direct_and_auxiliary_labels_go_where_they_belong():
    distill = {"click": DistillConfig(mode="auxiliary"), "watch": DistillConfig(mode="direct")}
    built, data = ranker(StudentConfig(name="s", distill=distill)), batch()
    serving, distilled = built(data)
    np.testing.assert_array_equal(serving["watch"], distilled["watch"])
    assert not np.allclose(serving["click"], distilled["click"])
    assert {name for name in taught(built, 1.0) if "/serving/" in name} == {
        "ranker/task_watch/serving/kernel:0",
        "ranker/task_watch/serving/bias:0",
    }


@pytest.mark.parametrize("architecture", ["shared_bottom", "mmoe"])
def test_each_output_is_that_of_its_own_tower(architecture):
    """By hand, with NumPy, one task after the other."""
    model = SMALL.model_copy(update={"architecture": architecture})
    student = StudentConfig(
        name="s", tasks=("click",), distill={"watch": DistillConfig(mode="non_serving")}
    )
    built, data = ranker(student, model=model), batch()
    weights = {}
    for number, variable in enumerate(built.trainable_variables):
        if variable.name.rsplit("/")[-1] == "bias:0":
            variable.assign(variable + 0.1 * number)
        weights[variable.name.removeprefix("ranker/").removesuffix(":0")] = variable.numpy()
    shared = built._shared(built._encoder(data))
    serving, distilled = built(data)
    for task, head, output in (
        ("click", "serving", serving["click"]),
        ("click", "distillation", distilled["click"]),
        ("watch", "distillation", distilled["watch"]),
    ):
        values = shared[task].numpy()
        for layer in ("tower/dense_0", head):
            name = f"task_{task}/{layer}"
            values = values @ weights[f"{name}/kernel"] + weights[f"{name}/bias"]
            if layer != head:
                values = np.maximum(values, 0)
        np.testing.assert_allclose(output, values[:, 0], rtol=1e-5)


def test_a_non_serving_task_has_a_distillation_head_only():
    student = StudentConfig(
        name="s", tasks=("click",), distill={"watch": DistillConfig(mode="non_serving")}
    )
    built = ranker(student)
    serving, distilled = built(batch())
    assert set(serving) == {"click"}
    assert set(distilled) == {"click", "watch"}
    assert built.loss_names == ("loss", "click", "distill_click", "distill_watch")


def test_tasks_that_are_neither_served_nor_distilled_are_not_learnt():
    built = ranker(StudentConfig(name="s", tasks=("watch",)))
    assert not any("task_click" in v.name for v in built.variables)


def test_the_twin_has_the_students_architecture_without_distillation():
    student = ranker(StudentConfig(name="s"))
    twin = ranker(StudentConfig(name="s"), twin=True)
    assert twin(batch())[1] == {}
    names = {v.name for v in student.variables if "/distillation/" not in v.name}
    assert names == {v.name for v in twin.variables}


def test_the_loss_by_hand():
    student = StudentConfig(
        name="s",
        distill={"click": DistillConfig(weight=2.0), "watch": DistillConfig(loss="huber")},
    )
    built, data = ranker(student), batch()
    serving, distilled = built(data)
    _, (_, *losses) = built.objective(data, tf.constant([0, 0]))
    hard, soft = losses[:2], losses[2:]
    assert built.loss_names[1:] == ("click", "watch", "distill_click", "distill_watch")
    z, y = serving["click"].numpy(), data["labels"].numpy()[0]
    p = 1 / (1 + np.exp(-z))
    np.testing.assert_allclose(
        hard[0], -np.mean(y * np.log(p) + (1 - y) * np.log(1 - p)), rtol=1e-5
    )
    error = (serving["watch"] - data["labels"][1]).numpy()[[0, 2, 4]]
    np.testing.assert_allclose(hard[1], 0.5 * np.mean(error**2), rtol=1e-5)
    labelled = [0, 1, 3, 4, 5]
    t = 1 / (1 + np.exp(-data["teacher"].numpy()[0, labelled]))
    q = 1 / (1 + np.exp(-distilled["click"].numpy()[labelled]))
    np.testing.assert_allclose(
        soft[0], 2 * -np.mean(t * np.log(q) + (1 - t) * np.log(1 - q)), rtol=1e-5
    )


def test_examples_without_a_teacher_label_do_not_change_the_loss():
    built, data = ranker(StudentConfig(name="s")), batch()
    other = dict(data)
    other["teacher"] = data["teacher"] + 100 * (1 - data["teacher_label_present"])
    noise = tf.constant([0, 0])
    np.testing.assert_allclose(built.objective(data, noise)[1], built.objective(other, noise)[1])


@pytest.mark.parametrize("architecture", ["shared_bottom", "mmoe", "dcn_v2"])
def test_each_architecture_learns_and_is_served_without_its_distillation_heads(architecture):
    model = SMALL.model_copy(update={"architecture": architecture})
    built, data = ranker(StudentConfig(name="s"), model=model), batch()
    first = loss(built, data)
    learn(built, data, 60)
    assert loss(built, data) < first
    served = built.served()
    assert not any("distillation" in v.name for v in served.variables)
    for task, output in served(data)[0].items():
        np.testing.assert_allclose(output, built(data)[0][task], rtol=1e-5)


@pytest.mark.parametrize("architecture", ["shared_bottom", "mmoe", "dcn_v2"])
def test_width_multiplies_the_layers(architecture):
    model = SMALL.model_copy(update={"architecture": architecture, "width": 4.0})
    built = ranker(StudentConfig(name="s"), model=model)
    shapes = {v.name: tuple(v.shape) for v in built.variables}
    assert shapes["embedding_user:0"] == (21, 16)
    tower = next(
        s for name, s in shapes.items() if "task_click/tower/" in name and "kernel" in name
    )
    assert tower[1] == 16
    assert any(s[-1] == 32 for s in shapes.values()), "hidden layers are 8 * 4 wide"


def test_variable_names_are_unique():
    names = [v.name for v in ranker(StudentConfig(name="s")).trainable_variables]
    assert len(names) == len(set(names))


def test_multivalent_features_are_means_over_what_is_there():
    built = ranker(StudentConfig(name="s"))
    encoder = built._encoder
    data = batch(1)
    data["multivalent"] = tf.constant([[2, 0, 4]], tf.int32)
    rows = encoder._tables["topics"].numpy()
    np.testing.assert_allclose(
        encoder(data)[0, -rows.shape[1] :], (rows[2] + rows[4]) / 2, rtol=1e-5
    )
    data["multivalent"] = tf.constant([[0, 0, 0]], tf.int32)
    np.testing.assert_array_equal(encoder(data)[0, -rows.shape[1] :], 0)


def test_a_listwise_student_and_its_twin_see_the_same_batches():
    from tfx_distill.schema.config import RunConfig
    from tfx_distill.trainer.run import TrainingJob

    rules = {"click": DistillConfig(loss="listnet")}
    student = StudentConfig(name="s", distill=rules)
    run = RunConfig.model_construct(
        seed=0, features=FEATURES, tasks=TASKS, labels=type("Labels", (), {"min_coverage": 1.0})
    )
    for twin in (False, True):
        assert TrainingJob.of_student(run, student, twin=twin).whole_queries
    plain = StudentConfig(name="s")
    assert not TrainingJob.of_student(run, plain, twin=False).whole_queries
