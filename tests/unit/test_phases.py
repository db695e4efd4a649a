"""What the stacks of a process tell of it, on TensorFlow, Beam and imports as they are."""

from __future__ import annotations

import gc
import importlib
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import apache_beam as beam
import pytest
import tensorflow as tf
from tensorflow.python.saved_model import loader_impl, save

from tfx_distill.pipeline import phases
from tfx_distill.pipeline.meter import Meter

PAUSE = 0.4
SLACK = 0.2


def here() -> str | None:
    return phases.of(sys._getframe())


def timed(call: Callable[[], Any]) -> float:
    """How long a call takes, in seconds."""
    before = time.monotonic()
    call()
    return time.monotonic() - before


class Seen:
    """Tells in which phase a function of a library is called."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, module: Any, function: str) -> None:
        self.phase: str | None = "it was not called"
        real: Callable[..., Any] = getattr(module, function)

        def called(*arguments: Any, **named: Any) -> Any:
            self.phase = here()
            return real(*arguments, **named)

        monkeypatch.setattr(module, function, called)


NOTED: dict[str, str | None] = {}


def note(main: int) -> None:
    """In a thread of Beam's, which the first one waits for."""
    NOTED["run"] = here()
    NOTED["waiting"] = phases.now(main)


class Noted(beam.PTransform):  # type: ignore[misc]
    def expand(self, rows: Any) -> Any:
        NOTED["made"] = here()
        return rows | beam.Map(note)


def test_work_is_no_phase() -> None:
    with Meter() as meter:
        time.sleep(PAUSE)
    assert here() is None
    assert meter.phases == dict.fromkeys(phases.PHASES, 0.0)
    assert meter.seconds >= PAUSE


@pytest.mark.parametrize("collects", [True, False])
def test_no_garbage_is_collected_while_stacks_are_listed(
    collects: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    # On Python 3.11 a process that does may hang, once in some thousand times.
    listed = sys._current_frames
    seen = []

    def listing() -> Any:
        seen.append(gc.isenabled())
        return listed()

    monkeypatch.setattr(sys, "_current_frames", listing)
    if not collects:
        gc.disable()
    try:
        phases.now(threading.get_ident())
        assert gc.isenabled() is collects, "as it was before"
    finally:
        gc.enable()
    assert seen == [False]


def test_imports_are_timed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "slow_to_import.py").write_text(f"import time; time.sleep({PAUSE})")
    monkeypatch.syspath_prepend(tmp_path)
    with Meter() as meter:
        longest = timed(lambda: importlib.import_module("slow_to_import"))
        time.sleep(PAUSE)
    assert [name for name, seconds in meter.phases.items() if seconds] == ["imports"]
    assert PAUSE - SLACK < meter.phases["imports"] < longest + SLACK


def test_tracing_is_timed_and_its_calls_are_not() -> None:
    @tf.function
    def slow(x: tf.Tensor) -> tf.Tensor:
        time.sleep(PAUSE)
        return x + 1

    with Meter() as meter:
        longest = timed(lambda: slow(tf.constant(1)))
        time.sleep(2 * PAUSE)
        slow(tf.constant(2))
    assert PAUSE - SLACK < meter.phases["tracing"] < longest + SLACK
    assert sum(meter.phases.values()) <= meter.seconds


def test_an_import_while_a_graph_is_traced_is_an_import(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "within.py").write_text("import told; told.phases.append(told.here())")
    told: Any = type(sys)("told")
    told.phases, told.here = [], here
    monkeypatch.setitem(sys.modules, "told", told)
    monkeypatch.syspath_prepend(tmp_path)

    @tf.function
    def traced(x: tf.Tensor) -> tf.Tensor:
        importlib.import_module("within")
        told.phases.append(here())
        return x

    traced(tf.constant(1))
    assert told.phases == ["imports", "tracing"]


def test_saved_models_are_written_and_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writing = Seen(monkeypatch, save, "_build_meta_graph")
    loading = Seen(monkeypatch, loader_impl, "parse_saved_model_with_debug_info")
    tf.saved_model.save(tf.Module(), str(tmp_path))
    tf.saved_model.load(str(tmp_path))
    assert (writing.phase, loading.phase) == ("SavedModels", "SavedModels")


def test_a_beam_graph_is_made_and_then_run() -> None:
    with beam.Pipeline("FnApiRunner") as pipeline:
        pipeline | beam.Create([threading.get_ident()]) | Noted()
    assert NOTED == {"made": "Beam graph", "run": None, "waiting": None}


def test_what_another_thread_does_counts_while_this_one_waits() -> None:
    @tf.function
    def slow() -> None:
        time.sleep(PAUSE)

    with Meter() as meter:
        other = threading.Thread(target=slow)
        other.start()
        other.join()
    assert PAUSE - SLACK < meter.phases["tracing"] <= meter.seconds
