"""Whether the gate refuses students that are worse by a known amount as often as it should.

    .venv/bin/python -m benchmarks.gate.power --into runs/gate

Students whose labels were flipped for 1%, 2% and 5% of the examples are judged against a sound one
on many independent evaluations; what is counted is held against the rate that normal theory gives
for their true loss. A last part makes a student exactly as much worse as a verdict calls
detectable.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from benchmarks.gate import power_report
from benchmarks.gate.cost import ONE_THREAD
from benchmarks.gate.power_rates import JUDGED, Gains, Judged, rate, rates, refusal, sight

if TYPE_CHECKING:
    from benchmarks.gate.power_noise import Outcome

SETS = {1_000: 20, 2_000: 250, 4_000: 20, 8_000: 200, 16_000: 10}
"""Evaluations by the number of their queries."""
STUDIED = (2_000, 8_000)
"""Queries of an evaluation for which refusals are counted; of the others only what can be seen."""
NOISE_SETS = 500
"""Evaluations of the student that is as much worse as is detectable."""
ALLOWED = (0.001, 0.002, 0.003, 0.004, 0.006, 0.01)
SEED = 0
_PILOT = 1_000_000

Given = TypeVar("Given")
Found = TypeVar("Found")
Run = Callable[[Callable[[Given], Found], Sequence[Given]], list[Found]]


def trial(given: tuple[int, int], file: Path, truths: Mapping[str, Gains]) -> dict[str, Judged]:
    """All students on one evaluation, given by its number of queries and its own number."""
    # Imported where they are needed: whoever makes the plan needs no TensorFlow.
    from benchmarks.gate import power_students, power_trials

    queries, number = given
    population = power_trials.opened(file, power_students.SLICES)
    evaluation = population.evaluation(queries, [SEED, queries, number])
    return {
        student: power_trials.judged(
            evaluation,
            student,
            power_students.SOUND,
            power_students.SLICES,
            ALLOWED,
            truth,
            number,
        )
        for student, truth in truths.items()
    }


def noise_trial(given: tuple[float, int]) -> Outcome:
    """One evaluation of a candidate of this noise, given with the seed."""
    from benchmarks.gate import power_noise

    return power_noise.outcome(*given)


def students(run: Run[Any, Any], into: Path, population: int, share: float) -> dict[str, Any]:
    """The study of trained students.

    Args:
      run: Does work in parallel.
      into: Folder of the simulated data, which are removed at the end.
      population: Examples of the population.
      share: Of the evaluations in `SETS`.
    """
    from benchmarks.gate import power_students, power_trials

    folder = into / "power"
    shutil.rmtree(folder, ignore_errors=True)
    setting = power_students.Setting(SEED, population=population)
    file = power_students.make(setting, folder)
    whole = power_trials.opened(file, power_students.SLICES)
    names = (power_students.ANOTHER, *power_students.FLIPPED)
    truths = {
        name: power_trials.true_gains(
            whole.table, name, power_students.SOUND, power_students.SLICES
        )
        for name in names
    }
    result: dict[str, Any] = {
        "population": {"queries": whole.queries, "examples": len(whole.table)},
        "students": {
            name: {metric: -truth["", metric] for metric in JUDGED}
            for name, truth in truths.items()
        },
        "rates": {},
        "sight": {},
    }
    for queries, sets in SETS.items():
        numbers = [(queries, n) for n in range(max(2, round(share * sets)))]
        found = run(partial(trial, file=file, truths=truths), numbers)
        by_student = {name: [one[name] for one in found] for name in names}
        result["sight"][queries] = {
            name: {metric: sight(every, metric) for metric in JUDGED}
            for name, every in by_student.items()
        }
        if queries in STUDIED:
            result["rates"][queries] = {
                name: rates(every, truths[name]) for name, every in by_student.items()
            }
    shutil.rmtree(folder)
    return result


def detectable(run: Run[Any, Any], sets: int) -> dict[str, Any]:
    """A student whose true loss is what the verdicts on it call detectable."""
    from benchmarks.gate import power_noise

    noise = power_noise.BASELINE_NOISE
    # What is detectable depends a little on the noise, through the standard error.
    for step in range(3):
        seeds = range(_PILOT * (step + 1), _PILOT * (step + 1) + 40)
        pilot = run(noise_trial, [(noise, seed) for seed in seeds])
        noise = power_noise.noise_of_loss(statistics.median(one.detectable for one in pilot))
    loss = power_noise.auc(power_noise.BASELINE_NOISE) - power_noise.auc(noise)
    found = run(noise_trial, [(noise, seed) for seed in range(sets)])
    error = statistics.median(one.error for one in found)
    critical = statistics.median(one.critical for one in found)
    return {
        "queries": power_noise.SIMULATION.queries,
        "allowed": power_noise.ALLOWED,
        "loss": loss,
        "detectable": statistics.median(one.detectable for one in found),
        "error": error,
        "critical": critical,
        "predicted": float(refusal(power_noise.ALLOWED, loss, error, critical)),
        **rate(sum(one.refused for one in found), sets),
    }


def main() -> None:
    """Makes the students, then judges them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--into", type=Path, default=Path("runs/gate"))
    parser.add_argument("--share", type=float, default=1.0, help="of the evaluations")
    parser.add_argument("--population", type=int, default=1_500_000, help="examples")
    parser.add_argument("--processes", type=int, default=len(os.sched_getaffinity(0)))
    asked = parser.parse_args()
    asked.into.mkdir(parents=True, exist_ok=True)
    started = time.monotonic()
    # Read by the libraries of the processes to come: one process a core is faster than threads.
    os.environ.update(ONE_THREAD)
    with ProcessPoolExecutor(asked.processes, mp_context=get_context("spawn")) as pool:

        def run(work: Callable[[Given], Found], given: Iterable[Given]) -> list[Found]:
            return list(pool.map(work, given))

        result = students(run, asked.into, asked.population, asked.share)
        result["detectable"] = detectable(run, max(2, round(asked.share * NOISE_SETS)))
    result["seconds"] = time.monotonic() - started
    (asked.into / "power.json").write_text(json.dumps(result, indent=1))
    result = json.loads((asked.into / "power.json").read_text())
    power_report.picture(result, asked.into / "power.png")
    print(power_report.tables(result))
    print(json.dumps({"seconds": result["seconds"]}))


if __name__ == "__main__":
    main()
