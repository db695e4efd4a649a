"""Finding ids that occur more than once, in bounded memory."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from tfx_distill.labels.scattering import scattered

_ROWS_AT_ONCE = 1 << 24
_ALL = (1 << 64) - 1

Ids = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Repeats:
    """Ids that occur more than once.

    Attributes:
      smallest: The smallest of them.
      count: How many different ones there are.
    """

    smallest: int
    count: int


def repeats_in(read: Callable[[], Iterable[Ids]], rows: int) -> Repeats | None:
    """The ids that occur more than once; None if there are none.

    Up to 2**24 ids are read once and sorted. More are read several times, each time to sort those
    in one range of `scattered`.

    Memory: 128 MiB, three times as much where most ids repeat, and an array that `read` yields.

    Args:
      read: Yields all ids anew at each call, in arrays of int64 of shape [n].
      rows: How many ids there are.
    """
    room = min(rows, _ROWS_AT_ONCE)
    # Ranges hold an eighth less than there is room for: some hold more ids than others.
    passes = 1 if rows <= _ROWS_AT_ONCE else 1 + rows * 8 // (_ROWS_AT_ONCE * 7)
    cuts = [(_ALL + 1) * number // passes for number in range(passes + 1)]
    ranges = [(first, end - 1) for first, end in pairwise(cuts)]
    smallest: list[int] = []
    count = 0
    while ranges:
        first, last = ranges.pop()
        repeats = _repeats_of_range(read(), first, last, room)
        if repeats is None:
            # More than were to be expected: half of them at a time.
            middle = (first + last) // 2
            ranges += [(first, middle), (middle + 1, last)]
        elif len(repeats):
            smallest.append(int(repeats[0]))
            count += len(repeats)
    return Repeats(min(smallest), count) if smallest else None


def _repeats_of_range(parts: Iterable[Ids], first: int, last: int, room: int) -> Ids | None:
    """The ids of a range that repeat, sorted, each once; None if it has `room` ids, or more."""
    held = np.empty(room, np.int64)
    filled = 0
    repeats = np.empty(0, np.int64)
    for ids in parts:
        left = _of_range(ids, first, last)
        while len(left):
            if filled == room:
                # The second and later times of an id need no room.
                repeats = _sorted_repeats(held, repeats)
                distinct = held[np.append(True, held[1:] != held[:-1])]
                filled = len(distinct)
                if filled == room:
                    return None
                held[:filled] = distinct
            taken = left[: room - filled]
            held[filled : filled + len(taken)] = taken
            filled += len(taken)
            left = left[len(taken) :]
    return _sorted_repeats(held[:filled], repeats)


def _of_range(ids: Ids, first: int, last: int) -> Ids:
    if (first, last) == (0, _ALL):
        return ids
    # Those below the range wrap around, and are above it then.
    return ids[scattered(ids) - np.uint64(first) <= np.uint64(last - first)]


def _sorted_repeats(ids: Ids, known: Ids) -> Ids:
    """Sorts these ids in place; those that occur more than once, and those that are known."""
    ids.sort()
    return np.union1d(known, ids[1:][ids[1:] == ids[:-1]])
