"""What a ModelEvaluation of the ModelEvaluator holds beside TFMA's own files, and how to read it.

- `metrics.json`: the values of TFMA's result, by slice, model, task and metric.
- `comparison.json`: see `Evaluated`.
- `predictions/part-*.parquet`: see `trainer.predict.predict`.

Reading needs neither TensorFlow nor TFMA, so a report costs no start-up.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Final, Literal

from tfx_distill.schema.config import Section

CANDIDATE: Final = "candidate"
BASELINE: Final = "baseline"
TWIN: Final = "twin"
TEACHER: Final = "teacher"
"""The models of an evaluation; only the candidate is in every one."""

PREDICTIONS = "predictions"
"""Name of the folder of the stored predictions."""

OVERALL = ""
"""Name of the slice of all examples; the others are called `column=value`."""

ByTask = dict[str, dict[str, float]]
"""Value by task and metric."""
ByModel = dict[str, ByTask]
"""Value by model, task and metric."""


class Evaluated(Section):
    """Which models were evaluated, and what the candidate can be compared with.

    `models` are the tasks of each model. `in_service` says whether a model was blessed before,
    whether or not it can be used. `baseline` is the model that stands for it: `baseline` (that
    model itself), `twin`, or None; `reason` says why.
    """

    models: dict[str, tuple[str, ...]]
    in_service: bool
    baseline: Literal["baseline", "twin"] | None
    reason: str


def metrics(evaluation_uri: str | Path) -> ByModel:
    """Metrics over all examples, by model, task and metric; NaN where a metric is undefined."""
    return sliced_metrics(evaluation_uri).get(OVERALL, {})


def sliced_metrics(evaluation_uri: str | Path) -> dict[str, ByModel]:
    """Metrics by slice (`column=value`; all examples under `OVERALL`), model, task and metric."""
    content = json.loads((Path(evaluation_uri) / "metrics.json").read_text())
    return {
        part: {
            model: {
                task: {k: math.nan if v is None else v for k, v in values.items()}
                for task, values in tasks.items()
            }
            for model, tasks in models.items()
        }
        for part, models in content.items()
    }


def evaluated(evaluation_uri: str | Path) -> Evaluated:
    """The models of an evaluation."""
    return Evaluated.model_validate_json((Path(evaluation_uri) / "comparison.json").read_text())


def predictions(evaluation_uri: str | Path) -> list[Path]:
    """Files of the stored predictions, in the order of the examples' shards."""
    return sorted((Path(evaluation_uri) / PREDICTIONS).glob("part-*.parquet"))


def write(
    evaluation_uri: str | Path,
    values: Mapping[str, Mapping[str, Mapping[str, Mapping[str, float]]]],
    models: Evaluated,
) -> None:
    """Writes `metrics.json` and `comparison.json`; JSON has no NaN, so NaN becomes null."""
    content = {
        part: {
            model: {
                task: {k: v if math.isfinite(v) else None for k, v in sorted(metric.items())}
                for task, metric in sorted(tasks.items())
            }
            for model, tasks in sorted(by_model.items())
        }
        for part, by_model in sorted(values.items())
    }
    folder = Path(evaluation_uri)
    (folder / "metrics.json").write_text(json.dumps(content, indent=1))
    (folder / "comparison.json").write_text(models.model_dump_json(indent=1))
