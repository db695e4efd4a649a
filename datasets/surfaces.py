"""The simulated surfaces: what each one shows, and which columns its log and its truth have."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

DIM = 6
"""Latent dimensions of tastes and items, and numbers in the embeddings that are logged."""


@dataclass(frozen=True)
class Surface:
    """A place where lists are shown, with its own catalogue and log.

    Attributes:
      name: Folder of its spans.
      code: Sets its random numbers and ids apart.
      log: Columns of the log, each with the simulated quantity that it holds.
      truth: Columns of the truth, likewise.
      median_duration_s: Typical length of an item.
      duration_sigma: Standard deviation of its logarithm.
    """

    name: str
    code: int
    log: Mapping[str, str]
    truth: Mapping[str, str]
    median_duration_s: float
    duration_sigma: float


_KEYS = {name: name for name in ("impression_id", "request_id", "timestamp")}
_SHARED = {
    name: name
    for name in (
        "user_id", "device", "country", "hour", "position", "topics", "duration_s",
        "user_clicks_7d", "user_tenure_d", *(f"taste_{k}" for k in range(DIM)), "new_item",
        "clicked",
    )
}  # fmt: skip

VIDEO = Surface(
    name="video",
    code=0,
    log={
        **_KEYS,
        **_SHARED,
        "video_id": "item_id",
        "video_age_h": "age_h",
        "views": "views",
        "video_ctr": "ctr",
        **{f"content_{k}": f"content_{k}" for k in range(DIM)},
        "watch_s": "consumed_s",
        "satisfied": "satisfied",
        "ltv": "ltv",
    },
    truth={
        "impression_id": "impression_id",
        "click_probability": "click_probability",
        "expected_watch_s": "expected_consumed_s",
        "satisfaction_probability": "satisfaction_probability",
        "expected_ltv": "expected_ltv",
    },
    median_duration_s=240.0,
    duration_sigma=0.9,
)
MUSIC = Surface(
    name="music",
    code=1,
    log={
        **_KEYS,
        **_SHARED,
        "track_id": "item_id",
        "plays": "views",
        "listen_s": "consumed_s",
        "playlist_add": "satisfied",
    },
    truth={
        "impression_id": "impression_id",
        "click_probability": "click_probability",
        "expected_listen_s": "expected_consumed_s",
        "playlist_add_probability": "satisfaction_probability",
    },
    median_duration_s=210.0,
    duration_sigma=0.3,
)
SURFACES = (VIDEO, MUSIC)
