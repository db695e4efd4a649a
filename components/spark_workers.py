"""Workers that train one model, as the tasks of a Spark job in barrier mode: one on each executor.

Spark starts all of them or none, and tries the whole stage again when one fails: the workers then
go on from the last checkpoint.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from tfx_distill.components import spark_session
from tfx_distill.schema.config import SparkConfig
from tfx_distill.schema.errors import EnvironmentProblem
from tfx_distill.trainer import worker
from tfx_distill.trainer.course import Course, Trained

WAIT = {
    "spark.scheduler.barrier.maxConcurrentTasksCheck.interval": "2s",
    "spark.scheduler.barrier.maxConcurrentTasksCheck.maxFailures": "60",
}
"""How long Spark waits for as many cores as there are workers: two minutes instead of ten."""


_CHECK_SECONDS = 0.5


def train(config: SparkConfig, course: Course, folder: Path) -> Trained:
    """Trains by `trainer.workers` tasks.

    Args:
      config: Where Spark is.
      course: What to train.
      folder: For checkpoints and the workers' logs; all machines see it under this path.

    Raises:
      DistillError: As `course.train`.
      EnvironmentProblem: Spark cannot be used, or the workers failed again and again.
    """
    count = course.job.workers
    worker.assign(folder, course)
    patient = config.model_copy(update={"options": WAIT | config.options})
    with spark_session.session(patient) as spark:
        from py4j.protocol import Py4JError

        stage = spark.sparkContext.parallelize(range(count), count).barrier()
        try:
            stage.mapPartitions(_task(str(folder.absolute()), worker.__name__)).collect()
        except Py4JError as error:
            raise EnvironmentProblem(
                f"training of {course.job.title} by {count} workers on Spark at {config.master}",
                got=spark_session.reason(error),
                expected="workers that train to the end",
                fix=f"Spark needs {count} free cores at the same time; otherwise see "
                f"{folder}/worker-*.log and the logs of the executors. Then run again.",
            ) from error
    trained = worker.collected(folder)
    if trained is None:
        raise RuntimeError(f"no result of the workers in {folder}")
    return trained


def _task(folder: str, module: str) -> Callable[[Iterator[int]], Iterator[int]]:
    """A worker on the machine of an executor, in a process of its own.

    Spark's Python processes are used again, and TensorFlow must meet its team before anything else.
    """

    def run(numbers: Iterator[int]) -> Iterator[int]:
        from pyspark import BarrierTaskContext

        (number,) = numbers
        context: Any = BarrierTaskContext.get()
        host = context.getTaskInfos()[number].address.rpartition(":")[0]
        with socket.socket() as free:
            free.bind(("", 0))
            port = free.getsockname()[1]
        addresses = context.allGather(f"{host}:{port}")
        cluster = {"cluster": {"worker": addresses}, "task": {"type": "worker", "index": number}}
        # A pipe as standard input: the process ends when Spark ends this one.
        with (
            open(f"{folder}/worker-{number}.log", "a") as log,
            subprocess.Popen(
                [sys.executable, "-m", module, folder],
                env=os.environ | {"TF_CONFIG": json.dumps(cluster)},
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=log,
            ) as process,
        ):
            while (status := process.poll()) is None:
                time.sleep(_CHECK_SECONDS)
                if list(Path(folder).glob("error-*.json")):
                    # Another one cannot go on, and this one would wait for it for ever.
                    process.kill()
        # A reason that a user can mend lies in the folder; trying again would not mend it.
        if status and not list(Path(folder).glob("error-*.json")):
            raise RuntimeError(f"worker {number} ended with status {status}")
        yield status

    return run
