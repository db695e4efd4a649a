"""Loads an exported model with TensorFlow alone and answers; run as a script by the tests.

Usage: python -S serve_alone.py PACKAGES MODEL INPUT.npz OUTPUT.npz

`-S` leaves out the environment's own packages and the link to the project; PACKAGES holds
TensorFlow without TFX, Transform, Keras and Beam.
"""

import sys

sys.path.append(sys.argv[1])

import numpy as np
import tensorflow as tf

model = tf.saved_model.load(sys.argv[2])
given = np.load(sys.argv[3], allow_pickle=True)
out = {}
signature = model.signatures["serving_raw"]
_, expected = signature.structured_input_signature
raw = {
    name: tf.constant(given[f"raw/{name}"].tolist(), spec.dtype) for name, spec in expected.items()
}
for task, values in signature(**raw).items():
    out[f"raw/{task}"] = values.numpy()
examples = tf.constant(given["examples"].tolist())
for task, values in model.signatures["serving_default"](examples=examples).items():
    out[f"default/{task}"] = values.numpy()
out["variables"] = np.array([v.name for v in model.weights])
out["tasks"] = np.array(sorted(signature.structured_outputs))
np.savez(sys.argv[4], **out)
