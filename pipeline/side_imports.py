"""What the side processes need, imported once for all of them, see `side_processes`.

The process that forks them imports this module and does nothing else. What is imported here must
not start TensorFlow, which would not survive a fork: it starts its threads with its first tensor.
"""

import logging
import os
import sys
import warnings

# The folder of a run is no place for modules; a process that is started so looks there first.
sys.path[:] = [place for place in sys.path if place]
# Each side process has its log. Without any handler, TensorFlow takes the terminal for its own.
logging.getLogger().addHandler(logging.NullHandler())
# Later Pythons warn of forks beside threads: those of OpenBLAS and of Arrow's allocator survive.
warnings.simplefilter("ignore")
# Of what TensorFlow's C++ side says as it is loaded, some releases let nothing be turned off.
_terminal, _nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
os.dup2(_nowhere, 2)
try:
    import tensorflow_model_analysis  # noqa: F401

    import tfx_distill.components.chunk_executor
    import tfx_distill.components.model_evaluator  # noqa: F401
finally:
    os.dup2(_terminal, 2)
    os.close(_terminal)
    os.close(_nowhere)
