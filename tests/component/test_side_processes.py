"""Components of several students at the same time, in processes of their own."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from multiprocessing import forkserver
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from small_examples import SPAN, Prepared
from tfx.dsl.compiler import compiler
from tfx.dsl.components.common.importer import Importer
from tfx.orchestration import metadata
from tfx.orchestration.pipeline import Pipeline
from tfx.types import standard_artifacts

from tfx_distill.components.lineage_properties import TRANSFORM_GRAPH, WATERMARK
from tfx_distill.components.promotion_gate import PromotionGate
from tfx_distill.components.serving_validator import ServingValidator
from tfx_distill.components.student_trainer import StudentTrainer
from tfx_distill.pipeline import graph, local_runner
from tfx_distill.pipeline.local_runner import Outcome
from tfx_distill.pipeline.side_processes import SideProcesses
from tfx_distill.schema import config as run_config
from tfx_distill.schema.config import RunConfig
from tfx_distill.schema.errors import EnvironmentProblem, ModelError
from tfx_distill.trainer.run import TrainingJob

REPOSITORY = Path(__file__).resolve().parents[2]
# Many processes beside each other: on a busy machine they take their time.
pytestmark = pytest.mark.timeout(1500)


def config(prepared: Prepared) -> RunConfig:
    def student(name: str, rate: float) -> dict[str, Any]:
        training = {"epochs": 2, "batch_size": 32, "learning_rate": rate, "clip_norm": None}
        model = {"hidden": 4, "tower": 3, "embedding": 2}
        return {"name": name, "model": model, "training": training}

    students = [student("calm", 0.01), student("slow", 0.001), student("wild", 1e30)]
    return RunConfig.model_validate(
        prepared.config.model_dump(mode="json") | {"students": students}
    )


def pipeline(prepared: Prepared, features: Any, folder: Path) -> Pipeline:
    examples = Importer(
        source_uri=features.uri,
        artifact_type=standard_artifacts.Examples,
        properties={"span": SPAN, "split_names": '["train", "eval"]'},
        custom_properties={TRANSFORM_GRAPH: prepared.transform_graph.uri, WATERMARK: 1},
    ).with_id("Features")
    graph = Importer(
        source_uri=prepared.transform_graph.uri, artifact_type=standard_artifacts.TransformGraph
    ).with_id("Graph")
    made = config(prepared)
    trainers = [
        StudentTrainer(
            examples=examples.outputs["result"],
            transform_graph=graph.outputs["result"],
            job=TrainingJob.of_student(made, student, twin=True),
        ).with_id(student.name)
        for student in made.students
    ]
    return Pipeline(
        pipeline_name="side_by_side",
        pipeline_root=str(folder / "artifacts"),
        components=[examples, graph, *trainers],
        metadata_connection_config=metadata.sqlite_metadata_connection_config(
            str(folder / "metadata.sqlite")
        ),
    )


def weights(folder: Path, name: str) -> list[np.ndarray]:
    (model,) = (folder / "artifacts" / name / "model").iterdir()
    return [w.numpy() for w in tf.saved_model.load(str(model / "Format-Serving")).weights]


@pytest.fixture(scope="module")
def alone(prepared: Prepared, features: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One after the other, in this process."""
    folder = tmp_path_factory.mktemp("alone")
    local_runner.run(pipeline(prepared, features, folder), report=lambda line: None)
    return folder


@pytest.fixture(scope="module")
def beside(
    prepared: Prepared, features: Any, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Outcome, SideProcesses, list[str]]:
    """Two at a time."""
    folder = tmp_path_factory.mktemp("beside")
    lines: list[str] = []
    with SideProcesses(2, folder) as processes:
        outcome = local_runner.run(
            pipeline(prepared, features, folder), beside=processes, report=lines.append
        )
    return folder, outcome, processes, lines


