"""A process that trains a model with others: `python -m tfx_distill.trainer.worker FOLDER`.

The environment variable TF_CONFIG names the workers and this one among them. FOLDER, which all of
them see, holds the course; the first worker leaves there the checkpoints and in the end the result.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import threading
from dataclasses import asdict
from pathlib import Path

from tfx_distill.schema import errors
from tfx_distill.schema.errors import DistillError
from tfx_distill.trainer import course as courses
from tfx_distill.trainer import training_state
from tfx_distill.trainer.checkpoints import Checkpoints
from tfx_distill.trainer.chunk_record import ChunkRecord
from tfx_distill.trainer.course import Course, Trained
from tfx_distill.trainer.training_state import Milestone
from tfx_distill.trainer.workers import Team

_COURSE = "course.json"
_ERROR = "error-{}.json"
_RESULT = "result"
_RECORDS = "records.json"


def assign(folder: Path, course: Course) -> None:
    """Leaves a course for the workers, and nothing of another one."""
    folder.mkdir(parents=True, exist_ok=True)
    for file in folder.glob(_ERROR.format("*")):
        file.unlink()
    shutil.rmtree(folder / _RESULT, ignore_errors=True)
    Checkpoints(folder).clear()
    (folder / _COURSE).write_text(course.to_json())


def collected(folder: Path) -> Trained | None:
    """What the workers have come to, taken out of the folder; None if they did not get there.

    Only their logs, and the course, stay.

    Raises:
      DistillError: One of them could not go on, for a reason that its user can mend.
    """
    for file in sorted(folder.glob(_ERROR.format("*"))):
        fields = json.loads(file.read_text())
        raise getattr(errors, fields.pop("kind"))(fields.pop("where"), **fields)
    if not (folder / _RESULT).exists():
        return None
    course = Course.from_json((folder / _COURSE).read_text())
    state, milestone = training_state.read(folder / _RESULT)
    facts = json.loads((folder / _RESULT / _RECORDS).read_text())
    training = course.job.begin()
    training.load(state)
    base = facts["base"]
    Checkpoints(folder).clear()
    shutil.rmtree(folder / _RESULT)
    return Trained(
        training,
        [ChunkRecord(**record) for record in facts["records"]],
        None if base is None else Milestone(**base),
        milestone,
    )


def work(folder: Path) -> None:
    """Does a worker's part of the course."""
    course = Course.from_json((folder / _COURSE).read_text())
    team = Team(course.job.device)
    try:
        trained = courses.train(course, team, Checkpoints(folder))
    except DistillError as error:
        fields = {"where": error.where, "got": error.got, "expected": error.expected}
        content = {"kind": type(error).__name__, "fix": error.fix, **fields}
        # As a whole or not at all: the launcher ends the others as soon as one has ended.
        part = folder / f"error.part-{team.number}"
        part.write_text(json.dumps(content))
        part.rename(folder / _ERROR.format(team.number))
        raise SystemExit(1) from error
    if team.number == 0:
        _leave(folder, trained)


def _leave(folder: Path, trained: Trained) -> None:
    if (folder / _RESULT).exists():  # of an attempt that was thought to have failed
        return
    part = folder / f"{_RESULT}.part"
    shutil.rmtree(part, ignore_errors=True)
    training_state.save(part, trained.training.state(), trained.milestone)
    facts = {
        "records": [asdict(record) for record in trained.records],
        "base": None if trained.base is None else asdict(trained.base),
    }
    (part / _RECORDS).write_text(json.dumps(facts))
    part.rename(folder / _RESULT)


def _end_with_the_launcher() -> None:
    """Ends this process when the other end of its standard input is gone."""

    def wait() -> None:
        # Not through sys.stdin: its lock would be held when the interpreter ends.
        while os.read(0, 1):
            pass
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


if __name__ == "__main__":
    _end_with_the_launcher()
    work(Path(sys.argv[1]))
