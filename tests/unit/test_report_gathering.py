"""What a report reads: summaries old and new, intervals, curves, drift, agreement, costs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import reported_runs
from reported_runs import STUDENT, check

from tfx_distill.pipeline.report import gather_runs
from tfx_distill.pipeline.report.gather_agreement import agreement
from tfx_distill.pipeline.report.gather_costs import costs, gains, part_of
from tfx_distill.pipeline.report.gather_curves import of_log, points
from tfx_distill.pipeline.report.gather_drift import drifts
from tfx_distill.pipeline.report.gather_intervals import Interval, Intervals, Key, intervals
from tfx_distill.pipeline.report.gather_metadata import NOTHING, metadata


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return reported_runs.stream(tmp_path_factory.mktemp("gathered"))


def run_of(**changes: Any) -> gather_runs.Run:
    return gather_runs.run_of({**reported_runs.summary(2, "run", pushed="there"), **changes})


# Summaries


def test_the_runs_of_a_stream_are_its_spans(folder: Path) -> None:
    found = gather_runs.runs(folder)
    assert [run.spans for run in found.all] == ["0-1", "2", "3"]
    assert found.stream
    assert found.students == (STUDENT,)


def test_a_batch_has_one_run(tmp_path: Path) -> None:
    content = reported_runs.summary(1, "run", pushed=None)
    (tmp_path / "summary.json").write_text(json.dumps(content))
    found = gather_runs.runs(tmp_path)
    assert not found.stream
    assert found.last is not None
    assert found.last.run_id == "run"


def test_a_file_that_is_no_summary_is_named_and_does_not_hide_the_others(tmp_path: Path) -> None:
    (tmp_path / "spans").mkdir()
    content = reported_runs.summary(2, "run", pushed=None)
    (tmp_path / "spans" / "000001.json").write_text("{")
    (tmp_path / "spans" / "000002.json").write_text(json.dumps(content))
    (tmp_path / "spans" / "000003.json").write_text('{"name": "music"}')
    found = gather_runs.runs(tmp_path)
    assert [run.last_span for run in found.all] == [2]
    assert [text.split(":")[0] for text in found.unreadable] == ["000001.json", "000003.json"]


def test_checks_come_worst_first() -> None:
    # In units of what would be detected (0.02): margins 0.7, -1.0 and 0.25; a bound that is not
    # there is the worst.
    checks = [
        check(True, 0.004, "holds well"),
        check(False, -0.03, "fails"),
        check(True, -0.005, "just holds"),
        check(False, None, "has no number"),  # type: ignore[arg-type]
    ]
    found = run_of(teacher=reported_runs.verdict(False, *checks)).teacher
    assert found is not None
    assert [c.sentence for c in found.checks] == [
        "has no number",
        "fails",
        "just holds",
        "holds well",
    ]
    assert [c.margin for c in found.checks[1:]] == pytest.approx([-1.0, 0.25, 0.7])


def test_limits_are_ranked_by_their_distance_as_a_share() -> None:
    old = {"metric": "mse", "baseline": None, "compared_with": None, "passed": True}
    checks = [
        {**old, "task": "a", "rule": "max", "bound": 2.0, "candidate": 1.0, "sentence": "far"},
        {**old, "task": "a", "rule": "min", "bound": 0.6, "candidate": 0.63, "sentence": "near"},
    ]
    found = run_of(teacher={"candidate": "teacher", "blessed": True, "checks": checks}).teacher
    assert found is not None
    assert [(c.sentence, c.margin) for c in found.checks] == [
        ("near", pytest.approx(0.05)),
        ("far", pytest.approx(0.5)),
    ]


def test_a_summary_of_an_older_version_lacks_what_it_lacks() -> None:
    content = reported_runs.summary(2, "run", pushed=None)
    for key in ("resident_mib", "anomalies", "labels_refused", "teacher", "seed"):
        content.pop(key, None)
    del content["students"][0]["serving"]
    run = gather_runs.run_of(content)
    assert (run.teacher, run.anomalies, run.students[0].served) == (None, (), ())


def test_undefined_metrics_are_left_out() -> None:
    assert "calibration" not in run_of().students[0].metrics["twin"]["click"]


def test_what_serves_is_the_newest_push_and_who_was_refused_since(folder: Path) -> None:
    now = gather_runs.service(gather_runs.runs(folder), STUDENT)
    assert now is not None
    assert (now.span, now.refused) == (2, (3,))
    assert now.since == pytest.approx(Path(now.path).stat().st_mtime)
    assert gather_runs.service(gather_runs.runs(folder), "nobody") is None


# Intervals


def test_intervals_are_read_from_the_blessing_of_the_gate(folder: Path) -> None:
    found = intervals(metadata(folder), "run-2", f"StudentGate.{STUDENT}")
    auc = found.values[Key("", "click", "auc", "candidate")]
    assert auc == pytest.approx(Interval(0.722, 0.702, 0.752, 40))
    assert found.differences[Key("device=tv", "click", "auc", "twin")].low == -0.01


def test_a_run_without_a_gate_has_no_intervals(folder: Path) -> None:
    store = metadata(folder)
    assert not intervals(store, "run-2", "TeacherGate")
    assert not intervals(store, "another run", f"StudentGate.{STUDENT}")
    assert intervals(NOTHING, "run-2", "TeacherGate") == Intervals()


# Curves


def test_curves_are_those_of_the_event_files(tmp_path: Path) -> None:
    log = reported_runs.event_log(tmp_path, {"loss": [2.0, 1.5], "val_loss": [3.0, 2.5]})
    found = [(p.split, p.loss, p.epoch, p.value) for p in of_log(log, "teacher", 4)]
    assert found == [
        ("train", "loss", 1, 2.0),
        ("train", "loss", 2, 1.5),
        ("validation", "loss", 1, 3.0),
        ("validation", "loss", 2, 2.5),
    ]


def test_a_file_that_was_cut_off_yields_what_it_has(tmp_path: Path) -> None:
    log = reported_runs.event_log(tmp_path, {"loss": [2.0, 1.5]})
    (file,) = (log / "train").iterdir()
    file.write_bytes(file.read_bytes()[:-3])
    assert [point.value for point in of_log(log, "teacher", 4)] == [2.0]


def test_curves_are_found_by_model_and_span(folder: Path) -> None:
    found = points(metadata(folder), ("run-1", "run-3"))
    assert list(dict.fromkeys(p.model for p in found)) == ["teacher", STUDENT, f"{STUDENT} (twin)"]
    assert {p.span for p in found} == {1, 3}
    longest = [p.epoch for p in found if (p.model, p.span, p.split) == ("teacher", 1, "train")]
    assert longest == [1, 2]


# Drift


def test_drift_is_a_share_of_its_limit(folder: Path) -> None:
    found = drifts(metadata(folder), ("run-2", "run-3"))
    assert {(d.split, d.column) for d in found} == {("train", "views")}
    assert [d.span for d in found] == [2, 3]
    assert [d.share for d in found] == pytest.approx([0.4, 0.6])


# Agreement of student and teacher


def test_agreement_is_pearsons_and_a_mean_difference(tmp_path: Path) -> None:
    evaluation = reported_runs.predictions(tmp_path)
    found = {(a.slice, a.task): a for a in agreement(evaluation, ["click", "like"], ["device"])}
    assert set(found) == {("", "click"), ("device=tv", "click"), ("device=phone", "click")}
    files = sorted((evaluation / "predictions").iterdir())
    rows = {
        name: np.concatenate([pq.read_table(f).column(name).to_numpy() for f in files])
        for name in ("candidate/click", "teacher/click", "device")
    }
    for part, used in (("", rows["device"] != ""), ("device=tv", rows["device"] == "tv")):
        student, teacher = rows["candidate/click"][used], rows["teacher/click"][used]
        assert found[part, "click"].examples == used.sum()
        correlation = np.corrcoef(student, teacher)[0, 1]
        assert found[part, "click"].correlation == pytest.approx(correlation)
        expected = (student.astype(float) - teacher).mean()
        assert found[part, "click"].difference == pytest.approx(expected)


def test_small_slices_and_predictions_that_are_not_finite_are_left_out(tmp_path: Path) -> None:
    evaluation = reported_runs.predictions(tmp_path, rows=100)
    file = sorted((evaluation / "predictions").iterdir())[0]
    table = pq.read_table(file)
    broken = table.column("candidate/click").to_numpy().copy()
    broken[0] = np.nan
    at = table.schema.names.index("candidate/click")
    pq.write_table(table.set_column(at, "candidate/click", [broken]), file)
    found = {a.slice: a.examples for a in agreement(evaluation, ["click"], ["device", "gone"])}
    # 25 of the 100 are on tv: fewer than 30.
    assert found == {"": 99, "device=phone": 75}


# Costs


def test_gains_are_priced_by_what_distillation_costs_more() -> None:
    # Teaching: 6 (training) + 2 (labels) for one student; the student 3, its twin 1: 10 CPU
    # seconds more, for 0.72 - 0.70 = 20 thousandths of AUC.
    (gain,) = gains([run_of()])
    assert (gain.student, gain.task) == (STUDENT, "click")
    assert gain.extra_cpu == pytest.approx(10.0)
    assert gain.gain == pytest.approx(0.02)
    assert gain.price == pytest.approx(0.5)


def test_the_teacher_is_shared_by_students_and_nothing_gained_has_no_price() -> None:
    one = reported_runs.summary(2, "run", pushed=None)["students"][0]
    other = json.loads(json.dumps({**one, "name": "tiny"}))
    other["metrics"]["candidate"]["click"]["auc"] = 0.5
    found = {gain.student: gain for gain in gains([run_of(students=[one, other])])}
    assert found[STUDENT].teacher_cpu == pytest.approx(4.0)
    # It has no trainers in these steps.
    assert found["tiny"].extra_cpu == pytest.approx(4.0)
    assert found["tiny"].price is None


def test_rates_count_the_splits_that_a_component_reads() -> None:
    rates = {cost.component: cost.rate for cost in costs(run_of())}
    assert rates["SpanExampleGen"] == pytest.approx(1000 / 2)
    assert rates["TeacherTrainer"] == pytest.approx(900 / 6)
    assert rates[f"StudentEvaluator.{STUDENT}"] == pytest.approx(100 / 4)


@pytest.mark.parametrize(
    ("component", "part"),
    [
        ("Window.StudentTrainer.compact", "students"),
        ("Window.TeacherTrainer", "teacher"),
        ("TwinTrainer.compact", "twins"),
        ("StudentGate.compact", "gates"),
        ("PinnedTransform", "data"),
    ],
)
def test_every_component_is_for_something(component: str, part: str) -> None:
    assert part_of(component) == part


def test_what_came_from_the_cache_has_no_rate() -> None:
    steps = [{**reported_runs.summary(2, "r", pushed=None)["steps"][0], "state": "cached"}]
    (cost,) = costs(run_of(steps=steps))
    assert (cost.rate, cost.working_rate) == (None, None)


def test_work_is_what_the_phases_leave() -> None:
    # Of 6 seconds 3 went to tracing and 1.5 to imports; 900 examples in the 1.5 that are left.
    found = {cost.component: cost for cost in costs(run_of())}
    teacher = found["TeacherTrainer"]
    assert teacher.phases["work"] == pytest.approx(1.5)
    assert sum(teacher.phases.values()) == pytest.approx(teacher.seconds)
    assert list(teacher.phases)[-1] == "work"
    assert teacher.working_rate == pytest.approx(600)


def test_a_component_that_only_works_was_measured_too() -> None:
    step = reported_runs.summary(2, "r", pushed=None)["steps"][1]
    (cost,) = costs(run_of(steps=[{**step, "phases": {"imports": 0.0}}]))
    assert {name: seconds for name, seconds in cost.phases.items() if seconds} == {"work": 6.0}


def test_waiting_is_wall_time_without_cpu_time() -> None:
    step = reported_runs.summary(2, "r", pushed=None)["steps"][0]
    seconds = [(4.0, 1.0), (4.0, 7.0), (0.0, 0.0)]
    steps = [{**step, "seconds": wall, "cpu_seconds": cpu} for wall, cpu in seconds]
    assert [cost.waiting for cost in costs(run_of(steps=steps))] == [0.75, 0.0, None]


def test_the_start_comes_first_and_is_no_part_of_distillation() -> None:
    start = {**reported_runs.summary(2, "r", pushed=None)["steps"][0], "component": "start"}
    run = run_of(start=start)
    assert [cost.component for cost in costs(run)][:2] == ["start", "SpanExampleGen"]
    assert gains([run]) == gains([run_of()])


def test_a_summary_without_phases_has_none() -> None:
    step = reported_runs.summary(2, "r", pushed=None)["steps"][1]
    del step["phases"]
    (cost,) = costs(run_of(steps=[step]))
    assert (cost.phases, cost.working_rate) == ({}, None)
    assert cost.rate == pytest.approx(150)
