"""Where an interrupted training goes on: what it knows after each epoch, in a folder."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path

from tfx_distill.trainer import training_state
from tfx_distill.trainer.chunk_record import ChunkRecord, EpochEnd
from tfx_distill.trainer.training_state import Milestone, TrainingState

_FACTS = "checkpoint.json"
_STATE, _BEST = "state", "best"


@dataclass(frozen=True)
class Checkpoint:
    """Where a training over several chunks stands.

    Attributes:
      records: Of the chunks that are done.
      end: Of the last epoch, on the chunk after them.
    """

    records: list[ChunkRecord]
    end: EpochEnd


class Checkpoints:
    """The newest checkpoint of a training; it is there as a whole or not at all.

    Args:
      folder: Of this training alone.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def save(self, checkpoint: Checkpoint) -> None:
        """Replaces the checkpoint before."""
        part = self._folder / "checkpoint.part"
        shutil.rmtree(part, ignore_errors=True)
        milestone = Milestone(-1, "")  # Chunks and graph are those of the course.
        training_state.save(part / _STATE, checkpoint.end.state, milestone)
        if checkpoint.end.best is not None:
            training_state.save(part / _BEST, checkpoint.end.best, milestone)
        facts = {
            "records": [asdict(record) for record in checkpoint.records],
            "losses": checkpoint.end.losses,
        }
        (part / _FACTS).write_text(json.dumps(facts))
        before = self._all()
        part.rename(self._folder / f"checkpoint-{self._number(before) + 1:06d}")
        for folder in before:
            shutil.rmtree(folder)

    def newest(self) -> Checkpoint | None:
        """What was saved last, if anything was."""
        found = self._all()
        if not found:
            return None
        facts = json.loads((found[-1] / _FACTS).read_text())
        best: TrainingState | None = None
        if (found[-1] / _BEST).exists():
            best, _ = training_state.read(found[-1] / _BEST)
        state, _ = training_state.read(found[-1] / _STATE)
        records = [ChunkRecord(**record) for record in facts["records"]]
        return Checkpoint(records, EpochEnd(facts["losses"], state, best))

    def clear(self) -> None:
        """Removes what is there."""
        for folder in self._all():
            shutil.rmtree(folder)

    def _all(self) -> list[Path]:
        return sorted(self._folder.glob("checkpoint-*"))

    def _number(self, folders: list[Path]) -> int:
        return int(folders[-1].name.rpartition("-")[2]) if folders else 0
