"""Cross-fitting: which fold a query belongs to, and where the fold models of a teacher are."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

FOLDER = "Folds"
"""Folder of a Model artifact: `Folds/<k>/` is the SavedModel that has not seen fold k."""


def fold_of(query_id: NDArray[np.int64], folds: int) -> NDArray[np.int64]:
    """The fold of each query, 0 to folds - 1; whole queries, so that no list is split.

    The ids are hashed once more (SplitMix64's finaliser, Steele, Lea and Flood, 2014), since those
    of a log need not be spread evenly.

    Args:
      query_id: int64 [n].
      folds: How many there are.
    """
    with np.errstate(over="ignore"):
        mixed = query_id.astype(np.uint64) + np.uint64(0x9E3779B97F4A7C15)
        mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        mixed = mixed ^ (mixed >> np.uint64(31))
    return (mixed % np.uint64(folds)).astype(np.int64)


def fold_model(model: str | Path, fold: int) -> Path:
    """Where the SavedModel of a fold goes.

    Args:
      model: Folder of the Model artifact.
      fold: Number of the fold.
    """
    return Path(model) / FOLDER / str(fold)


def fold_models(model: str | Path) -> list[Path]:
    """The SavedModels of the folds of a teacher, by number; none without cross-fitting.

    Args:
      model: Folder of the Model artifact.
    """
    found = (Path(model) / FOLDER).glob("*/saved_model.pb")
    return sorted((file.parent for file in found), key=lambda folder: int(folder.name))
