"""The processes of trials: what happens where they hang, die, or are left alone."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tfx_distill.components import serving_forks, serving_process
from tfx_distill.components.serving_process import Probe, ProbeFailed


def probe(script: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Probe:
    """A process that runs another script in the place of the probe."""
    (tmp_path / "script.py").write_text(script)
    monkeypatch.setattr(serving_process, "SCRIPT", tmp_path / "script.py")
    return Probe("candidate", "folder", tmp_path / "requests.npz", tmp_path)


READY = """
import sys, time
print('{"tensorflow": "2"}', flush=True)
sys.stdin.readline()
"""


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        ("import time; time.sleep(600)", "it hung for 3 s while loading the model (signal 9)"),
        (READY + "time.sleep(600)", "it hung for 3 s while answering (signal 9)"),
        (READY + "sys.exit('no memory')", "it ended while answering (exit status 1). Its last"),
        (READY + "import os; os.kill(os.getpid(), 11)", "(signal 11). Its last words: none"),
    ],
)
def test_a_process_that_hangs_or_dies_is_told_of_in_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, reason: str
) -> None:
    monkeypatch.setattr(serving_process, "LOAD_SECONDS", 3.0)
    monkeypatch.setattr(serving_process, "REPLY_SECONDS", 3.0)
    with probe(script, tmp_path, monkeypatch) as process, pytest.raises(ProbeFailed) as failure:
        process.seconds(1, 0)
    assert reason in failure.value.reason


def test_a_trial_does_not_go_on_for_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    slow = """
import sys, time
print('{"tensorflow": "2"}', flush=True)
for line in sys.stdin:
    time.sleep(0.5)
    print('{"seconds": 0.5}', flush=True)
"""
    monkeypatch.setattr(serving_process, "TRIAL_SECONDS", 1.2)
    with probe(slow, tmp_path, monkeypatch) as process:
        assert process.seconds(1, 0) == process.seconds(1, 1) == 0.5
        with pytest.raises(ProbeFailed, match="while answering"):
            process.seconds(1, 2)


def test_a_fork_server_that_died_is_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with probe(READY, tmp_path, monkeypatch) as first:
        assert first.version() == "2"
    server = serving_forks._started
    assert server is not None
    server._process.kill()
    server._process.wait()
    with probe(READY, tmp_path, monkeypatch) as second:
        assert second.version() == "2"
    assert serving_forks._started is not server


def test_a_fork_server_without_tensorflow_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = serving_forks.SCRIPT.read_text()
    bare = script.replace("(*FOREIGN,", '("tensorflow", *FOREIGN,')
    assert bare != script
    (tmp_path / "server.py").write_text(bare)
    monkeypatch.setattr(serving_forks, "SCRIPT", tmp_path / "server.py")
    monkeypatch.setattr(serving_forks, "_started", None)
    with pytest.raises(RuntimeError, match="import of tensorflow halted"):
        probe(READY, tmp_path, monkeypatch)


def test_a_trial_ends_with_the_process_that_asked_for_it(tmp_path: Path) -> None:
    """Also where that one was killed, in the middle of a request."""
    (tmp_path / "waits.py").write_text("import sys\nprint('ready', flush=True)\nsys.stdin.read()")
    (tmp_path / "asks.py").write_text(f"""
import os, pathlib, signal
from tfx_distill.components.serving_forks import Fork
folder = pathlib.Path({str(tmp_path)!r})
with open(folder / "errors", "wb") as errors:
    fork = Fork(folder / "waits.py", [], folder, errors)
assert fork.replies.readline() == "ready\\n"
print(fork._pid, fork._server._process.pid, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
""")
    asked = subprocess.run(
        [sys.executable, tmp_path / "asks.py"], stdout=subprocess.PIPE, text=True, check=False
    )
    assert asked.returncode == -signal.SIGKILL
    processes = [Path("/proc") / pid for pid in asked.stdout.split()]
    assert len(processes) == 2
    deadline = time.monotonic() + 10
    while any(_runs(process) for process in processes):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def _runs(process: Path) -> bool:
    """Whether a process is there and no zombie."""
    try:
        return process.joinpath("stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.parametrize("library", ["tfx_distill", "tensorflow_transform", "tf_keras"])
def test_the_process_has_nothing_but_tensorflow(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, library: str
) -> None:
    script = serving_process.SCRIPT.read_text()
    needy = script.replace("    server = Server(", f"    import {library}\n    server = Server(")
    assert needy != script
    with probe(needy, tmp_path, monkeypatch) as process, pytest.raises(ProbeFailed) as failure:
        process.version()
    assert f"import of {library} halted" in failure.value.reason
