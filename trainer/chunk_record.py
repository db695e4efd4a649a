"""What is known of the training on one chunk: after each of its epochs, and at its end."""

from __future__ import annotations

from dataclasses import dataclass

from tfx_distill.trainer.training_state import TrainingState


@dataclass(frozen=True)
class EpochEnd:
    """Where the training on a chunk stands after an epoch.

    Attributes:
      losses: As of `ChunkRecord`, so far.
      state: Of the training.
      best: The state after the best epoch so far; None without early stopping.
    """

    losses: dict[str, list[float]]
    state: TrainingState
    best: TrainingState | None


@dataclass(frozen=True)
class ChunkRecord:
    """What is worth keeping of the training on one chunk.

    Attributes:
      span: Last span of the chunk.
      examples: Train examples.
      epochs: Passes over them.
      seconds: Wall time.
      losses: By name, one value per epoch; `val_` marks the eval split.
      coverage: Share of the train examples with a teacher label; None without distillation.
    """

    span: int
    examples: int
    epochs: int
    seconds: float
    losses: dict[str, list[float]]
    coverage: float | None
