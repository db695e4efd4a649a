"""Shard work: notes keep every digit, and an engine must bring one for each shard."""

from __future__ import annotations

import pickle
from dataclasses import dataclass
from pathlib import Path

import apache_beam as beam
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tfx_distill.components import beam_engine, engines
from tfx_distill.components.shard_work import (
    NOTES,
    SHARDS,
    Note,
    Shard,
    ShardWork,
    read_note,
    shard_table,
)
from tfx_distill.schema.errors import EnvironmentProblem

SPLITS = st.sampled_from(["train", "eval"])
ENDS = st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False, allow_infinity=False)
RANGES = st.dictionaries(st.text(min_size=1), st.tuples(ENDS, ENDS), max_size=3)


@dataclass(frozen=True)
class Given(ShardWork):
    """Notes what it was given."""

    ranges: dict[str, tuple[float, float]]

    def do(self, shard: Shard) -> Note:
        return Note(shard.split, shard.name, shard.source, 3, 2**40, self.ranges)


@given(st.lists(st.builds(Shard, st.text(), SPLITS, st.text()), max_size=5), RANGES)
def test_a_note_for_each_shard_with_every_digit(shards, ranges):
    work = pickle.loads(pickle.dumps(Given(ranges)))  # noqa: S301 (our own)
    table = shard_table(shards)
    assert table.schema == SHARDS
    made = list(work(table.to_batches(max_chunksize=2)))
    assert all(batch.schema == NOTES for batch in made)
    notes = [read_note(row) for batch in made for row in batch.to_pylist()]
    assert notes == [Given(ranges).do(shard) for shard in shards]
    for note in notes:
        for name, ends in note.ranges.items():
            assert [type(end) for end in ends] == [type(end) for end in ranges[name]]


def shards(*names: str) -> list[Shard]:
    return [Shard(f"from/{name}", "train", name) for name in names]


def run(work: ShardWork, table: list[Shard], notes: Path) -> list[Note]:
    pipeline = beam.Pipeline(runner="FnApiRunner", argv=[])
    return engines.run(work, table, spark="", beam_pipeline=pipeline, notes=notes)


def test_beam_brings_the_notes_in_order_and_leaves_no_files(tmp_path):
    both = [*shards("b", "a"), Shard("from/other", "eval", "a")]
    notes = run(Given({"example_id": (1, 2**60 + 1)}), both, tmp_path / "notes")
    assert [(note.split, note.name, note.path) for note in notes] == [
        ("train", "b", "from/b"),
        ("train", "a", "from/a"),
        ("eval", "a", "from/other"),
    ]
    assert notes[0].ranges == {"example_id": (1, 2**60 + 1)}
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("brought", [["a"], ["a", "b", "b"], ["a", "a"], ["a", "c"], []])
def test_a_shard_that_is_missing_or_there_twice_is_refused(brought, tmp_path, monkeypatch):
    work = Given({})
    notes = [work.do(shard) for shard in shards(*brought)]
    monkeypatch.setattr(beam_engine, "run", lambda *arguments: notes)
    with pytest.raises(EnvironmentProblem) as caught:
        run(work, shards("a", "b"), tmp_path)
    assert caught.value.got == f"{len(brought)} finished shards"
    assert "2, one for each" in caught.value.expected
