"""Batches for training: nothing lost, nothing doubled, labels by id, queries kept whole."""

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tfx_distill.schema.config import FeaturesConfig
from tfx_distill.trainer import feature_table
from tfx_distill.trainer import input as input_module
from tfx_distill.trainer.folds import fold_of
from tfx_distill.trainer.input import Examples, Feed, Fold, ahead


def table(folder, sizes, per_query=3):
    start = 0
    for number, rows in enumerate(sizes):
        ids = np.arange(start, start + rows, dtype=np.int64)
        with feature_table.Writer(folder / "Split-train" / f"part-{number:05d}.arrow") as writer:
            for part in (slice(0, rows // 2), slice(rows // 2, rows)):
                writer.write(
                    feature_table.record(
                        {
                            "numeric": np.stack([ids[part], ids[part] * 0], 1).astype(np.float32),
                            "example_id": ids[part],
                            "query_id": ids[part] // per_query,
                            "event_time": ids[part],
                            "label_click": (ids[part] % 2).astype(np.float32),
                            "weight_click": np.ones(len(ids[part]), np.float32),
                        }
                    )
                )
        start += rows
    return feature_table.shards(folder, "train")


class LabelsById:
    """Teacher labels that are the example id, for even ids only."""

    def join(self, shard, example_id):
        present = example_id % 2 == 0
        return {"click": np.where(present, example_id, 0).astype(np.float32)}, present


def ids_of(batches):
    return np.concatenate([batch["example_id"] for batch in batches])


@settings(max_examples=25, deadline=None)
@given(
    sizes=st.lists(st.integers(2, 40), min_size=1, max_size=4),
    batch_size=st.integers(1, 50),
    seed=st.one_of(st.none(), st.tuples(st.integers(0, 5), st.integers(0, 5))),
    whole=st.booleans(),
)
# The second shard begins with the query that the first one ends with, too long for one batch.
@example(sizes=[4, 5], batch_size=4, seed=None, whole=True)
def test_an_epoch_has_every_example_once(tmp_path_factory, sizes, batch_size, seed, whole):
    files = table(tmp_path_factory.mktemp("table"), sizes)
    examples = Examples(files, batch_size, seed=seed, whole_queries=whole, taught=())
    batches = list(examples.batches())
    assert sorted(ids_of(batches)) == list(range(sum(sizes)))
    if seed is None:
        assert ids_of(batches).tolist() == list(range(sum(sizes)))
    for batch in batches:
        # Columns stay beside each other.
        np.testing.assert_array_equal(batch["numeric"][:, 0], batch["example_id"])
        np.testing.assert_array_equal(batch["label_click"], batch["example_id"] % 2)
    if not whole:
        assert all(len(b["example_id"]) == batch_size for b in batches[:-1])


def test_epochs_differ_and_seeds_repeat(tmp_path):
    files = table(tmp_path, [30, 30])

    def two_epochs(seed):
        examples = Examples(files, 8, seed=seed)
        return [ids_of(examples.batches()).tolist() for _ in range(2)]

    first, second = two_epochs((1, 7))
    assert first != second
    assert [first, second] == two_epochs((1, 7))
    assert two_epochs((2, 7))[0] != first
    assert two_epochs((1, 8))[0] != first, "each span is shuffled in its own way"
    assert ids_of(Examples(files, 8).batches()).tolist() == list(range(60))


@pytest.mark.parametrize(
    ("epochs", "first", "kept_bytes", "reads"),
    [
        (1, 0, 1 << 20, 4),
        (3, 0, 1 << 20, 2),
        (3, 2, 1 << 20, 4),  # one epoch to come, and nothing to keep for it
        (3, 0, 1000, 3),  # a shard has 30 or 31 examples of 32 bytes
    ],
)
@pytest.mark.parametrize("more", [{}, {"whole_queries": True}, {"without": Fold(1, 3)}])
def test_what_fits_is_read_once_for_all_epochs(
    tmp_path, monkeypatch, epochs, first, kept_bytes, reads, more
):
    files = table(tmp_path, [30, 31])
    given = {"seed": (0,), "labels": LabelsById(), "taught": ("click",), "first_epoch": first}
    once = Examples(files, 8, **given, **more)
    expected = [list(once.batches()) for _ in range(2)]
    monkeypatch.setattr(input_module, "_KEPT_BYTES", kept_bytes)
    read = feature_table.read
    seen = []
    monkeypatch.setattr(feature_table, "read", lambda *a, **k: seen.append(a) or read(*a, **k))
    examples = Examples(files, 8, **given, **more, epochs=epochs)
    for batches in expected:
        for got, want in zip(examples.batches(), batches, strict=True):
            for name in want:
                np.testing.assert_array_equal(got[name], want[name])
    assert len(seen) == reads


def feed_of(tasks, taught=(), listwise=False):
    return Feed(FeaturesConfig(numeric=[{"name": "views"}]), tasks, taught, listwise)


@pytest.mark.parametrize("listwise", [True, False])
def test_a_graph_gets_the_matrices_in_the_order_of_the_tasks(listwise):
    feed = feed_of(("click", "like"), ("like", "click", "share"), listwise)
    names = ["label_click", "label_like", "weight_click", "weight_like"]
    names += ["teacher_click", "teacher_like", "teacher_share", "teacher_label_present"]
    batch = {name: np.full(3, number, np.float32) for number, name in enumerate(names)}
    batch["numeric"] = np.arange(6, dtype=np.float32).reshape(3, 2)
    batch["query_index"] = np.array([0, 0, 1], np.int32)
    batch["example_id"] = batch["query_id"] = np.arange(3)
    ((tensors, count),) = feed.tensors([batch])
    assert count == 3
    assert {name: (t.dtype, len(t.shape)) for name, t in tensors.items()} == {
        name: (spec.dtype, len(spec.shape)) for name, spec in feed.spec.items()
    }
    got = {name: tensor.numpy().tolist() for name, tensor in feed.batch(tensors).items()}
    assert got.pop("query_index", None) == ([0, 0, 1] if listwise else None)
    assert got == {
        "numeric": [[0, 1], [2, 3], [4, 5]],
        "labels": [[0] * 3, [1] * 3],
        "weights": [[2] * 3, [3] * 3],
        "teacher": [[5] * 3, [4] * 3, [6] * 3],
        "teacher_label_present": [7] * 3,
    }


def test_a_graph_without_a_teacher_gets_hard_labels_only(tmp_path):
    files = table(tmp_path, [9])
    feed = feed_of(("click",))
    ((tensors, _),) = feed.tensors(Examples(files, 9, whole_queries=True).batches())
    batch = feed.batch(tensors)
    assert set(batch) == {"numeric", "labels", "weights"}
    assert batch["labels"].numpy().tolist() == [[i % 2 for i in range(9)]]


def test_queries_stay_whole(tmp_path):
    files = table(tmp_path, [30, 30], per_query=5)
    examples = Examples(
        files,
        12,
        seed=(3,),
        labels=LabelsById(),
        taught=("click",),
        whole_queries=True,
    )
    for batch in examples.batches():
        queries, counts = np.unique(batch["query_id"], return_counts=True)
        assert (counts == 5).all()
        assert len(batch["example_id"]) <= 12
        assert batch["query_index"].max() + 1 == len(queries)
        pairs = set(zip(batch["query_id"], batch["query_index"], strict=True))
        assert len(pairs) == len(queries)


def test_a_query_longer_than_a_batch_is_a_batch_of_its_own(tmp_path):
    files = table(tmp_path, [30], per_query=10)
    examples = Examples(files, 4, seed=(0,), whole_queries=True)
    assert [len(b["example_id"]) for b in examples.batches()] == [10, 10, 10]


@pytest.mark.parametrize("whole", [True, False])
def test_teacher_labels_are_joined_before_the_shuffle(tmp_path, whole):
    files = table(tmp_path, [30, 31])
    examples = Examples(
        files,
        7,
        seed=(0,),
        labels=LabelsById(),
        taught=("click",),
        whole_queries=whole,
    )
    for batch in examples.batches():
        even = batch["example_id"] % 2 == 0
        np.testing.assert_array_equal(batch["teacher_label_present"], even)
        np.testing.assert_array_equal(
            batch["teacher_click"], np.where(even, batch["example_id"], 0)
        )


def test_a_crash_while_writing_leaves_no_shard(tmp_path):
    file = tmp_path / "part-00000.arrow"

    def crash():
        with feature_table.Writer(file) as writer:
            writer.write(feature_table.record({"example_id": np.arange(3)}))
            raise RuntimeError("killed")

    with pytest.raises(RuntimeError):
        crash()
    assert list(tmp_path.iterdir()) == []


def test_a_fold_leaves_out_its_queries_and_nothing_else(tmp_path):
    files = table(tmp_path, [60, 61])
    every = Examples(files, 16).batches()
    queries = np.concatenate([batch["query_id"] for batch in every])
    for number in range(3):
        examples = Examples(files, 16, seed=(0,), without=Fold(number, 3))
        got = np.concatenate([batch["query_id"] for batch in examples.batches()])
        assert sorted(got) == sorted(queries[fold_of(queries, 3) != number])


def test_reading_ahead_keeps_the_batches_and_passes_errors_on():
    assert list(ahead(iter([{"a": 1}, {"a": 2}]))) == [{"a": 1}, {"a": 2}]

    def broken():
        yield {"a": 1}
        raise OSError("the disk is gone")

    batches = ahead(broken())
    assert next(batches) == {"a": 1}
    with pytest.raises(OSError, match="the disk is gone"):
        next(batches)