def test_the_models_are_those_of_one_process(alone: Path, beside: Any) -> None:
    for name in ("calm", "slow"):
        for mine, theirs in zip(weights(beside[0], name), weights(alone, name), strict=True):
            np.testing.assert_allclose(mine, theirs, rtol=1e-5, atol=1e-6)


def test_two_are_trained_at_the_same_time(beside: Any) -> None:
    _, _, processes, lines = beside
    begun = [lines.index(line) for line in ("[3/5] calm", "[4/5] slow", "[5/5] wild")]
    assert max(begun) < min(k for k, line in enumerate(lines) if k > begun[0] and ":" in line)
    assert processes.costs.keys() == {"calm", "slow"}
    assert all(cost.peak_mib > 100 for cost in processes.costs.values())


def test_phases_are_those_of_the_processes(beside: Any) -> None:
    _, outcome, _, _ = beside
    steps = {step.component: step.phases for step in outcome.steps}
    assert all(steps[name]["tracing"] > 0.1 for name in ("calm", "slow"))
    # TensorFlow and TFX are imported once, by the process that forks the others.
    whole = {step.component: step.seconds for step in outcome.steps}
    assert all(steps[name]["imports"] < 0.3 * whole[name] for name in ("calm", "slow"))
    # Waiting for a process is no bookkeeping.
    wild = outcome.steps[-1]
    assert wild.phases["bookkeeping"] < 0.5 * wild.seconds
    assert {name for name, seconds in steps["Features"].items() if seconds} <= {"bookkeeping"}


def test_a_failure_reaches_the_caller_and_stops_no_other(beside: Any) -> None:
    _, outcome, _, _ = beside
    states = {step.component: step.state for step in outcome.steps}
    assert list(states) == ["Features", "Graph", "calm", "slow", "wild"]
    assert states == {**dict.fromkeys(states, "ran"), "wild": "failed"}
    (error,) = outcome.errors
    assert isinstance(error, ModelError)
    assert "finite" in str(error)


def test_they_write_to_the_log(beside: Any) -> None:
    assert "Saving calm (twin)" in (beside[0] / "run.log").read_text()


ALONE = """
import os, sys, time
from pathlib import Path
from tfx_distill.pipeline import run_log

def main():
    folder = Path(sys.argv[1])
    run_log.divert(folder)
    # What this process imports for itself is not what is tested.
    terminal = os.dup(2)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    from tfx_distill.pipeline.side_processes import SideProcesses
    os.dup2(terminal, 2)
    with SideProcesses(2, folder) as processes:
        started = time.monotonic()
        processes.warm()
        print(time.monotonic() - started, flush=True)
        pids = [processes._pool.submit(os.getpid) for _ in range(2)]
        print(*{os.getppid(), *(pid.result() for pid in pids)} - {os.getppid()}, flush=True)
        time.sleep(600)

if __name__ == "__main__":
    main()
"""


