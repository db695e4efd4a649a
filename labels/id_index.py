"""Finding some ids among many others."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from tfx_distill.labels.scattering import scattered

_SLOTS_PER_ID = 32
"""At least: most other ids then meet a slot that is free, and the slots still fit the caches."""


class IdIndex:
    """Distinct ids, searched for in any number of arrays of ids.

    A Bloom filter with one hash (Bloom, 1970) keeps out all but a thirtieth of the other ids; what
    is left is looked for by bisection. `pyarrow.compute.index_in` would build a hash table of the
    ids for each array.

    Memory: 40 to 72 bytes an id.

    Args:
      ids: int64, shape [n], in ascending order, each once.
    """

    def __init__(self, ids: npt.NDArray[np.int64]) -> None:
        bits = max(1, (_SLOTS_PER_ID * len(ids) - 1).bit_length())
        self._ids = ids
        self._shift = np.uint64(64 - bits)
        self._taken = np.zeros(1 << bits, np.bool_)
        self._taken[self._slots(ids)] = True

    def _slots(self, ids: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        # Signed numbers index faster; the highest bit is 0.
        return (scattered(ids) >> self._shift).view(np.int64)

    def find(
        self, ids: npt.NDArray[np.int64]
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Which of these ids are in the index.

        Args:
          ids: int64, shape [m].

        Returns:
          The rows of `ids` that are, and the place of each in the index; int64, shape [k] both.
        """
        rows = np.flatnonzero(self._taken[self._slots(ids)])
        met = ids[rows]
        places = np.minimum(np.searchsorted(self._ids, met), len(self._ids) - 1)
        equal = self._ids[places] == met
        return rows[equal], places[equal]
