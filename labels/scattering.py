"""Ids scattered over the numbers of 64 bits, whatever order or pattern they have."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
"""2**64 divided by the golden ratio, odd (Knuth, The Art of Computer Programming 3, 6.4)."""


def scattered(ids: npt.NDArray[np.int64]) -> np.ndarray[Any, np.dtype[np.uint64]]:
    """One number for each id, another for every other id; its high bits look random.

    Args:
      ids: int64, shape [n].

    Returns:
      uint64, shape [n].
    """
    return np.ascontiguousarray(ids).view(np.uint64) * _GOLDEN
