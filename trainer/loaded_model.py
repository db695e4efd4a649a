"""SavedModels as they are used in a process that meets hundreds of them, few of them of new shape.

Loading a SavedModel takes seconds, nearly all of them for its graph. Models of one stream differ in
their weights alone: a graph is loaded once, and the weights of whichever model is asked are put
into it.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import tensorflow as tf

from tfx_distill.trainer.process_cache import ProcessCache, digest

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class LoadedModel:
    """One SavedModel; any number of them, of the same structure or not, can be used in turns.

    Args:
      folder: Of the SavedModel; it is read now, and not needed later.
    """

    def __init__(self, folder: str | Path) -> None:
        # Same graph and same assets: the same structure.
        structure = digest(folder, leave_out=("variables", "fingerprint.pb"))
        self._graph = _GRAPHS.get(structure, lambda: _Graph(str(folder)))
        self._weights = self._graph.weights_of(str(folder))

    def __call__(
        self, signature: str, inputs: Mapping[str, tf.Tensor]
    ) -> dict[str, NDArray[np.float32]]:
        """The outputs of a signature by name."""
        return self._graph.run(self._weights, signature, inputs)


class _Graph:
    """A loaded SavedModel, into which the weights of others are put."""

    def __init__(self, folder: str) -> None:
        # The signatures alone do not keep the variables alive.
        self._model = tf.saved_model.load(folder)
        found = {
            id(variable): variable
            for signature in self._model.signatures.values()
            for variable in signature.variables
        }
        self._variables = list(found.values())
        self._checkpoint = tf.train.Checkpoint(root=self._model)
        self._inside: list[tf.Tensor] | None = None
        # Beam runs bundles in threads.
        self._lock = threading.Lock()

    def weights_of(self, folder: str) -> list[tf.Tensor]:
        """The weights of a model of this structure."""
        with self._lock:
            self._checkpoint.read(str(Path(folder) / "variables" / "variables")).expect_partial()
            self._inside = [tf.identity(variable) for variable in self._variables]
            return self._inside

    def run(
        self, weights: list[tf.Tensor], signature: str, inputs: Mapping[str, tf.Tensor]
    ) -> dict[str, Any]:
        """Runs a signature with these weights."""
        with self._lock:
            if self._inside is not weights:
                for variable, value in zip(self._variables, weights, strict=True):
                    variable.assign(value)
                self._inside = weights
            outputs = self._model.signatures[signature](**inputs)
            return {name: tensor.numpy() for name, tensor in outputs.items()}


_GRAPHS: ProcessCache[str, _Graph] = ProcessCache(64)
