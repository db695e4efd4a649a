"""What is shown to simulated users and what they do: one block of requests at a time, in columns.

Numbers are explained in docs/adr/0003-simulator.md.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from tfx_distill.datasets import world
from tfx_distill.datasets.surfaces import DIM, Surface
from tfx_distill.datasets.world import DEVICES, Flags, Floats, Ints

MIN_LIST, MAX_LIST = 10, 20
MEAN_LIST = (MIN_LIST + MAX_LIST) / 2

_CANDIDATES = 48
_POSITION_EXPONENT = 0.5
_WATCH_SIGMA = 0.9
_LTV_SIGMA = 1.2

# The effect of each device on clicks per unit of log duration, and on watch time.
_DURATION_TASTE = np.array([-0.35, 0.1, 0.45, 0.0], dtype=np.float32)
_DEVICE_WATCH = np.array([-0.15, 0.1, 0.4, 0.1], dtype=np.float32)

_TYPES = {
    **dict.fromkeys(
        (
            "impression_id", "request_id", "timestamp", "user_id", "item_id", "hour", "position",
            "views", "user_clicks_7d", "user_tenure_d", "new_item", "clicked", "satisfied",
        ),
        pa.int64(),
    ),
    **dict.fromkeys(("device", "country"), pa.string()),
    "topics": pa.list_(pa.string()),
}  # fmt: skip


@dataclass(frozen=True)
class Scene:
    """One surface during one span."""

    surface: Surface
    users: world.Users
    items: world.Items
    span: int
    click_rate: float


@dataclass(frozen=True)
class Intercepts:
    """Constants of the click and satisfaction logits, which set the average rates."""

    click: float
    satisfaction: float


@dataclass(frozen=True)
class Shown:
    """What was shown: per impression the row of its request, user and item, and its position."""

    request: Ints
    user: Ints
    item: Ints
    position: Ints
    device: Ints
    device_missing: Flags
    second: Ints
    hour: int


@dataclass(frozen=True)
class Outcome:
    """The truth about each impression: what is likely to follow, apart from the intercepts."""

    click_logit: Floats
    examined: Floats
    satisfaction_logit: Floats
    log_consumed: Floats
    return_probability: Floats
    log_return: Floats


def serve(scene: Scene, r: np.random.Generator, requests: int, start: int, end: int) -> Shown:
    """The lists that a noisy older ranker shows.

    Args:
      scene: Where.
      r: Random numbers of this block alone.
      requests: How many.
      start: First second of the span in which they may arrive; `start` and `end` lie in one hour.
      end: Second after the last.

    Returns:
      Impressions in order of time, the lists in order of their positions.
    """
    users, items = scene.users, scene.items
    hour = start // 3600
    second = np.sort(r.integers(start, end, size=requests))
    user = np.searchsorted(users.traffic, r.random(requests))
    user = np.minimum(user, len(users.novelty) - 1)
    own = r.random(requests) < 0.85
    device = np.where(own, users.main_device[user], r.integers(len(DEVICES), size=requests))

    popularity = items.popularity(hour)
    candidates = _candidates(popularity, r, requests)
    match = np.einsum("rcd,rd->rc", items.latent[candidates], users.stale_interest[user])
    prior = 0.1 * items.log_base + 0.3 * items.attraction
    score = match / DIM**0.5 + prior[candidates]
    score += r.standard_normal(score.shape, dtype=np.float32)
    # Candidates are sorted, so a repeated one stands beside its twin.
    repeated = candidates[:, 1:] == candidates[:, :-1]
    score[:, 1:][repeated] = -np.inf
    best = np.argsort(-score, axis=1)[:, :MAX_LIST]
    ranked = np.take_along_axis(candidates, best, axis=1)

    lengths = MIN_LIST + r.permutation(
        (np.arange(requests) + r.integers(MAX_LIST - MIN_LIST + 1)) % (MAX_LIST - MIN_LIST + 1)
    )
    lengths = np.minimum(lengths, _CANDIDATES - repeated.sum(axis=1))
    shown = np.arange(MAX_LIST) < lengths[:, None]
    request, place = np.nonzero(shown)
    return Shown(
        request=request,
        user=user[request],
        item=ranked[shown],
        position=place + 1,
        device=device[request],
        device_missing=(r.random(requests) < 0.01)[request],
        second=second[request],
        hour=hour,
    )


def _candidates(popularity: Floats, r: np.random.Generator, requests: int) -> Ints:
    """Retrieval: `_CANDIDATES` items a request, in proportion to popularity, sorted.

    One is drawn from each of as many equal slices of the cumulative popularity. An item whose
    share is capped at one slice can be drawn from two slices at most: half or more are distinct.
    """
    share = popularity.astype(np.float64)
    for _ in range(20):
        share = np.minimum(share, share.sum() / _CANDIDATES)
    cumulative = np.cumsum(share)
    slices = np.arange(_CANDIDATES)[:, None]
    # One slice after the other, because neighbouring look-ups hit the same memory.
    places = (slices + r.random((_CANDIDATES, requests))) * (cumulative[-1] / _CANDIDATES)
    found = np.searchsorted(cumulative, places, side="right")
    return np.ascontiguousarray(np.minimum(found, len(share) - 1).T)


def outcome(scene: Scene, shown: Shown) -> Outcome:
    """What each impression leads to, in probability."""
    users, items = scene.users, scene.items
    user, item = shown.user, shown.item
    latent = items.latent[item]
    match = np.maximum(
        np.einsum("id,id->i", users.interest[user], latent),
        np.einsum("id,id->i", users.second_interest[user], latent),
    )
    # The larger of two matches has mean 0.56 and standard deviation 0.83 in units of sqrt(DIM).
    match = (match / DIM**0.5 - 0.56) / 0.83
    attraction, quality = items.attraction[item], items.quality[item]
    fresh = np.exp(-np.maximum(items.age_h(shown.hour), 0) / 24)[item]
    novelty = users.novelty[user] * fresh
    duration = items.log_duration[item] - math.log(scene.surface.median_duration_s)
    peak = np.cos((shown.hour - items.topic_peak_h) * 2 * math.pi / world.HOURS)[item]

    click = (
        1.4 * match
        + 0.6 * attraction
        + 0.6 * novelty
        + 0.4 * peak
        + _DURATION_TASTE[shown.device] * duration
        + users.country_bias[user]
    )
    bait = attraction - quality
    satisfaction = 0.8 * quality + 0.6 * match - 0.3 * bait
    satisfaction += 0.3 * novelty
    consumed = (
        math.log(scene.surface.median_duration_s)
        - 1.1
        + 0.55 * duration
        + 0.3 * match
        + 0.25 * quality
        - 0.1 * bait
        + _DEVICE_WATCH[shown.device]
    )
    back = -1.5 + 0.6 * satisfaction
    return Outcome(
        click_logit=click,
        examined=(shown.position**-_POSITION_EXPONENT).astype(np.float32),
        satisfaction_logit=satisfaction,
        log_consumed=consumed,
        return_probability=_sigmoid(back),
        log_return=2 + 0.5 * users.value[user] + 0.2 * quality,
    )


def calibrate(outcomes: list[Outcome], click_rate: float, satisfaction_rate: float) -> Intercepts:
    """Intercepts with which these outcomes have the wanted average rates.

    Args:
      outcomes: A pilot sample.
      click_rate: Clicks per impression.
      satisfaction_rate: Satisfied users per click.
    """
    logit = np.concatenate([o.click_logit for o in outcomes])
    examined = np.concatenate([o.examined for o in outcomes])
    satisfaction = np.concatenate([o.satisfaction_logit for o in outcomes])
    click = _intercept(logit, examined, click_rate * len(logit))
    clicked = examined * _sigmoid(logit + click)
    return Intercepts(
        click, _intercept(satisfaction, clicked, satisfaction_rate * float(clicked.sum()))
    )


def _intercept(logits: Floats, weights: Floats, total: float) -> float:
    """The constant c with sum(weights * sigmoid(logits + c)) = total, by bisection."""
    low, high = -20.0, 20.0
    for _ in range(50):
        middle = (low + high) / 2
        if float((weights * _sigmoid(logits + middle)).sum()) < total:
            low = middle
        else:
            high = middle
    return low


def _sigmoid(x: Floats) -> Floats:
    return 1 / (1 + np.exp(-x))


def block(
    scene: Scene,
    intercepts: Intercepts,
    r: np.random.Generator,
    *,
    requests: int,
    start: int,
    end: int,
    number: int,
    epoch: int,
) -> tuple[pa.Table, pa.Table]:
    """One block of requests: what was logged, and the truth about it.

    Args:
      scene: Where.
      intercepts: From `calibrate`.
      r: Random numbers of this block alone.
      requests: How many; at most 2**13.
      start: First second of the span in which they may arrive.
      end: Second after the last; in the same hour.
      number: Of the block in its span, below 2**22: makes the ids unique.
      epoch: Start of the span in seconds since 1970.

    Returns:
      The log and the truth, one row per impression in order of time, with the columns of
      `surface.log` and `surface.truth`.
    """
    shown = serve(scene, r, requests, start, end)
    likely = outcome(scene, shown)
    labels, truth = _happen(likely, intercepts, r)
    stream = scene.span * 2 + scene.surface.code
    base = (stream << 40) + (number << 18)
    truth["impression_id"] = base + np.arange(len(shown.item))
    logged = {
        "impression_id": truth["impression_id"],
        "request_id": base + shown.request,
        "timestamp": epoch + shown.second,
        **labels,
        **_features(scene, shown),
    }
    return _table(logged, scene.surface.log), _table(truth, scene.surface.truth)


def schema(columns: Mapping[str, str]) -> pa.Schema:
    """Arrow schema of a log or a truth, given its columns and what they hold."""
    return pa.schema([(name, _TYPES.get(what, pa.float32())) for name, what in columns.items()])


def _table(columns: Mapping[str, Any], names: Mapping[str, str]) -> pa.Table:
    wanted = schema(names)
    arrays = []
    for field in wanted:
        values = columns[names[field.name]]
        arrays.append(values if isinstance(values, pa.Array) else pa.array(values, field.type))
    return pa.Table.from_arrays(arrays, schema=wanted)


def _happen(
    likely: Outcome, intercepts: Intercepts, r: np.random.Generator
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Draws what users did; returns the labels and the truth."""
    n = len(likely.click_logit)
    click = likely.examined * _sigmoid(likely.click_logit + intercepts.click)
    satisfaction = _sigmoid(likely.satisfaction_logit + intercepts.satisfaction)
    clicked = r.random(n, dtype=np.float32) < click
    satisfied = clicked & (r.random(n, dtype=np.float32) < satisfaction)
    returned = clicked & (r.random(n, dtype=np.float32) < likely.return_probability)
    watch_noise, return_noise = r.standard_normal((2, n), dtype=np.float32)
    consumed = np.exp(likely.log_consumed + _WATCH_SIGMA * watch_noise)
    later = np.exp(likely.log_return + _LTV_SIGMA * return_noise)
    labels = {
        "clicked": clicked.astype(np.int64),
        "consumed_s": np.where(clicked, consumed, 0),
        "satisfied": satisfied.astype(np.int64),
        "ltv": np.where(returned, later, 0),
    }
    # The mean of a log-normal variable is exp(mu + sigma^2 / 2).
    truth = {
        "click_probability": click,
        "expected_consumed_s": np.exp(likely.log_consumed + _WATCH_SIGMA**2 / 2),
        "satisfaction_probability": satisfaction,
        "expected_ltv": click
        * likely.return_probability
        * np.exp(likely.log_return + _LTV_SIGMA**2 / 2),
    }
    return labels, truth


