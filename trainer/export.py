"""The SavedModel that is pushed: serving heads only, Transform graph included, TensorFlow alone.

Signatures, `features` and `tasks` being those of the run config:

- `serving_default`: `examples`, serialised tf.Examples, string [batch].
- `serving_raw`: one tensor per raw feature, see `raw_features.spec`.
- `logits`: the feature blocks, see `features.Blocks`; used by the TeacherLabeler.

The first two return, by task, float32 [batch]: a probability, or a value in the unit of the label.
The last returns logits and values on the training scale.

A model of a stream is exported at every span, and all that changes is its weights and, now and
then, its vocabularies. A student differs from its twin in heads that are not served. So the graph
is traced and serialised once per process; later exports of the same structure write the same
`saved_model.pb` beside other variables and assets.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import tensorflow as tf
import tensorflow_transform as tft
from tensorflow.python.saved_model import fingerprinting_utils

from tfx_distill.schema.config import FeaturesConfig, TaskConfig
from tfx_distill.trainer import raw_features
from tfx_distill.trainer.features import Blocks
from tfx_distill.trainer.process_cache import ProcessCache
from tfx_distill.trainer.ranker import Ranker
from tfx_distill.trainer.vocabularies import Vocabularies

if TYPE_CHECKING:
    from typing import Any

    from numpy.typing import NDArray

Tensors = Mapping[str, tf.Tensor]

_VARIABLES = "variables/variables"
_GRAPH = "saved_model.pb"
_ASSETS = "assets"


def save(
    ranker: Ranker,
    folder: str | Path,
    features: FeaturesConfig,
    tasks: tuple[TaskConfig, ...],
    transform_graph: str,
) -> int:
    """Writes the serving heads of a trained ranker as a SavedModel.

    Args:
      ranker: As it was trained; distillation heads are left out.
      folder: Where to write.
      features: What the model reads.
      tasks: What it serves.
      transform_graph: Path of the Transform output.

    Returns:
      Number of trained numbers in what was written.
    """
    vocabularies = Vocabularies.of(transform_graph)
    key = (ranker.served_structure, repr((features, tasks)), vocabularies.surroundings)

    def template() -> _Template:
        transform = tft.TFTransformOutput(transform_graph)
        return _Template.of(ServingModel(ranker.served(), features, tasks, transform), vocabularies)

    return _TEMPLATES.get(key, template).write(
        Path(folder), {v.name: v.numpy() for v in ranker.trainable_variables}, vocabularies
    )


@dataclass(frozen=True)
class _Template:
    """A SavedModel whose weights are yet to be filled in.

    Attributes:
      graph: Content of its `saved_model.pb`.
      vocabularies: With which it was traced.
      checkpoint: Content of its checkpoint by key; of its weights, the names.
    """

    graph: bytes
    vocabularies: Vocabularies
    checkpoint: Mapping[str, NDArray[Any] | str]

    @classmethod
    def of(cls, module: ServingModel, vocabularies: Vocabularies) -> _Template:
        """The template of a module and all others of its structure."""
        with TemporaryDirectory() as scratch:
            tf.saved_model.save(module, scratch, signatures=module.entry_points)
            graph = (Path(scratch) / _GRAPH).read_bytes()
            assets = {a.name: a.read_bytes() for a in (Path(scratch) / _ASSETS).glob("*")}
            if assets != vocabularies.files:
                raise RuntimeError(f"TensorFlow saved {sorted(assets)}, not the vocabularies")
            reader = tf.train.load_checkpoint(str(Path(scratch) / _VARIABLES))
            checkpoint = {key: reader.get_tensor(key) for key in reader.get_variable_to_shape_map()}
        # tf.saved_model names what it saves by the path of attributes that leads to it.
        weights = {
            f"weights/{place}/.ATTRIBUTES/VARIABLE_VALUE": weight.name
            for place, weight in enumerate(module.weights)
        }
        if not weights.keys() <= checkpoint.keys():
            raise RuntimeError(f"TensorFlow saved {sorted(checkpoint)}, not {sorted(weights)}")
        return cls(graph, vocabularies, checkpoint | weights)

    def write(
        self, folder: Path, weights: Mapping[str, NDArray[Any]], vocabularies: Vocabularies
    ) -> int:
        """Writes the SavedModel with these weights; returns how many numbers they are."""
        for place in (_ASSETS, "variables"):
            (folder / place).mkdir(parents=True, exist_ok=True)
        (folder / _GRAPH).write_bytes(vocabularies.in_place_of(self.vocabularies, self.graph))
        for name, content in vocabularies.files.items():
            (folder / _ASSETS / name).write_bytes(content)
        tensors = {
            key: tf.constant(weights[value]) if isinstance(value, str) else tf.constant(value)
            for key, value in self.checkpoint.items()
        }
        tf.raw_ops.SaveV2(
            prefix=str(folder / _VARIABLES),
            tensor_names=list(tensors),
            shape_and_slices=[""] * len(tensors),
            tensors=list(tensors.values()),
        )
        fingerprinting_utils.write_fingerprint(str(folder))
        return sum(
            weights[value].size for value in self.checkpoint.values() if isinstance(value, str)
        )


_TEMPLATES: ProcessCache[tuple[str, ...], _Template] = ProcessCache(64)


class ServingModel(tf.Module):
    """A ranker behind its Transform graph, for servers that have TensorFlow alone."""

    def __init__(
        self,
        ranker: Ranker,
        features: FeaturesConfig,
        tasks: tuple[TaskConfig, ...],
        transform: tft.TFTransformOutput,
    ) -> None:
        super().__init__(name="serving_model")
        self.weights = list(ranker.trainable_variables)
        self.transform = transform.transform_features_layer()
        dtypes = {name: spec.dtype for name, spec in transform.raw_feature_spec().items()}
        parsing = {
            name: tf.io.VarLenFeature(spec.dtype)
            for name, spec in raw_features.spec(features, dtypes, serving=True).items()
        }

        def predict(blocks: Tensors) -> dict[str, tf.Tensor]:
            serving, _ = ranker(blocks)
            return {task.name: tf.identity(_unscaled(task, serving[task.name])) for task in tasks}

        def blocks_of(sparse: Mapping[str, tf.SparseTensor]) -> Tensors:
            blocks = self.transform(dict(sparse))
            return {name: tf.cast(blocks[name], s.dtype) for name, s in block_spec.items()}

        block_spec = Blocks.of(features).spec

        @tf.function(
            input_signature=[tf.TensorSpec([None], tf.string, name="examples")], autograph=False
        )
        def serving_default(examples: tf.Tensor) -> dict[str, tf.Tensor]:
            parsed = raw_features.present(tf.io.parse_example(examples, parsing))
            filled = raw_features.fill(parsed, tf.size(examples), features, dtypes)
            return predict(blocks_of(filled))

        @tf.function(autograph=False)
        def serving_raw(**dense: tf.Tensor) -> dict[str, tf.Tensor]:
            return predict(blocks_of(raw_features.sparse(dense, features, dtypes)))

        @tf.function(autograph=False)
        def logits(**blocks: tf.Tensor) -> dict[str, tf.Tensor]:
            serving, _ = ranker(blocks)
            return {name: tf.identity(value) for name, value in serving.items()}

        self.entry_points: dict[str, Callable[..., dict[str, tf.Tensor]]] = {
            "serving_default": serving_default.get_concrete_function(),
            "serving_raw": serving_raw.get_concrete_function(
                **raw_features.spec(features, dtypes, serving=True)
            ),
            "logits": logits.get_concrete_function(**block_spec),
        }


def _unscaled(task: TaskConfig, output: tf.Tensor) -> tf.Tensor:
    """From the output of a serving head to what is served."""
    if task.kind == "binary":
        return tf.sigmoid(output)
    return tf.math.expm1(output) if task.transform == "log1p" else output
