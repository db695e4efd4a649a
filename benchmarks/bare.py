"""A teacher, two students and their twins without a pipeline: a script that does the arithmetic.

It reads the same logs, encodes the same features, trains the same models by the same number of
steps, labels the train examples and evaluates every model. It checks nothing, keeps nothing, holds
all data in memory and knows this one data set. What `distill run` takes longer than this is the
price of a pipeline.

    .venv/bin/python -m benchmarks.bare runs/bench/pipeline/logs.yaml
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from tfx_distill.schema import columns
from tfx_distill.schema import config as run_config
from tfx_distill.schema.config import (
    CategoricalFeature,
    ModelConfig,
    NumericFeature,
    RunConfig,
    TrainingConfig,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tfx_distill.trainer.heads import Head
    from tfx_distill.trainer.ranker import Ranker

Arrays = dict[str, "NDArray[Any]"]
_EVAL_ROWS = 16_384
_BY_TASK = (columns.LABELS, columns.WEIGHTS, columns.TEACHER)


def numeric(frame: pl.DataFrame, feature: NumericFeature) -> NDArray[np.float64]:
    """Values of a feature before they are standardised, NaN where missing."""
    values = frame[feature.name].cast(pl.Float64).to_numpy()
    return np.log1p(np.maximum(values, 0)) if feature.transform == "log1p" else values


def encoded(
    values: pl.Series, feature: CategoricalFeature, known: dict[str, list[Any]]
) -> NDArray[np.int32]:
    """Ids from 1; 0 where missing."""
    if feature.buckets is not None:
        ids = values.hash(0) % feature.buckets + 1
    else:
        if feature.name not in known:
            counts = values.drop_nulls().value_counts(sort=True, name="n")
            known[feature.name] = counts[values.name].head(feature.vocab).to_list()
        words = known[feature.name]
        oov = pl.Series([len(words) + 1] * len(values), dtype=pl.UInt32)
        places = pl.Series(range(1, len(words) + 1), dtype=pl.UInt32)
        ids = values.replace_strict(words, places, default=oov, return_dtype=pl.UInt32)
    return np.where(values.is_null().to_numpy(), 0, ids.to_numpy()).astype(np.int32)


def blocks(config: RunConfig, frames: Mapping[str, pl.DataFrame]) -> dict[str, Arrays]:
    """By split, the blocks and the labels of all examples."""
    features, known = config.features, {}
    out: dict[str, Arrays] = {}
    mean, spread = np.zeros(0), np.zeros(0)
    for split, frame in frames.items():
        values = np.stack([numeric(frame, feature) for feature in features.numeric], axis=1)
        there = np.isfinite(values)
        if split == "train":
            mean, spread = np.nanmean(values, axis=0), np.nanstd(values, axis=0)
        scaled = np.where(there, (values - mean) / np.where(spread > 0, spread, 1), 0)
        lists = []
        for feature in features.multivalent:
            padded = [
                frame[feature.name].list.get(i, null_on_oob=True).alias(feature.name)
                for i in range(feature.max_length)
            ]
            whole = encoded(pl.concat(padded), feature, known)
            lists.append(whole.reshape(feature.max_length, -1).T)
        out[split] = {
            "numeric": np.concatenate([scaled, ~there], axis=1).astype(np.float32),
            "categorical": np.stack(
                [encoded(frame[f.name], f, known) for f in features.categorical], axis=1
            ),
            "multivalent": np.ascontiguousarray(np.concatenate(lists, axis=1)),
        }
        labels, weights = [], []
        for task in config.tasks:
            label = frame[task.label].cast(pl.Float32).to_numpy()
            weight = np.isfinite(label)
            if task.applies_when is not None:
                weight &= frame[task.applies_when].to_numpy() == 1
            if task.transform == "log1p":
                label = np.log1p(np.maximum(label, 0))
            labels.append(np.where(weight, label, 0))
            weights.append(weight)
        out[split][columns.LABELS] = np.stack(labels).astype(np.float32)
        out[split][columns.WEIGHTS] = np.stack(weights).astype(np.float32)
    return out


def begin(config: RunConfig, model: ModelConfig, made: tuple[Head, ...]) -> Ranker:
    """A model with its first weights."""
    from tfx_distill.trainer.first_weights import first_weight
    from tfx_distill.trainer.ranker import Ranker

    ranker = Ranker(config.features, model, made)
    for variable in ranker.trainable_variables:
        variable.assign(first_weight(variable.name, variable.shape, config.seed))
    return ranker


def batches(data: Arrays, names: list[str], size: int, order: Any) -> Iterator[Any]:
    """Some columns in batches, in an order."""
    import tensorflow as tf

    for start in range(0, len(order), size):
        rows = order[start : start + size]
        yield {
            # Labels have a row for each task.
            name: tf.constant(data[name][..., rows] if name in _BY_TASK else data[name][rows])
            for name in names
        }


def train(
    config: RunConfig,
    ranker: Ranker,
    data: Mapping[str, Arrays],
    training: TrainingConfig,
    *,
    taught: bool,
) -> None:
    """Adam on shuffled batches; after each epoch the losses on the eval split."""
    import tensorflow as tf
    import tf_keras

    tasks = [task.name for task in config.tasks]
    # A ranker has its tasks by kind.
    served = [tasks.index(task) for task in ranker.served_tasks]
    data = {
        split: {**arrays, **{name: arrays[name][served] for name in _BY_TASK[:2]}}
        for split, arrays in data.items()
    }
    optimizer = tf_keras.optimizers.legacy.Adam(
        training.learning_rate, global_clipnorm=training.clip_norm
    )
    names = ["numeric", "categorical", "multivalent", columns.LABELS, columns.WEIGHTS]
    extra = [columns.TEACHER, columns.TEACHER_PRESENT] if taught else []

    @tf.function(autograph=False, reduce_retracing=True)
    def step(batch: Any) -> Any:
        with tf.GradientTape() as tape:
            objective, _ = ranker.objective(batch, tf.zeros([2], tf.int32))
        variables = ranker.trainable_variables
        gradients = [tf.convert_to_tensor(g) for g in tape.gradient(objective, variables)]
        optimizer.apply_gradients(zip(gradients, variables, strict=True))
        return objective

    judge = tf.function(ranker.eval_losses, autograph=False, reduce_retracing=True)
    random = np.random.default_rng(0)
    count = {split: len(arrays["numeric"]) for split, arrays in data.items()}
    for _ in range(training.epochs):
        order = random.permutation(count["train"])
        for batch in batches(data["train"], names + extra, training.batch_size, order):
            step(batch)
        for batch in batches(data["eval"], names, _EVAL_ROWS, np.arange(count["eval"])):
            judge(batch)


def outputs(ranker: Any, arrays: Arrays) -> NDArray[np.float32]:
    """Logits and values of all served tasks, of shape [rows, tasks]."""
    import tensorflow as tf

    run = tf.function(lambda batch: ranker(batch)[0], autograph=False, reduce_retracing=True)
    names = ["numeric", "categorical", "multivalent"]
    rows = np.arange(len(arrays["numeric"]))
    found = [run(batch) for batch in batches(arrays, names, 4096, rows)]
    return np.concatenate(
        [np.stack([part[task].numpy() for task in part], axis=1) for part in found]
    )


def evaluate(config: RunConfig, arrays: Arrays, found: NDArray[np.float32]) -> dict[str, float]:
    """AUC and log loss, or mean squared error, of each task."""
    from sklearn.metrics import log_loss, roc_auc_score

    figures = {}
    for place, task in enumerate(config.tasks):
        rows = arrays[columns.WEIGHTS][place] > 0
        label, output = arrays[columns.LABELS][place, rows], found[rows, place]
        if task.kind == "regression":
            figures[f"{task.name} mse"] = float(np.mean((label - output) ** 2))
        elif 0 < label.mean() < 1:
            figures[f"{task.name} auc"] = float(roc_auc_score(label, output))
            figures[f"{task.name} log_loss"] = float(log_loss(label, 1 / (1 + np.exp(-output))))
    return figures


def run(config: RunConfig) -> dict[str, Any]:
    """Everything; returns the seconds of its parts and the figures of the models."""
    from tfx_distill.trainer import heads

    seconds: dict[str, float] = {}

    def timed(name: str, work: Callable[[], Any]) -> Any:
        started = time.perf_counter()
        done = work()
        seconds[name] = seconds.get(name, 0.0) + time.perf_counter() - started
        return done

    def read() -> dict[str, pl.DataFrame]:
        pattern = config.data.spans
        return {
            split: pl.read_parquet(pattern.format(SPAN="*", split=split), columns=wanted)
            for split in columns.SPLITS
        }

    wanted = list(config.raw_columns)
    data = timed("features", lambda: blocks(config, timed("read", read)))
    seconds["features"] -= seconds["read"]
    figures = {}
    teacher = begin(config, config.teacher.model, heads.of_teacher(config.tasks))
    order = [task.name for task in config.tasks]
    timed("teacher", lambda: train(config, teacher, data, config.teacher.training, taught=False))
    labels = timed("labels", lambda: outputs(teacher, data["train"]))
    figures["teacher"] = timed(
        "evaluation", lambda: evaluate(config, data["eval"], outputs(teacher, data["eval"]))
    )
    rows = len(labels)
    data["train"][columns.TEACHER_PRESENT] = np.ones(rows, np.float32)
    for student in config.students:
        for twin in (True, False):
            made = heads.of_student(student, config.tasks, twin=twin)
            ranker = begin(config, student.model, made)
            places = [order.index(task) for task in ranker.taught_tasks]
            data["train"][columns.TEACHER] = np.ascontiguousarray(labels[:, places].T)
            timed(
                "students",
                lambda r=ranker, s=student, t=twin: train(
                    config, r, data, s.training, taught=not t
                ),
            )
            figures[f"{student.name}{' (twin)' if twin else ''}"] = timed(
                "evaluation",
                lambda r=ranker: evaluate(config, data["eval"], outputs(r, data["eval"])),
            )
    return {"seconds": seconds, "figures": figures}


def main() -> None:
    """Runs and prints JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("config", type=Path)
    print(json.dumps(run(run_config.load(parser.parse_args().config))))


if __name__ == "__main__":
    main()