def _features(scene: Scene, shown: Shown) -> dict[str, Any]:
    """What the log knows about each impression, with its gaps."""
    users, items = scene.users, scene.items
    user, item = shown.user, shown.item
    # Counters are those of the hour's start: no feature knows what happened after it.
    views = items.views(shown.hour)
    ctr, ctr_missing = items.ctr(views, scene.click_rate)
    profile_missing = users.profile_missing[user]
    content_missing = items.content_missing[item]
    columns = {
        "user_id": user,
        "device": pa.DictionaryArray.from_arrays(
            pa.array(shown.device.astype(np.int8), mask=shown.device_missing), pa.array(DEVICES)
        ).cast(pa.string()),
        "country": users.country.take(pa.array(user)),
        "hour": np.full(len(item), shown.hour),
        "position": shown.position,
        "topics": items.topics.take(pa.array(item)),
        "duration_s": pa.array(
            np.exp(items.log_duration).round()[item], mask=items.duration_missing[item]
        ),
        "user_clicks_7d": users.clicks_7d[user],
        "user_tenure_d": users.tenure_d[user],
        "new_item": (items.cohort >= scene.span - 1).astype(np.int64)[item],
        "item_id": items.ids[item],
        "age_h": items.age_h(shown.hour)[item],
        "views": views[item],
        "ctr": pa.array(ctr[item], mask=ctr_missing[item]),
    }
    for k in range(users.profile.shape[1]):
        columns[f"taste_{k}"] = pa.array(users.profile[user, k], mask=profile_missing)
    for k in range(items.content.shape[1]):
        columns[f"content_{k}"] = pa.array(items.content[item, k], mask=content_missing)
    return columns
