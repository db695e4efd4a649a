"""Students that are worse for a known reason, and what they say of a large population of queries.

Two days of one simulated world: a sample of the first is the training log, the whole second is the
population. Students share everything but their labels: of 1%, 2% and 5% of the examples the click
is turned into its opposite. The blocks that models read are made with numpy, since the Transform
graph is not what is measured here.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from tfx_distill.datasets import simulator
from tfx_distill.datasets.surfaces import VIDEO
from tfx_distill.schema import columns
from tfx_distill.schema import config as run_config
from tfx_distill.schema.config import FeaturesConfig, ModelConfig, TaskConfig, TrainingConfig
from tfx_distill.trainer import feature_table
from tfx_distill.trainer.features import CATEGORICAL, NUMERIC
from tfx_distill.trainer.heads import Head
from tfx_distill.trainer.training import Training

if TYPE_CHECKING:
    from numpy.typing import NDArray

CONFIG = Path(__file__).parents[2] / "configs/video.yaml"
CLICK = TaskConfig(name="click", kind="binary", label="clicked")
SLICES = ("device", "new_item")
SOUND = "sound"
ANOTHER = "another seed"
FLIPPED = {"1% flipped": 0.01, "2% flipped": 0.02, "5% flipped": 0.05}
EPOCHS = 3
"""With these the sound student's log loss on the population is least."""
_PREDICTED_AT_ONCE = 65_536


@dataclass(frozen=True)
class Setting:
    """What to simulate and to train.

    Attributes:
      seed: Of the world, of the flips and of all students but `ANOTHER`.
      train: Examples of the training log, about.
      population: Examples of the population, about.
    """

    seed: int = 0
    train: int = 260_000
    population: int = 1_500_000

    @property
    def world(self) -> simulator.SimulatorConfig:
        """As many users and items as the demo has, with more traffic."""
        return simulator.SimulatorConfig(
            seed=self.seed, examples_per_span=self.population, users=1_750, items=3_500
        )


def flipped(label: NDArray[np.float32], share: float, seed: int) -> NDArray[np.float32]:
    """Labels, 0 or 1, of which each is turned into its opposite with a probability.

    What is flipped for one share is flipped for every larger one.
    """
    chosen = np.random.default_rng([seed, 1]).random(len(label)) < share
    return np.where(chosen, 1 - label, label).astype(np.float32)


def make(setting: Setting, folder: Path) -> Path:
    """Trains all students; returns the file of the population.

    It has the rows of each query side by side: `query_id` (int64), the slice columns, `label_click`
    and `weight_click` (float32), and by the name of each student its predictions (float32).
    """
    for span in (0, 1):
        simulator.write_span(folder / "data", setting.world, VIDEO, span)
    log = _sample(_day(folder, 0), setting.train, setting.seed)
    population = _day(folder, 1)
    features = run_config.load(CONFIG).features.model_copy(update={"multivalent": ()})
    encoding = Encoding(log, features)
    training = Training(
        "student",
        features=features,
        model=ModelConfig(),
        heads=(Head(CLICK),),
        training=TrainingConfig(),
        seed=setting.seed,
        quiet=True,
    )
    read = encoding(log, serving=False)
    shown = encoding(population, serving=True)
    out: dict[str, Any] = {columns.QUERY_ID: population["request_id"]}
    out |= {name: population[name] for name in SLICES}
    out[columns.label("click")] = _clicks(population)
    out[columns.weight("click")] = np.ones(len(population), np.float32)
    for name, share in {SOUND: 0.0, ANOTHER: 0.0, **FLIPPED}.items():
        table = folder / "tables" / f"{share:.0%}"
        _write(table, log, read, flipped(_clicks(log), share, setting.seed))
        training.reset(setting.seed + (name == ANOTHER))
        training.fit(table, span=0, epochs=EPOCHS)
        out[name] = _clicked(training, shown)
    file = folder / "population.parquet"
    pq.write_table(pa.table(out), file)
    return file


