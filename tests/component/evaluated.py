"""Examples, models and runs of the ModelEvaluator and of the PromotionGate, for their tests."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import tensorflow as tf
from tfx.types import standard_artifacts

from tfx_distill.components.evaluation_config import EvaluationConfig
from tfx_distill.components.gate_settings import GateSettings
from tfx_distill.components.model_evaluator import ModelEvaluator
from tfx_distill.components.promotion_gate import PromotionGate
from tfx_distill.schema.config import FeaturesConfig, TaskConfig, Threshold

BEAM = ["--runner=FnApiRunner", "--sdk_container_image=unused"]
ROWS, SHARDS = 900, 3

CLICK = TaskConfig(name="click", kind="binary", label="clicked")
WATCH = TaskConfig(
    name="watch", kind="regression", label="watch_s", transform="log1p", applies_when="clicked"
)
FEATURES = FeaturesConfig.model_validate(
    {
        "numeric": ["quality", {"name": "place", "serving_value": 0.0}],
        "categorical": [{"name": "device", "vocab": 4}],
        "multivalent": [{"name": "topics", "vocab": 8, "max_length": 2}],
    }
)


def config(**changes: Any) -> EvaluationConfig:
    return EvaluationConfig(
        **{
            "candidate": "compact",
            "features": FEATURES,
            "tasks": (CLICK, WATCH),
            "slices": ("device", "new_item"),
            "ndcg_at": 3,
            **changes,
        }
    )


def settings(*thresholds: Threshold, **changes: Any) -> GateSettings:
    """For a gate of what `config` evaluates; some slices have fewer than 60 of the 100 queries."""
    return GateSettings(
        **{
            "candidate": "compact",
            "kinds": {"click": "binary", "watch": "regression"},
            "thresholds": thresholds,
            "slices": ("device", "new_item"),
            "ndcg_at": 3,
            "first": "twin",
            "confidence": 0.95,
            "replicates": 1000,
            "min_slice_queries": 60,
            "seed": 0,
            **changes,
        }
    )


class Ranker(tf.Module):
    """Scores by quality and device; takes what an exported ranker takes."""

    def __init__(self, slope: float) -> None:
        super().__init__()
        self.slope = tf.Variable(slope)

    @tf.function(
        input_signature=[
            tf.TensorSpec([None], tf.float32, name="quality"),
            tf.TensorSpec([None], tf.string, name="device"),
            tf.TensorSpec([None, None], tf.int64, name="topics"),
        ]
    )
    def serve(self, quality: tf.Tensor, device: tf.Tensor, topics: tf.Tensor) -> Any:
        known = tf.where(tf.math.is_nan(quality), 0.0, quality)
        listed = tf.reduce_sum(tf.cast(topics >= 0, tf.float32), axis=1)
        logit = self.slope * known + 0.1 * listed - 0.3 * tf.cast(device == "tv", tf.float32)
        return {"click": tf.sigmoid(logit), "watch": tf.exp(logit) - 0.5}


def save(folder: Path, slope: float) -> str:
    model = Ranker(slope)
    tf.saved_model.save(
        model,
        str(folder / "Format-Serving"),
        signatures={"serving_raw": model.serve.get_concrete_function()},
    )
    return str(folder)


def logged() -> dict[str, list[Any]]:
    rng = np.random.default_rng(5)
    quality = rng.normal(size=ROWS)
    clicked = rng.random(ROWS) < 1 / (1 + np.exp(-1.5 * quality))
    watch = np.exp(rng.normal(size=ROWS) + quality)
    query = rng.permutation(np.arange(ROWS) // 9)  # over all shards, in no order
    return {
        "example_id": list(range(1000, 1000 + ROWS)),
        "query_id": (query * 10**15 - 10**16).tolist(),
        "event_time": list(range(ROWS)),
        "quality": [None if i % 50 == 0 else q for i, q in enumerate(quality.tolist())],
        "place": [1.0] * ROWS,
        "device": [None if q % 10 == 0 else [b"phone", b"tv"][q % 2] for q in query],
        "topics": [[int(i % 8)] * (i % 4) for i in range(ROWS)],
        "clicked": clicked.astype(float).tolist(),
        "watch_s": [s if c else None for s, c in zip(watch.tolist(), clicked, strict=True)],
        "new_item": (np.arange(ROWS) % 3 == 0).astype(int).tolist(),
    }


def ingest(folder: Path, data: Mapping[str, list[Any]]) -> str:
    """Writes examples as the ExampleGen does: every column a list."""
    types = {"device": pa.large_binary(), "quality": pa.float32(), "place": pa.float32()}
    types |= {"clicked": pa.float32(), "watch_s": pa.float32()}
    table = pa.table(
        {
            name: pa.array(
                [v if v is None or isinstance(v, list) else [v] for v in values],
                pa.large_list(types.get(name, pa.int64())),
            )
            for name, values in data.items()
        }
    )
    (folder / "Split-eval").mkdir(parents=True)
    for i in range(SHARDS):
        part = table.slice(i * ROWS // SHARDS, ROWS // SHARDS)
        pq.write_table(part, folder / "Split-eval" / f"part-{i:05d}.parquet")
    return str(folder)


def artifact(kind: Any, uri: str | Path, number: int = 1) -> Any:
    made = kind()
    made.uri, made.id = str(uri), number
    if kind is standard_artifacts.Examples:
        made.split_names = '["train", "eval"]'
    return made


MODEL_IDS = {"model": 10, "baseline": 11, "twin": 12, "teacher": 13}


def run(root: Path, examples: str, wanted: EvaluationConfig, **models: str) -> str:
    """Runs the ModelEvaluator; returns the folder of the evaluation."""
    executor = ModelEvaluator.EXECUTOR_SPEC.executor_class
    context = executor.Context(beam_pipeline_args=BEAM, tmp_dir=str(root), unique_id="1")
    evaluation = artifact(standard_artifacts.ModelEvaluation, root / "evaluation")
    inputs = {"examples": [artifact(standard_artifacts.Examples, examples)], "baseline": []}
    executor(context).Do(
        inputs | _given(models),
        {"evaluation": [evaluation]},
        {"config": wanted.model_dump_json()},
    )
    return str(evaluation.uri)


def judge(root: Path, evaluation: str, wanted: GateSettings, **models: str) -> Any:
    """Runs the PromotionGate; returns the blessing."""
    executor = PromotionGate.EXECUTOR_SPEC.executor_class
    blessing = artifact(standard_artifacts.ModelBlessing, root / "blessing")
    stored = artifact(standard_artifacts.ModelEvaluation, evaluation)
    executor(executor.Context(tmp_dir=str(root), unique_id="1")).Do(
        {"evaluation": [stored], "baseline": [], "twin": []} | _given(models),
        {"blessing": [blessing]},
        {"config": wanted.model_dump_json()},
    )
    return blessing


def _given(models: Mapping[str, str]) -> dict[str, list[Any]]:
    return {
        name: [artifact(standard_artifacts.Model, uri, MODEL_IDS[name])]
        for name, uri in models.items()
    }
