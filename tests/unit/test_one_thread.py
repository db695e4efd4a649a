"""The process in which benchmarks train students."""

from __future__ import annotations

from pathlib import Path

from benchmarks import one_thread


def threads(folder: Path, *, of: str) -> tuple[str, int, int]:
    import tensorflow as tf

    at_once = tf.config.threading
    return (
        f"{of} in {folder.name}",
        at_once.get_intra_op_parallelism_threads(),
        at_once.get_inter_op_parallelism_threads(),
    )


def test_a_function_is_called_where_tensorflow_has_one_thread(tmp_path: Path) -> None:
    place = tmp_path / "runs"
    assert one_thread.call(threads, place, of="threads") == ("threads in runs", 1, 1)
