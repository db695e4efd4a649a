"""What the tests of Spark need of the machine."""

from __future__ import annotations

import os

import pytest

from tfx_distill.components import spark_installation
from tfx_distill.schema.errors import EnvironmentProblem


def require() -> None:
    """Skips the test where Spark cannot run; in CI, which installs Java, that is a failure."""
    try:
        spark_installation.require()
    except EnvironmentProblem as problem:
        if "CI" in os.environ:
            raise
        # Spark is an option: who distils without it needs neither pyspark nor Java.
        pytest.skip(str(problem))
