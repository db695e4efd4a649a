"""Whether the intervals of the gate hold what they promise, on pairs of equally good models.

    .venv/bin/python -m benchmarks.gate.coverage --into runs/gate

Two models of each pair know the truth but for noise of their own, of the same size: whatever the
metric, the true difference is 0. An interval should hold 0 with its confidence; and no lower bound
of the family of all comparisons should be above 0, but for the rest.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.gate import simulated
from tfx_distill.components.bootstrap_result import Bootstrap
from tfx_distill.components.evaluation_result import OVERALL
from tfx_distill.components.intervals import bootstrap

PAIRS = 500
CONFIDENCE = 0.95
SIMULATION = simulated.Simulation(
    queries=400,
    rows_per_query=8,
    kinds={"click": "binary", "time": "regression"},
    noise={"candidate": 0.6, "baseline": 0.6},
    values={"device": 3, "new_item": 2},
    conditional=True,
)


@dataclass(frozen=True)
class Outcome:
    """Of one pair.

    Attributes:
      covered: By task and metric over all examples, whether the interval holds 0.
      above: Whether any of the simultaneous bounds is above 0: a false finding.
      single: Whether that of one comparison alone is (AUC of the first task over all examples).
      comparisons: How many bounds there were.
    """

    covered: dict[tuple[str, str], bool]
    above: bool
    single: bool
    comparisons: int


def outcome(seed: int, replicates: int = 1_000) -> Outcome:
    """Simulates a pair and compares the two."""
    with tempfile.TemporaryDirectory() as folder:
        found = bootstrap(
            simulated.write(SIMULATION, seed, Path(folder)),
            SIMULATION.models,
            SIMULATION.kinds,
            list(SIMULATION.values),
            ndcg_at=10,
            confidence=CONFIDENCE,
            replicates=replicates,
            seed=seed,
        )
    family = [difference.key for difference in found.differences]
    return Outcome(
        covered={
            (d.task, d.metric): d.low <= 0 <= d.high
            for d in found.differences
            if d.slice == OVERALL and d.low is not None and d.high is not None
        },
        above=_any_above(found, family),
        single=_any_above(found, family[:1]),
        comparisons=len(family),
    )


def _any_above(found: Bootstrap, family: list[tuple[str, str, str, str]]) -> bool:
    return any(bound > 0 for bound in found.lower_bounds(family, CONFIDENCE).by_key.values())


def summary(outcomes: Iterable[Outcome]) -> dict[str, Any]:
    """Shares over all pairs."""
    listed = list(outcomes)
    pairs = len(listed)
    return {
        "pairs": pairs,
        "comparisons": listed[0].comparisons,
        "covered": {
            f"{task} {metric}": sum(o.covered[task, metric] for o in listed) / pairs
            for task, metric in listed[0].covered
        },
        "any simultaneous bound above 0": sum(o.above for o in listed) / pairs,
        "one bound above 0": sum(o.single for o in listed) / pairs,
    }


def table(result: dict[str, Any]) -> str:
    """The shares as Markdown."""
    lines = [f"| of {result['pairs']} pairs | share |", "|---|---|"]
    lines += [
        f"| {CONFIDENCE:.0%} interval of {name} holds 0 | {share:.1%} |"
        for name, share in result["covered"].items()
    ]
    lines += [
        f"| {name} | {result[name]:.1%} |"
        for name in ("any simultaneous bound above 0", "one bound above 0")
    ]
    return "\n".join(lines)


def main() -> None:
    """Simulates all pairs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--into", type=Path, default=Path("runs/gate"))
    parser.add_argument("--pairs", type=int, default=PAIRS)
    arguments = parser.parse_args()
    result = summary(outcome(seed) for seed in range(arguments.pairs))
    arguments.into.mkdir(parents=True, exist_ok=True)
    (arguments.into / "coverage.json").write_text(json.dumps(result, indent=1))
    print(table(result))
    print(json.dumps(result))


if __name__ == "__main__":
    main()
