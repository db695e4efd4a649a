"""The simulated world: who the users are, what the items are, and how both change with time.

Everything is a function of (seed, surface, span), reached without simulating what came before, so
that any span can be generated alone. Numbers are explained in docs/adr/0003-simulator.md.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from tfx_distill.datasets.surfaces import DIM, Surface

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]
Flags = NDArray[np.bool_]

HOURS = 24
"""A span is one day; the catalogue changes by the hour."""

TOPICS = (
    "animals", "anime", "beauty", "cars", "comedy", "cooking", "crafts", "dance", "documentary",
    "fashion", "film", "fitness", "football", "gaming", "history", "live", "music", "nature",
    "news", "politics", "science", "technology", "travel", "vlog",
)  # fmt: skip
DEVICES = ("phone", "desktop", "tv", "tablet")
COUNTRIES = ("US", "IN", "BR", "ID", "MX", "JP", "DE", "GB", "FR", "VN", "PH", "TR")

_DEVICE_SHARES = (0.62, 0.18, 0.14, 0.06)
_COUNTRY_EXPONENT = 0.8
_TASTE_MEMORY_SPANS = 30.0
_RANKER_STALE_SPANS = 3
_ZIPF = 0.8
_EVERGREEN = 0.1
_MEDIAN_LIFE_H = 72.0
_VIEWS_PER_DAY = 1000.0
_PROFILE_NOISE = 0.4
_CONTENT_NOISE = 0.3

# Independent streams of random numbers; the order is part of the data's definition.
_TOPICS, _USERS, _PROFILES, _ITEMS, REQUESTS, PILOT = range(6)


def rng(seed: int, *key: int) -> np.random.Generator:
    """The random numbers of one part of the world."""
    return np.random.Generator(np.random.SFC64(np.random.SeedSequence(seed, spawn_key=key)))


@dataclass(frozen=True)
class Users:
    """The users during one span; arrays of length [users] unless stated.

    `interest` drifts and `second_interest` stays, both [users, DIM]; `stale_interest` is what the
    older ranker believes. `profile` [users, DIM] and the arrays below it are logged.
    """

    interest: Floats
    second_interest: Floats
    stale_interest: Floats
    novelty: Floats
    value: Floats
    traffic: NDArray[np.float64]
    main_device: Ints
    country: pa.Array
    country_bias: Floats
    profile: Floats
    profile_missing: Flags
    clicks_7d: Ints
    tenure_d: Ints


def users(seed: int, count: int, span: int, clicks_per_user_7d: float) -> Users:
    """The users as they are during a span; the same for every surface."""
    fixed = rng(seed, _USERS)
    normal = fixed.standard_normal
    second = normal((count, DIM), dtype=np.float32)
    novelty = normal(count, dtype=np.float32)
    value = normal(count, dtype=np.float32)
    activity = np.exp(normal(count))
    device = fixed.choice(len(DEVICES), count, p=_DEVICE_SHARES)
    weights = np.arange(1, len(COUNTRIES) + 1) ** -_COUNTRY_EXPONENT
    country = fixed.choice(len(COUNTRIES), count, p=weights / weights.sum())
    country_missing = fixed.random(count) < 0.03
    tenure = fixed.exponential(400.0, count).astype(np.int64)
    missing = fixed.random(count) < 0.06
    # A sum of a sine and a cosine with normal weights is normal at every time; frequencies drawn
    # from a Cauchy distribution make its mean autocorrelation exp(-lag / memory), the one of an
    # Ornstein-Uhlenbeck process, without walking there step by step.
    cosine, sine = normal((2, count, DIM), dtype=np.float32)
    speed = (fixed.standard_cauchy((count, DIM)) / _TASTE_MEMORY_SPANS).astype(np.float32)

    def interest(at: int) -> Floats:
        walked: Floats = cosine * np.cos(speed * at) + sine * np.sin(speed * at)
        return walked

    daily = rng(seed, _PROFILES, span)
    noise = daily.standard_normal((count, DIM), dtype=np.float32)
    expected_clicks = clicks_per_user_7d * activity / activity.mean()
    places = pa.array(country, mask=country_missing)
    return Users(
        interest=interest(span),
        second_interest=second,
        stale_interest=interest(span - _RANKER_STALE_SPANS),
        novelty=novelty,
        value=value,
        traffic=np.cumsum(activity) / activity.sum(),
        main_device=device,
        country=pa.array(COUNTRIES).take(places),
        country_bias=(0.2 * normal(len(COUNTRIES), dtype=np.float32))[country],
        profile=interest(span - 1) + _PROFILE_NOISE * noise,
        profile_missing=missing,
        clicks_7d=daily.poisson(expected_clicks * np.exp(0.3 * daily.standard_normal(count))),
        tenure_d=tenure + span,
    )


@dataclass(frozen=True)
class Items:
    """The catalogue of a surface during one span; arrays of length [items] unless stated.

    `latent` is [items, DIM], `content` [items, DIM] its noisy copy in the log. `born_h` is the hour
    of birth relative to the start of the span, `base` the popularity at birth, `life_h` the time
    in which it falls to 1/e, `topic_peak_h` the hour of day at which its main topic is liked best.
    """

    ids: Ints
    cohort: Ints
    born_h: Floats
    latent: Floats
    topic_peak_h: Floats
    attraction: Floats
    quality: Floats
    log_duration: Floats
    base: Floats
    life_h: Floats
    content: Floats
    content_missing: Flags
    topics: pa.Array
    duration_missing: Flags
    view_noise: Floats
    ctr_noise: Floats
    ctr_bias: Floats

    @cached_property
    def log_base(self) -> Floats:
        """Logarithm of the popularity at birth, with mean 0 and variance about 1."""
        return (np.log(self.base) - _ZIPF) / _ZIPF

    def age_h(self, hour: float) -> Floats:
        """Hours since birth; negative before it."""
        return hour - self.born_h

    def popularity(self, hour: float) -> Floats:
        """Relative frequency with which an item is retrieved; 0 before its birth."""
        age = self.age_h(hour)
        fade = np.exp(-np.maximum(age, 0) / self.life_h)
        faded = self.base * (_EVERGREEN + (1 - _EVERGREEN) * fade)
        return np.where(age >= 0, faded, 0).astype(np.float32)

    def views(self, hour: float) -> Ints:
        """Views of an item on the whole platform so far: the integral of its popularity."""
        age = np.maximum(self.age_h(hour), 0)
        spent = _EVERGREEN * age + (1 - _EVERGREEN) * self.life_h * -np.expm1(-age / self.life_h)
        daily = self.base * (1 - _ZIPF) * _VIEWS_PER_DAY
        count: Ints = np.floor(daily * spent / HOURS * self.view_noise).astype(np.int64)
        return count

    def ctr(self, views: Ints, click_rate: float) -> tuple[Floats, Flags]:
        """The logged click rate of an item so far, and where there were too few views for one."""
        odds = click_rate / (1 - click_rate) * np.exp(0.6 * self.attraction + self.ctr_bias)
        rate = odds / (1 + odds)
        error = self.ctr_noise * np.sqrt(rate * (1 - rate) / (views + 1))
        return np.clip(rate + error, 0, 1).astype(np.float32), views < 20


def items(seed: int, surface: Surface, count: int, cohorts: int, span: int) -> Items:
    """The catalogue of a surface during a span: the newest `cohorts` cohorts, one born a span.

    Args:
      seed: Of the world.
      surface: Whose catalogue.
      count: Items alive at any time; divisible by `cohorts`.
      cohorts: Spans for which an item stays in the catalogue.
      span: Number of the span.
    """
    space = rng(seed, _TOPICS)
    centroids = space.standard_normal((len(TOPICS), DIM), dtype=np.float32)
    peaks = space.random(len(TOPICS), dtype=np.float32) * HOURS
    size = count // cohorts
    # Cohort numbers start at 0 with the oldest of span 0.
    numbers = range(span, span + cohorts)
    parts = [_cohort(rng(seed, _ITEMS, surface.code, n), surface, centroids, size) for n in numbers]
    joined: dict[str, Any] = {
        name: np.concatenate([part[name] for part in parts])
        for name in parts[0]
        if name != "topics"
    }
    cohort = np.repeat(np.arange(span, span + cohorts) - (cohorts - 1), size)
    joined["born_h"] += ((cohort - span) * HOURS).astype(np.float32)
    first = (surface.code << 40) + span * size
    return Items(
        ids=np.arange(first, first + count),
        cohort=cohort,
        topic_peak_h=peaks[joined.pop("topic")],
        topics=pa.concat_arrays([part["topics"] for part in parts]),
        **joined,
    )


def _cohort(r: np.random.Generator, surface: Surface, centroids: Floats, n: int) -> dict[str, Any]:
    """Attributes of the `n` items that are born in one span."""

    def normal(*shape: int) -> Floats:
        return r.standard_normal(shape or n, dtype=np.float32)

    first, second, random = r.integers(len(TOPICS), size=(3, n))
    latent = 0.75 * centroids[first] + 0.35 * centroids[second] + 0.55 * normal(n, DIM)
    base = np.maximum(r.random(n), 1e-6) ** -_ZIPF
    # Attractive items are more popular; attraction and quality agree only in part (clickbait).
    attraction = 0.4 * (np.log(base) / _ZIPF - 1) + 0.9 * normal()
    quality = 0.4 * attraction + 0.9 * normal()
    return {
        "born_h": (r.random(n) * HOURS).astype(np.float32),
        "latent": latent.astype(np.float32),
        "topic": first,
        "attraction": attraction.astype(np.float32),
        "quality": quality.astype(np.float32),
        "log_duration": math.log(surface.median_duration_s) + surface.duration_sigma * normal(),
        "base": base.astype(np.float32),
        "life_h": (_MEDIAN_LIFE_H * np.exp(0.7 * normal())).astype(np.float32),
        "content": latent.astype(np.float32) + _CONTENT_NOISE * normal(n, DIM),
        "content_missing": r.random(n) < 0.05,
        "duration_missing": r.random(n) < 0.01,
        "view_noise": np.exp(0.3 * normal()),
        "ctr_noise": normal(),
        "ctr_bias": 0.4 * normal(),
        "topics": _observed_topics(r, first, second, random),
    }


def _observed_topics(r: np.random.Generator, first: Ints, second: Ints, random: Ints) -> pa.Array:
    """The topics as a tagger saw them: the main one (at times wrong), perhaps more, or none."""
    n = len(first)
    tagged = np.stack([np.where(r.random(n) < 0.85, first, random), second, random], axis=1)
    kept = r.random((n, 3)) < (1.0, 0.5, 0.2)
    kept[:, 1] &= tagged[:, 1] != tagged[:, 0]
    kept[:, 2] &= (tagged[:, 2] != tagged[:, 0]) & (tagged[:, 2] != tagged[:, 1])
    untagged = r.random(n) < 0.08
    kept &= ~untagged[:, None]
    offsets = np.concatenate([[0], np.cumsum(kept.sum(axis=1))]).astype(np.int32)
    # A null offset marks a null list.
    starts = pa.array(offsets, mask=np.append(untagged, False))
    names = pa.array(TOPICS).take(pa.array(tagged[kept]))
    return pa.ListArray.from_arrays(starts, names)
