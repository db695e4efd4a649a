"""Which models are evaluated beside the candidate, on which tasks, and which is the baseline."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from tfx_distill.components.evaluation_config import EvaluationConfig
from tfx_distill.components.evaluation_result import BASELINE, CANDIDATE, TWIN, Evaluated
from tfx_distill.schema.config import FeaturesConfig
from tfx_distill.schema.errors import ModelError
from tfx_distill.trainer import predict


@dataclass(frozen=True)
class Compared:
    """A model of an evaluation: its SavedModel, and those of the wanted tasks that it serves."""

    folder: str
    tasks: tuple[str, ...]


@dataclass(frozen=True)
class Comparison:
    """The models of one evaluation by name, which of them is the baseline, and why.

    `in_service` says whether a model was blessed before, whether or not it can be used.
    """

    models: dict[str, Compared]
    in_service: bool
    baseline: Literal["baseline", "twin"] | None
    reason: str

    def evaluated(self) -> Evaluated:
        """What the evaluation stores of it."""
        return Evaluated(
            models={name: model.tasks for name, model in self.models.items()},
            in_service=self.in_service,
            baseline=self.baseline,
            reason=self.reason,
        )


def comparison(folders: Mapping[str, str], config: EvaluationConfig) -> Comparison:
    """Looks at the models' signatures and chooses the baseline.

    It is the latest blessed model; where there is none, or where it cannot be used with the present
    config, the twin. Otherwise a feature could never leave the config once a model was blessed.

    Args:
      folders: SavedModel of the `candidate`, and where they exist `baseline`, `twin`, `teacher`.
      config: What the models are evaluated on.

    Raises:
      ModelError: The candidate does not serve a wanted task, or a folder holds no usable model.
    """
    signatures = {name: predict.signature(folder) for name, folder in folders.items()}
    models = {
        name: Compared(
            folders[name], tuple(t.name for t in config.tasks if t.name in signature.tasks)
        )
        for name, signature in signatures.items()
    }
    absent = [t.name for t in config.tasks if t.name not in models[CANDIDATE].tasks]
    if absent:
        raise ModelError(
            f"model {config.candidate!r} at {folders[CANDIDATE]}",
            got=f"predictions of {sorted(signatures[CANDIDATE].tasks)}",
            expected=f"also of {absent}",
            fix="Train the model again with the present config.",
        )
    reason = "No model is in service."
    if BASELINE in models:
        lost = sorted(signatures[BASELINE].features - _given(config.features))
        if lost:
            del models[BASELINE]
            reason = f"The latest blessed model needs {lost}, which the config no longer has."
        elif not models[BASELINE].tasks:
            reason = "The latest blessed model serves none of the tasks."
    models = {name: model for name, model in models.items() if model.tasks}
    baseline: Literal["baseline", "twin"] | None = None
    if BASELINE in models:
        baseline, reason = BASELINE, "The baseline is the latest blessed model."
    elif TWIN in models:
        baseline, reason = TWIN, f"{reason} The undistilled twin is the baseline."
    else:
        reason = f"{reason} There is no undistilled twin either."
    return Comparison(models, BASELINE in folders, baseline, reason)


def _given(features: FeaturesConfig) -> set[str]:
    """Names of the features that models are given; the others they fill in by themselves."""
    numeric = {f.name for f in features.numeric if f.serving_value is None}
    ids = (*features.categorical, *features.multivalent)
    return numeric | {f.name for f in ids if f.serving_value is None}
