"""Trainings in memory, kept by structure: a trace costs more than a stream of small chunks."""

from __future__ import annotations

from functools import lru_cache

from benchmarks.online.stream import Stream
from tfx_distill.schema.config import FeaturesConfig, ModelConfig, TrainingConfig
from tfx_distill.trainer.heads import Head
from tfx_distill.trainer.training import Training


def learner(
    stream: Stream, model: ModelConfig, heads: tuple[Head, ...], learning_rate: float
) -> Training:
    """An untrained model of this structure, seeded for a stream.

    The last 32 structures are kept with their traces: two models of one structure are trained one
    after the other, never at once.
    """
    training = TrainingConfig(batch_size=stream.setting.batch_size, learning_rate=learning_rate)
    made = _kept(stream.config.features, model, training, heads)
    made.reset(stream.seed)
    return made


@lru_cache(maxsize=32)
def _kept(
    features: FeaturesConfig,
    model: ModelConfig,
    training: TrainingConfig,
    heads: tuple[Head, ...],
) -> Training:
    return Training(
        "experiment",
        features=features,
        model=model,
        heads=heads,
        training=training,
        seed=0,
        min_coverage=1.0,
        quiet=True,
    )