def test_starting_them_keeps_nobody_waiting_and_a_killed_run_leaves_none(tmp_path: Path) -> None:
    script, folder = tmp_path / "alone.py", tmp_path / "run"
    script.write_text(ALONE)
    folder.mkdir()
    # A module of the folder of the run is not one of ours.
    (folder / "tensorflow.py").write_text("raise SystemExit('not the right one')")
    run = subprocess.Popen(
        [sys.executable, str(script), str(folder)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=folder,
        env={k: v for k, v in os.environ.items() if not k.startswith("TF_")},
    )
    assert run.stdout is not None
    assert float(run.stdout.readline()) < 2, "seconds: it does not wait for imports"
    side = [int(pid) for pid in run.stdout.readline().split()]
    assert side
    servers = {int(Path(f"/proc/{pid}/stat").read_text().split()[3]) for pid in side}
    assert servers - {run.pid}, "forked by a process of its own"
    run.kill()
    _, told = run.communicate(timeout=60)
    # What libraries say while they are imported is nothing for a terminal. (Python counts the
    # semaphores of the killed one.)
    assert [line for line in told.splitlines() if "resource_tracker" not in line] == []
    deadline = time.monotonic() + 60
    while left := [pid for pid in (*side, *servers) if Path(f"/proc/{pid}").exists()]:
        assert time.monotonic() < deadline, f"still there: {left}"
        time.sleep(0.1)


def test_what_forks_them_has_not_started_tensorflow() -> None:
    code = (
        "import os, tfx_distill.pipeline.side_imports\n"
        "from tensorflow.python.eager import context\n"
        "assert not context.context()._initialized, 'TensorFlow runs'\n"
        "print(len(os.listdir('/proc/self/task')))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True, timeout=300
    )
    # This one, OpenBLAS' for the other cores, and two of Arrow's allocator.
    assert int(done.stdout) <= 2 + (os.cpu_count() or 1) + 2


def test_a_process_that_forks_and_dies_is_started_again(
    prepared: Prepared, features: Any, tmp_path: Path
) -> None:
    forkserver.ensure_running()
    os.kill(forkserver._forkserver._forkserver_pid, 9)
    with SideProcesses(2, tmp_path) as processes:
        made = pipeline(prepared, features, tmp_path)
        outcome = local_runner.run(made, beside=processes, report=lambda line: None)
    assert [step.state for step in outcome.steps] == [*["ran"] * 4, "failed"]


def test_a_process_that_is_killed_is_an_error_in_words(
    prepared: Prepared, features: Any, tmp_path: Path
) -> None:
    over = threading.Event()

    def kill() -> None:
        while not over.wait(0.05):
            for child in multiprocessing.active_children():
                os.kill(child.pid or 0, 9)

    killer = threading.Thread(target=kill, daemon=True)
    killer.start()
    try:
        with SideProcesses(2, tmp_path) as processes:
            made = pipeline(prepared, features, tmp_path)
            outcome = local_runner.run(made, beside=processes, report=lambda line: None)
    finally:
        over.set()
        killer.join()
    assert [step.state for step in outcome.steps] == ["ran", "ran", *["failed"] * 3]
    assert all(isinstance(error, EnvironmentProblem) for error in outcome.errors)
    assert "trainer.parallel" in str(outcome.error)


def test_beside_this_process_run_trainings_and_all_but_one_evaluation_and_gate(
    tmp_path: Path,
) -> None:
    made = run_config.load(REPOSITORY / "configs/video.yaml", {"root": str(tmp_path)})
    source = graph.Input(0, 0, "fingerprint", tmp_path / "schema.pbtxt")
    ir = compiler.Compiler().compile(graph.build(made, source))
    assert local_runner._aside_ids([node.pipeline_node for node in ir.nodes]) == {
        "StudentTrainer.compact",
        "StudentTrainer.tiny",
        "TwinTrainer.compact",
        "TwinTrainer.tiny",
        "StudentEvaluator.compact",
        "StudentGate.compact",
    }


def test_how_fast_a_model_answers_is_measured_while_nothing_else_runs() -> None:
    """A run whose nodes note when they begin and end, instead of doing anything."""
    told: list[str] = []
    finish = threading.Event()
    doing = local_runner._Run.__new__(local_runner._Run)
    doing._begun, doing._beside, doing._aside_ids = {}, SimpleNamespace(), frozenset({"slow"})

    def node(name: str, kind: Any) -> Any:
        info = SimpleNamespace(id=name, type=SimpleNamespace(name=kind.get_class_type()))
        return SimpleNamespace(node_info=info, upstream_nodes=[])

    def run(node: Any) -> Any:
        if node.node_info.id == "slow":
            finish.wait(60)
        told.append(node.node_info.id)
        return None, None

    doing._run = run
    with ThreadPoolExecutor(2) as background:
        doing.begin(node("slow", StudentTrainer), background)
        doing.begin(node("gate", PromotionGate), background)
        assert told == ["gate"], "others go on meanwhile"
        threading.Timer(0.3, finish.set).start()
        doing.begin(node("trial", ServingValidator), background)
    assert told == ["gate", "slow", "trial"]
