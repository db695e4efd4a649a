"""Whether a student that is worse by just what a verdict calls detectable is refused as often.

Predictions are those of `simulated`, whose true AUC is known by integration: the noise of the
candidate is chosen so that its true loss is the `detectable` of the gate's own verdicts.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from scipy import optimize, special, stats

from benchmarks.gate import simulated
from benchmarks.gate.power_trials import TASK, overall, resampled, verdict
from tfx_distill.schema.config import Threshold

BASELINE_NOISE = 0.5
ALLOWED = 0.02
SIMULATION = simulated.Simulation(
    queries=2_000,
    rows_per_query=8,
    kinds={TASK: "binary"},
    noise={"candidate": BASELINE_NOISE, "baseline": BASELINE_NOISE},
    values={"device": 3, "new_item": 2},
)
_TRUTH = 0.8
"""Standard deviation of what `simulated` draws for the truth, once by query and once by example."""


@dataclass(frozen=True)
class Outcome:
    """The check of the AUC over all examples, in one evaluation."""

    refused: bool
    detectable: float
    error: float
    critical: float


def auc(noise: float) -> float:
    """The true AUC of a model of `simulated` with this noise, of examples of different queries.

    With logits t of examples and p(t) their probability, a positive is above a negative with
    probability E p(t) (1 - p(u)) F(t - u) / (E p (1 - E p)), F being the normal distribution
    function of the difference of two noises.
    """
    nodes, weights = special.roots_hermitenorm(80)
    weights = weights / weights.sum()
    truth = np.sqrt(2) * _TRUTH * nodes
    p = 1 / (1 + np.exp(1 - truth))
    above = stats.norm.cdf(np.subtract.outer(truth, truth) / (2 * noise))
    positive, negative = weights * p, weights * (1 - p)
    return float(positive @ above @ negative / (positive.sum() * negative.sum()))


def noise_of_loss(loss: float) -> float:
    """The noise with which a model's true AUC is this much below the baseline's."""
    aim = auc(BASELINE_NOISE) - loss
    return float(optimize.brentq(lambda noise: auc(noise) - aim, BASELINE_NOISE, 20))


def outcome(noise: float, seed: int, simulation: simulated.Simulation = SIMULATION) -> Outcome:
    """Draws an evaluation of a candidate with this noise, and has it judged."""
    drawn = replace(simulation, noise={**simulation.noise, "candidate": noise})
    slices = list(simulation.values)
    with tempfile.TemporaryDirectory() as folder:
        found = resampled(simulated.write(drawn, seed, Path(folder)), slices, seed)
    threshold = Threshold(
        task=TASK, metric="auc", max_regression=ALLOWED, max_slice_regression=3 * ALLOWED
    )
    judged = verdict(found, slices, [threshold], seed)
    check = overall(judged)["auc"]
    (error,) = (d.standard_error for d in found.differences if (d.slice, d.metric) == ("", "auc"))
    if check.detectable is None or error is None or judged.critical is None:
        raise ValueError(f"evaluation {seed} could not be judged")
    return Outcome(not check.passed, check.detectable, error, judged.critical)