class Encoding:
    """From columns of a log to the blocks of a feature table; see `trainer.features`.

    Args:
      log: The training log, whose means, deviations and words are taken.
      features: What to encode; multivalent features are not known here.
    """

    def __init__(self, log: pa.Table, features: FeaturesConfig) -> None:
        self._features = features
        numbers = self._numbers(log, serving=False)
        self._mean, self._deviation = np.nanmean(numbers, axis=0), np.nanstd(numbers, axis=0)
        self._words = {f.name: _words(log[f.name]) for f in features.categorical if f.vocab}

    def __call__(self, log: pa.Table, *, serving: bool) -> dict[str, NDArray[Any]]:
        """The blocks, of shape [rows, width].

        Args:
          log: Any log with the same columns.
          serving: Whether features that are not known at serving take their serving value.
        """
        numbers = (self._numbers(log, serving=serving) - self._mean) / self._deviation
        missing = np.isnan(numbers)
        numeric = np.concatenate([np.where(missing, 0, numbers), missing], axis=1)
        ids = [
            pc.add(pc.fill_null(pc.index_in(log[f.name], self._words[f.name]), -1), 1).to_numpy()
            if f.buckets is None
            else 1 + log[f.name].to_numpy() % f.buckets
            for f in self._features.categorical
        ]
        return {
            NUMERIC: numeric.astype(np.float32),
            CATEGORICAL: np.stack(ids, axis=1).astype(np.int32),
        }

    def _numbers(self, log: pa.Table, *, serving: bool) -> NDArray[np.float64]:
        """Transformed values of shape [rows, features], NaN where missing."""
        found = []
        for feature in self._features.numeric:
            values = log[feature.name].to_numpy().astype(np.float64)
            if serving and feature.serving_value is not None:
                values = np.full(len(values), float(feature.serving_value))
            found.append(np.log1p(values) if feature.transform == "log1p" else values)
        return np.stack(found, axis=1)


def _words(column: pa.ChunkedArray) -> pa.Array:
    return pa.array(sorted(set(column.to_pylist()) - {None}))


def _day(folder: Path, span: int) -> pa.Table:
    """Everything logged in a span; the files divide it by time, which is no matter here."""
    files = sorted((folder / f"data/video/span-{span}").glob("*.parquet"))
    # In order of time: the train split comes first.
    return pa.concat_tables(pq.read_table(file) for file in reversed(files))


def _sample(day: pa.Table, examples: int, seed: int) -> pa.Table:
    """Whole queries drawn from a day, with that many examples in total, about."""
    queries = np.unique(day["request_id"].to_numpy())
    share = min(1.0, examples / len(day))
    kept = queries[np.random.default_rng([seed, 0]).random(len(queries)) < share]
    return day.filter(pc.is_in(day["request_id"], pa.array(kept)))


def _clicks(log: pa.Table) -> NDArray[np.float32]:
    return log[CLICK.label].to_numpy().astype(np.float32)


def _write(
    folder: Path, log: pa.Table, blocks: dict[str, NDArray[Any]], label: NDArray[np.float32]
) -> None:
    """A feature table with a train split alone."""
    rows = blocks | {
        columns.EXAMPLE_ID: log["impression_id"].to_numpy(),
        columns.QUERY_ID: log["request_id"].to_numpy(),
        columns.EVENT_TIME: log["timestamp"].to_numpy(),
        columns.label("click"): label,
        columns.weight("click"): np.ones(len(label), np.float32),
    }
    with feature_table.Writer(folder / f"Split-train/part-00000{feature_table.SUFFIX}") as writer:
        writer.write(feature_table.record(rows))


def _clicked(training: Training, blocks: dict[str, NDArray[Any]]) -> NDArray[np.float32]:
    """Predicted probabilities of a click, of shape [rows]."""
    rows = len(blocks[NUMERIC])
    logits = [
        training.logits({k: v[start : start + _PREDICTED_AT_ONCE] for k, v in blocks.items()})
        for start in range(0, rows, _PREDICTED_AT_ONCE)
    ]
    logit = np.concatenate([part["click"] for part in logits]).astype(np.float64)
    return (1 / (1 + np.exp(-logit))).astype(np.float32)
