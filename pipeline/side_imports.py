"""What the side processes need, imported once for all of them, see `side_processes`.

The process that forks them imports this module and does nothing else. What is imported here must
not start TensorFlow, which would not survive a fork: it starts its threads with its first tensor.
"""

import logging
import sys
import warnings

# The folder of a run is no place for modules; a process that is started so looks there first.
sys.path[:] = [place for place in sys.path if place]
# Each side process has its log. Without any handler, TensorFlow takes the terminal for its own.
logging.getLogger().addHandler(logging.NullHandler())
# Later Pythons warn of forks beside threads: those of OpenBLAS and of Arrow's allocator survive.
warnings.simplefilter("ignore")

import tensorflow_model_analysis  # noqa: E402, F401

import tfx_distill.components.chunk_executor  # noqa: E402
import tfx_distill.components.model_evaluator  # noqa: E402, F401
