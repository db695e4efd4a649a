"""A SparkSession from the config: started with clear errors, stopped at the end.

The Java process stays until this one ends, so that only the first session of a process pays for
its start.
"""

from __future__ import annotations

import logging
import os
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tfx_distill.components import spark_installation
from tfx_distill.schema.config import SparkConfig
from tfx_distill.schema.errors import EnvironmentProblem

DEFAULTS = {
    "spark.app.name": "tfx-distill",
    "spark.ui.enabled": "false",
    "spark.ui.showConsoleProgress": "false",
    # Read by TensorFlow when a worker imports it: only errors of its C++ side.
    "spark.executorEnv.TF_CPP_MIN_LOG_LEVEL": "2",
}
REACHABLE_SECONDS = 10.0
"""Spark itself would try for a minute to reach a standalone master."""

_log = logging.getLogger(__name__)


@contextmanager
def session(config: SparkConfig) -> Iterator[Any]:
    """A `pyspark.sql.SparkSession` for as long as the `with` block lasts.

    Raises:
      EnvironmentProblem: Spark or Java is missing, or the master cannot be reached.
    """
    spark_installation.require()
    _require_reachable(config.master)
    spark = _start(config)
    try:
        yield spark
    finally:
        spark.stop()


def _require_reachable(master: str) -> None:
    """Raises where no host of a standalone master answers at all."""
    if not master.startswith("spark://"):
        return
    reasons = []
    for address in master.removeprefix("spark://").split(","):
        host, _, port = address.rpartition(":")
        try:
            socket.create_connection((host, int(port)), timeout=REACHABLE_SECONDS).close()
        except (OSError, ValueError) as error:
            reasons.append(f"{address}: {error}")
        else:
            return
    raise EnvironmentProblem(
        f"spark.master {master}",
        got=f"no answer ({'; '.join(reasons)})",
        expected="a Spark master, as spark://HOST:PORT",
        fix="Start the master, or correct the address; its log and its web page name it.",
    )


def _start(config: SparkConfig) -> Any:
    from py4j.protocol import Py4JError
    from pyspark import SparkConf, SparkContext
    from pyspark.errors import PySparkException
    from pyspark.sql import SparkSession

    options = DEFAULTS | config.options
    python = options.get("spark.pyspark.python") or os.environ.get("PYSPARK_PYTHON")
    os.environ["PYSPARK_PYTHON"] = python or sys.executable
    settings = SparkConf(loadDefaults=False).setMaster(config.master).setAll(list(options.items()))
    before = signal.getsignal(signal.SIGINT)
    try:
        if SparkContext._gateway is None:
            _launch(settings)
        return SparkSession(SparkContext(conf=settings))
    except (Py4JError, PySparkException, OSError) as error:
        raise EnvironmentProblem(
            f"spark.master {config.master}",
            got=f"no session: {reason(error)}",
            expected="a Spark cluster that takes this application",
            fix="Look for the reason in the log of this run and in that of the master. The "
            "versions of Spark must agree on both sides.",
        ) from error
    finally:
        # Spark takes the signal for itself; a run means something else by it.
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGINT, before)


def _launch(settings: Any) -> None:
    """Starts Java; what it and Spark write goes to our log instead of the terminal."""
    from pyspark import SparkContext
    from pyspark.java_gateway import launch_gateway

    gateway = launch_gateway(
        settings, popen_kwargs={"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    )
    SparkContext._ensure_initialized(gateway=gateway)
    threading.Thread(target=_to_log, args=[gateway.proc.stdout], daemon=True).start()


def _to_log(stream: Any) -> None:
    for line in stream:
        _log.info("%s", line.decode(errors="replace").rstrip())


def reason(error: BaseException) -> str:
    """The first line that says something, of an error that is mostly Java's stack trace."""
    lines = [line.strip() for line in str(error).splitlines()]
    said = [re.sub(r"^:?\s*(Caused by: )?", "", line) for line in lines]
    for line in said:
        if line and not line.startswith(("An error occurred while calling", "at ", "JVM")):
            return line[:500]
    return type(error).__name__
