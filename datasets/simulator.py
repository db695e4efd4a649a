"""The stream simulator: logs of ranked lists with a known truth, span by span.

`write` lays out, under a folder:

- `video/span-N/{train,eval}-00000.parquet` and `music/span-N/...`: what a log would hold;
- `truth/video/span-N/...` and `truth/music/span-N/...`: true probabilities and expected values by
  `impression_id`, for evaluation only.

Why the numbers are what they are: docs/adr/0003-simulator.md.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pydantic import Field

from tfx_distill.datasets import impressions, world
from tfx_distill.datasets.impressions import Intercepts, Scene
from tfx_distill.datasets.spans import SpanWriter, marker
from tfx_distill.datasets.surfaces import SURFACES, VIDEO, Surface
from tfx_distill.schema.config import Positive, Section
from tfx_distill.schema.errors import DataError

TRUTH = "truth"
"""Folder of the truth, beside the folders of the surfaces."""

Share = Annotated[float, Field(gt=0, lt=1)]

_BLOCK_REQUESTS = 4096  # Part of the data's definition: each block has its own random numbers.
_FIRST_DAY = 19_723  # 2024-01-01, a Monday, in days since 1970.
_DAY_S = 86_400
_PILOT_HOURS = (3, 9, 15, 21)
_PILOT_REQUESTS = 1024


class SimulatorConfig(Section):
    """What to simulate; the data is a function of this and nothing else.

    Attributes:
      seed: Of everything.
      spans: Days to write, numbered from 0.
      examples_per_span: Impressions a day on the video surface, to within one list an hour.
      eval_fraction: Share of the expected traffic of a span that comes last in time and is its eval
        split.
      users: Accounts; by default one per 40 examples of a span.
      items: Catalogue of each surface at any time; by default one per 20 examples of a span.
      new_item_share: Share of the catalogue that is born in a span (and retired, the oldest).
      click_rate: Clicks per impression, on average.
      satisfaction_rate: Positive answers per click, on average.
      music_share: Traffic of music per traffic of video, but at least one list an hour.
      shard_rows: Rows of a file; does not change the data.
    """

    seed: Annotated[int, Field(ge=0)] = 0
    spans: Positive = 4
    examples_per_span: Annotated[int, Field(ge=1_000)] = 70_000
    eval_fraction: Annotated[float, Field(ge=0.1, le=0.9)] = 0.2
    users: Positive | None = None
    items: Annotated[int, Field(ge=200)] | None = None
    new_item_share: Annotated[float, Field(ge=0.01, le=0.5)] = 0.05
    click_rate: Annotated[float, Field(gt=0, lt=0.3)] = 0.15
    satisfaction_rate: Share = 0.07
    music_share: Share = 0.01
    shard_rows: Positive = 1_000_000

    @property
    def cohorts(self) -> int:
        """Spans for which an item is in the catalogue."""
        return round(1 / self.new_item_share)

    @property
    def catalogue(self) -> int:
        """Items alive at any time: `items`, made divisible by the number of cohorts."""
        wanted = self.items or max(200, self.examples_per_span // 20)
        return self.cohorts * max(1, round(wanted / self.cohorts))

    @property
    def accounts(self) -> int:
        """Number of users."""
        return self.users or max(100, self.examples_per_span // 40)


@dataclass(frozen=True)
class SpanSummary:
    """One written span of one surface; `reused` if it was complete before."""

    surface: str
    span: int
    train_rows: int
    eval_rows: int
    reused: bool


def write(
    folder: Path,
    config: SimulatorConfig | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[SpanSummary, ...]:
    """Writes the stream; spans that are complete are left alone.

    Args:
      folder: Where to; made if missing.
      config: What to simulate.
      progress: Called with impressions done and (about) how many there are in total.

    Returns:
      A summary per span and surface, in order of spans.

    Raises:
      DataError: The folder holds spans of another config.
      EnvironmentProblem: The folder cannot be written to.
    """
    config = config or SimulatorConfig()
    total = config.spans * sum(_requests(config, s) for s in SURFACES) * int(impressions.MEAN_LIST)
    done = 0
    summaries = []
    intercepts = {surface.name: _calibrated(config, surface) for surface in SURFACES}

    def advance(rows: int) -> None:
        nonlocal done
        done += rows
        if progress is not None:
            progress(done, max(done, total))

    for span in range(config.spans):
        for surface in SURFACES:
            summary = write_span(
                folder, config, surface, span, intercepts=intercepts[surface.name], advance=advance
            )
            summaries.append(summary)
    return tuple(summaries)


def write_span(
    folder: Path,
    config: SimulatorConfig,
    surface: Surface,
    span: int,
    *,
    intercepts: Intercepts | None = None,
    advance: Callable[[int], None] | None = None,
) -> SpanSummary:
    """Writes one span of one surface, log and truth; see `write`.

    Args:
      folder: Root of the stream.
      config: What to simulate.
      surface: One of `SURFACES`.
      span: Its number; may lie beyond `config.spans`.
      intercepts: From an earlier span of the same surface, to save finding them again.
      advance: Called with the number of rows after each block.
    """
    log_folder = folder / surface.name / f"span-{span}"
    truth_folder = folder / TRUTH / surface.name / f"span-{span}"
    fingerprint = config.model_dump(mode="json", exclude={"spans", "shard_rows"})
    found, found_truth = marker(log_folder), marker(truth_folder)
    for there, where in ((found, log_folder), (found_truth, truth_folder)):
        if there is not None and there.get("config") != fingerprint:
            raise DataError(
                str(where),
                got=f"a span simulated with {_difference(there.get('config'), fingerprint)}",
                expected="spans of one stream in a folder",
                fix="Choose another folder, or delete this one.",
            )
    if found is not None and found_truth is not None:
        rows = found["rows"]
        if advance is not None:
            advance(sum(rows.values()))
        return SpanSummary(surface.name, span, rows["train"], rows["eval"], reused=True)

    scene = _scene(config, surface, span)
    intercepts = intercepts or _calibrated(config, surface)
    writer = partial(SpanWriter, shard_rows=config.shard_rows)
    logs = writer(log_folder, impressions.schema(surface.log), dictionary=_dictionary(surface))
    truths = writer(truth_folder, impressions.schema(surface.truth))
    with logs, truths:
        for log, truth, train in _blocks(config, scene, intercepts):
            logs.write("train", log.slice(0, train))
            truths.write("train", truth.slice(0, train))
            logs.write("eval", log.slice(train))
            truths.write("eval", truth.slice(train))
            if advance is not None:
                advance(log.num_rows)
        # The truth first: a log that is there is never without its truth.
        truths.commit({"config": fingerprint, "rows": truths.rows})
        logs.commit({"config": fingerprint, "rows": logs.rows})
    return SpanSummary(surface.name, span, logs.rows["train"], logs.rows["eval"], reused=False)


def _difference(there: object, here: dict[str, object]) -> str:
    if not isinstance(there, dict):
        return "an unknown config"
    return ", ".join(f"{k}={there.get(k)!r}" for k in here if there.get(k) != here[k])


def _dictionary(surface: Surface) -> list[str]:
    """Columns of few or short repeated values; fractions are cheaper and smaller as they are."""
    floats = {f.name for f in impressions.schema(surface.log) if f.type == pa.float32()}
    plain = floats | {"impression_id", "timestamp"}
    return [name for name in surface.log if name not in plain]


def _scene(config: SimulatorConfig, surface: Surface, span: int) -> Scene:
    clicks = 7 * config.click_rate * config.examples_per_span / config.accounts
    return Scene(
        surface=surface,
        users=world.users(config.seed, config.accounts, span, clicks),
        items=world.items(config.seed, surface, config.catalogue, config.cohorts, span),
        span=span,
        click_rate=config.click_rate,
    )


def _calibrated(config: SimulatorConfig, surface: Surface) -> Intercepts:
    """Intercepts from a pilot in span 0, which leaves no trace in the data."""
    scene = _scene(config, surface, 0)
    outcomes = []
    for hour in _PILOT_HOURS:
        r = world.rng(config.seed, world.PILOT, surface.code, hour)
        shown = impressions.serve(scene, r, _PILOT_REQUESTS, hour * 3600, (hour + 1) * 3600)
        outcomes.append(impressions.outcome(scene, shown))
    return impressions.calibrate(outcomes, config.click_rate, config.satisfaction_rate)


def _daily_curve() -> NDArray[np.float64]:
    """Share of each hour in a day's traffic: a trough at 8, a peak at 20 o'clock."""
    curve = 1 + 0.6 * np.cos((np.arange(world.HOURS) - 20) * 2 * np.pi / world.HOURS)
    share: NDArray[np.float64] = curve / curve.sum()
    return share


def _requests(config: SimulatorConfig, surface: Surface) -> int:
    """Requests of a span, about."""
    share = 1.0 if surface is VIDEO else config.music_share
    wanted = round(share * config.examples_per_span / impressions.MEAN_LIST)
    return max(world.HOURS, wanted)


def _requests_by_hour(config: SimulatorConfig, surface: Surface) -> list[int]:
    edges = np.cumsum(_daily_curve()) * _requests(config, surface)
    return [max(1, int(n)) for n in np.diff(np.round(edges), prepend=0)]


def eval_starts_at(config: SimulatorConfig) -> int:
    """The first second of a span that belongs to its eval split."""
    passed = np.concatenate([[0], np.cumsum(_daily_curve())])
    hours = np.interp(1 - config.eval_fraction, passed, np.arange(world.HOURS + 1))
    return round(float(hours) * 3600)


def _blocks(
    config: SimulatorConfig, scene: Scene, intercepts: Intercepts
) -> Iterator[tuple[pa.Table, pa.Table, int]]:
    """Log, truth and number of rows of the train split (they come first) of each block."""
    epoch = (_FIRST_DAY + scene.span) * _DAY_S
    cut = epoch + eval_starts_at(config)
    number = 0
    for hour, requests in enumerate(_requests_by_hour(config, scene.surface)):
        count = -(-requests // _BLOCK_REQUESTS)
        for k in range(count):
            log, truth = impressions.block(
                scene,
                intercepts,
                world.rng(config.seed, world.REQUESTS, scene.surface.code, scene.span, number),
                requests=requests * (k + 1) // count - requests * k // count,
                start=hour * 3600 + 3600 * k // count,
                end=hour * 3600 + 3600 * (k + 1) // count,
                number=number,
                epoch=epoch,
            )
            number += 1
            times = log.column("timestamp").to_numpy()
            yield log, truth, int(np.searchsorted(times, cut))
