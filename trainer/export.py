"""The SavedModel that is pushed: serving heads only, Transform graph included, TensorFlow alone.

Signatures, `features` and `tasks` being those of the run config:

- `serving_default`: `examples`, serialised tf.Examples, string [batch].
- `serving_raw`: one tensor per raw feature, see `raw_features.spec`.
- `logits`: the feature blocks, see `features.Blocks`; used by the TeacherLabeler.

The first two return, by task, float32 [batch]: a probability, or a value in the unit of the label.
The last returns logits and values on the training scale.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import tensorflow as tf
import tensorflow_transform as tft

from tfx_distill.schema.config import FeaturesConfig, TaskConfig
from tfx_distill.trainer import raw_features
from tfx_distill.trainer.features import Blocks
from tfx_distill.trainer.ranker import Ranker

Tensors = Mapping[str, tf.Tensor]


def save(
    ranker: Ranker,
    folder: str,
    features: FeaturesConfig,
    tasks: tuple[TaskConfig, ...],
    transform_graph: str,
) -> None:
    """Writes a trained ranker as a SavedModel.

    Args:
      ranker: With serving heads only, see `Ranker.served`.
      folder: Where to write.
      features: What the model reads.
      tasks: What it serves.
      transform_graph: Path of the Transform output.
    """
    module = ServingModel(ranker, features, tasks, tft.TFTransformOutput(transform_graph))
    tf.saved_model.save(module, folder, signatures=module.entry_points)


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
            serving, _ = ranker(blocks, training=False)
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
            serving, _ = ranker(blocks, training=False)
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
