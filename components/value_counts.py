"""How often each value of a column occurs: what a vocabulary is made of."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc

PENDING_VALUES = 1 << 18
"""Values whose counts are kept apart at least, before they are added up."""


class ValueCounts:
    """Counts of integers, as their decimals, or of binary values.

    Memory grows with the distinct values, not with the values.
    """

    def __init__(self) -> None:
        schema = pa.schema({"value": pa.binary(), "count": pa.int64()})
        self._counts = schema.empty_table()
        self._pending: list[pa.Table] = []

    def add(self, values: pa.Array) -> None:
        """Counts these too."""
        found = pc.value_counts(values)
        distinct = found.field("values")
        if pa.types.is_integer(distinct.type):
            distinct = distinct.cast(pa.string())
        counts = {"value": distinct.cast(pa.binary()), "count": found.field("counts")}
        self._hold(pa.table(counts))

    def merge(self, other: ValueCounts) -> None:
        """Counts what the other one counted."""
        self._hold(other.compact())

    def compact(self) -> pa.Table:
        """Each value once: columns `value` and `count`, in no order."""
        if self._pending:
            together = pa.concat_tables([self._counts, *self._pending])
            summed = together.group_by("value").aggregate([("count", "sum")])
            self._counts = summed.select(["value", "count_sum"]).rename_columns(["value", "count"])
            self._pending = []
        return self._counts

    def most_frequent(self) -> pa.Array:
        """The distinct values by falling count, as TFT has them: at one count by falling bytes.

        Returns:
          Binary values, without those that no vocabulary can hold: empty ones and those with line
          breaks.
        """
        counts = self.compact()
        unusable = pc.equal(counts["value"], b"")
        for end in "\n\r":
            unusable = pc.or_(unusable, pc.match_substring(counts["value"], end))
        counts = counts.filter(pc.invert(unusable))
        keys = [("count", "descending"), ("value", "descending")]
        return counts["value"].take(pc.sort_indices(counts, sort_keys=keys)).combine_chunks()

    def _hold(self, counts: pa.Table) -> None:
        if not counts.num_rows:
            # Arrow 10 groups no rows into buffers of any size, which would be sent.
            return
        self._pending.append(counts)
        pending = sum(part.num_rows for part in self._pending)
        if pending > max(PENDING_VALUES, self._counts.num_rows):
            self.compact()
