"""What a training goes on from in the next span: all weights and the state of the optimizer."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tfx_distill.schema.errors import ModelError

if TYPE_CHECKING:
    from numpy.typing import NDArray

FOLDER = "Training"
"""Folder of a Model artifact, beside TFX's own `Format-Serving`."""
_WEIGHTS = "weights.npz"
_FACTS = "state.json"
_OPTIMIZER = "optimizer/"


@dataclass(frozen=True)
class TrainingState:
    """A training between two chunks.

    Attributes:
      weights: Trained variables by name, those of distillation heads among them.
      optimizer: Variables of the optimizer by name: `iteration:0`, and per weight its moments
        `m/<name>` and `v/<name>`.
    """

    weights: Mapping[str, NDArray[Any]]
    optimizer: Mapping[str, NDArray[Any]]

    def with_rows(
        self, name: str, sources: NDArray[np.int64], fresh: NDArray[np.bool_]
    ) -> TrainingState:
        """The state after an embedding table got other rows.

        A fresh row starts from the value of its source, but without the source's moments: they
        tell of the many ids that shared it, and their large second moment would slow the new id
        down. With none it learns as any id does that is met for the first time in a while, whose
        moments have decayed.

        Args:
          name: Of the embedding table's variable.
          sources: int64 [rows]: for each new row, the row of the old table that it starts from.
          fresh: bool [rows]: which new rows have no past of their own.
        """
        weights, optimizer = dict(self.weights), dict(self.optimizer)
        if name not in weights:
            return self
        weights[name] = weights[name][sources]
        for moment in (f"m/{name}", f"v/{name}"):
            if moment in optimizer:
                moved = optimizer[moment][sources]
                moved[fresh] = 0
                optimizer[moment] = moved
        return replace(self, weights=weights, optimizer=optimizer)


@dataclass(frozen=True)
class Milestone:
    """How far a saved training has come.

    Attributes:
      span: Last span that it was trained on.
      transform_graph: The Transform output behind the ids of its embedding tables.
      heads: What it learned, in words, for people.
    """

    span: int
    transform_graph: str
    heads: tuple[str, ...] = ()


def save(folder: Path, state: TrainingState, milestone: Milestone) -> None:
    """Writes a state, and last of all the note that says that it is complete."""
    folder.mkdir(parents=True, exist_ok=True)
    arrays = {**state.weights, **{_OPTIMIZER + k: v for k, v in state.optimizer.items()}}
    with (folder / _WEIGHTS).open("wb") as file:
        np.savez(file, **arrays)
    facts = {
        "span": milestone.span,
        "transform_graph": milestone.transform_graph,
        "heads": list(milestone.heads),
    }
    (folder / _FACTS).write_text(json.dumps(facts, indent=1))


def read(folder: Path) -> tuple[TrainingState, Milestone]:
    """Reads what `save` wrote.

    Raises:
      ModelError: There is no state, or it cannot be read.
    """
    try:
        facts = json.loads((folder / _FACTS).read_text())
        with np.load(folder / _WEIGHTS, allow_pickle=False) as arrays:
            every = {name: arrays[name] for name in arrays.files}
        milestone = Milestone(facts["span"], facts["transform_graph"], tuple(facts["heads"]))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelError(
            str(folder),
            got=f"no readable training state ({' '.join(str(error).split())})",
            expected=f"{_FACTS} and {_WEIGHTS}, as the trainer writes them beside each model",
            fix="Restore the folder. Or rename the student (or delete the model), so that it "
            "starts anew.",
        ) from None
    optimizer = {
        name.removeprefix(_OPTIMIZER): every.pop(name)
        for name in list(every)
        if name.startswith(_OPTIMIZER)
    }
    return TrainingState(every, optimizer), milestone
