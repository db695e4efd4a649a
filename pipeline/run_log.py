"""Keeps the terminal for people: what TFX, TensorFlow and Beam log goes to a file."""

from __future__ import annotations

import logging
import os
import sys
import warnings
from logging.handlers import RotatingFileHandler
from pathlib import Path

FILE = "run.log"


def divert(folder: Path, *, rotate: bool = True) -> Path:
    """Sends all logs and warnings to `run.log`; call it before TFX and TensorFlow are imported.

    Warnings of our own are shown on the terminal too.

    Args:
      folder: Of the log.
      rotate: Begin a new file when this one is large; for one of several processes that write to
        it.
    """
    # TensorFlow's C++ side writes past Python's logging and reads this once, when it is loaded.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    # Likewise gRPC, which ML Metadata brings: it tells of forks.
    os.environ.setdefault("GRPC_VERBOSITY", "ERROR")
    from absl import logging as absl_logging

    folder.mkdir(parents=True, exist_ok=True)
    # A stream runs for ever.
    most = 50_000_000 if rotate else 0
    handler = RotatingFileHandler(folder / FILE, maxBytes=most, backupCount=2)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    absl_logging.use_python_logging(quiet=True)
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(logging.INFO)
    own = logging.StreamHandler(sys.stderr)
    own.setFormatter(logging.Formatter("  %(message)s"))
    own.setLevel(logging.WARNING)
    # Stack traces are for the file: what failed is told in words by who reports it.
    own.addFilter(lambda record: record.exc_info is None)
    logging.getLogger("tfx_distill").addHandler(own)
    logging.captureWarnings(True)
    warnings.simplefilter("default")
    return folder / FILE
