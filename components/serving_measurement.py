"""Measures a candidate, and the model in service beside it, with requests from eval examples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import tensorflow as tf
from tfx_bsl.coders import example_coder

from tfx_distill.components.evaluation_result import BASELINE, CANDIDATE
from tfx_distill.components.serving_files import foreign_files, size_mib
from tfx_distill.components.serving_process import Probe, ProbeFailed
from tfx_distill.components.serving_report import (
    Latency,
    Measured,
    difference,
    latency_checks,
)
from tfx_distill.schema.config import FeaturesConfig, ServingLimits
from tfx_distill.trainer import answers, raw_features
from tfx_distill.trainer.job import TrainingJob

if TYPE_CHECKING:
    from numpy.typing import NDArray

SIGNATURES = ("serving_raw", "serving_default")
WARM_UP = 10
"""Requests of each size that are not counted."""
BASELINE_TRIALS = 2
"""How often a model in service that cannot be served is tried."""
ROUNDS = 3
"""How often latencies are measured before they break a limit."""


def measure(
    model: str,
    folders: Mapping[str, str],
    job: TrainingJob,
    limits: ServingLimits,
    examples: pa.RecordBatch,
) -> Measured:
    """Serves the models, each in a fresh process, and compares the candidate with its trainer.

    Args:
      model: Of the candidate's Model artifact.
      folders: The SavedModel of the `candidate` and, if there is one, of the `baseline`. A baseline
        that cannot be served is compared by its size alone.
      job: How the candidate was trained.
      limits: What to measure.
      examples: Ingested examples: keys and raw features, as lists.

    Raises:
      ModelError: The trainer left no state that fits.
      ProbeFailed: The candidate cannot be served.
    """
    if BASELINE not in folders:
        reason = "No model is in service: limits against it do not apply."
        return _measure(model, folders, job, limits, examples, reason)
    for _ in range(BASELINE_TRIALS):
        try:
            reason = "Compared with the model in service."
            return _measure(model, folders, job, limits, examples, reason)
        except ProbeFailed as failure:
            if failure.probe.name == CANDIDATE:
                raise
            reason = (
                "The model in service cannot be served, so its latency sets no limit: "
                f"{failure.reason}"
            )
    return _measure(model, folders, job, limits, examples, reason, alone=True)


def _measure(
    model: str,
    folders: Mapping[str, str],
    job: TrainingJob,
    limits: ServingLimits,
    examples: pa.RecordBatch,
    reason: str,
    *,
    alone: bool = False,
) -> Measured:
    with ExitStack() as stack:
        scratch = Path(stack.enter_context(TemporaryDirectory()))
        requests = scratch / "requests.npz"
        write_requests(requests, examples, job.features)
        probes = {}
        served_folders = {CANDIDATE: folders[CANDIDATE]} if alone else folders
        for name, folder in served_folders.items():
            own = scratch / name
            own.mkdir()
            probes[name] = stack.enter_context(Probe(name, folder, requests, own))
        # While the processes start.
        expected = answers.of_trainer(model, job, examples)
        version = probes[CANDIDATE].version()
        served = probes[CANDIDATE].answers()
        measured = Measured(
            examples=examples.num_rows,
            differences={name: difference(served, expected, name) for name in SIGNATURES},
            latencies=take_turns(probes, limits),
            size_mib={name: size_mib(folder) for name, folder in folders.items()},
            foreign_files=foreign_files(folders[CANDIDATE]),
            baseline_reason=reason,
            tensorflow=version,
        )
        # Noise adds time and never takes any away, so it is worth another look; and a ratio is
        # too small just as easily as it is too large.
        least = 2 if BASELINE in probes and limits.max_p99_ratio is not None else 1
        while measured.rounds < ROUNDS and (
            measured.rounds < least or not _quick(measured, limits)
        ):
            latencies = quickest(measured.latencies, take_turns(probes, limits, warm=True))
            measured = measured.model_copy(
                update={"latencies": latencies, "rounds": measured.rounds + 1}
            )
        return measured


def write_requests(file: Path, examples: pa.RecordBatch, features: FeaturesConfig) -> None:
    """Writes what `serving_probe` reads: the examples as arrays and as tf.Examples."""
    arrays = raw_features.arrays(examples, features, serving=True)
    left_out = answers.serving_values(features)
    names = [name for name in features.names if name not in left_out]
    columns = [examples.column(examples.schema.get_field_index(name)) for name in names]
    serialized = example_coder.RecordBatchToExamplesEncoder().encode(
        pa.RecordBatch.from_arrays(columns, names=names)
    )
    content = {f"raw/{name}": _proto(array) for name, array in arrays.items()}
    np.savez(file, **content, examples=_proto(np.array(serialized, dtype=object)))


def _proto(array: NDArray[np.generic]) -> NDArray[np.uint8]:
    """An array as a serialised TensorProto: NumPy's own format would pickle strings."""
    return np.frombuffer(tf.make_tensor_proto(array).SerializeToString(), np.uint8)


def take_turns(
    probes: Mapping[str, Probe], limits: ServingLimits, *, warm: bool = False
) -> tuple[Latency, ...]:
    """Requests of all sizes; the models take turns, so that noise hits them alike.

    Args:
      probes: The models.
      limits: How many requests of which sizes.
      warm: Whether the models have answered such requests before.
    """
    warm_up = 0 if warm else WARM_UP
    out, order = [], list(probes)
    for rows in limits.candidates:
        seconds: dict[str, list[float]] = {name: [] for name in probes}
        for number in range(warm_up + limits.requests):
            # Each is the first as often as the other.
            for name in order if number % 2 else reversed(order):
                seconds[name].append(probes[name].seconds(rows, number))
        out += [Latency.of(name, rows, taken[warm_up:]) for name, taken in seconds.items()]
    return tuple(out)


def _quick(measured: Measured, limits: ServingLimits) -> bool:
    return all(check.passed for check in latency_checks(measured, limits))


def quickest(some: Sequence[Latency], others: Sequence[Latency]) -> tuple[Latency, ...]:
    """Of two rounds, for each model and size the one with the smaller 99th percentile."""
    return tuple(
        min(pair, key=lambda latency: latency.p99_ms) for pair in zip(some, others, strict=True)
    )
