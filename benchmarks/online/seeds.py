"""The work of one seed, kept in a folder: stream, teachers and students are each made once."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.online.following import Followed, follow
from benchmarks.online.plan import STATIC_POLICIES, Arm, Setting, Teacher
from benchmarks.online.stream import Stream
from benchmarks.online.teaching import Taught, teach, teach_static


class Seed:
    """Teachers and students of one stream, made when they are asked for.

    Args:
      setting: What stream.
      number: Of the seed.
      folder: Where everything is kept, also for other experiments on the same setting.
    """

    def __init__(self, setting: Setting, number: int, folder: Path) -> None:
        self.number = number
        self._folder = folder / f"seed-{number}"
        # MovieLens has one log, in one place; its seeds differ by the first weights and the order.
        shared = folder / "stream" if setting.data == "movielens" else self._folder / "stream"
        self.stream = Stream(setting, number, shared)
        self._taught: tuple[str, Taught] | None = None

    def taught(self, teacher: Teacher, *, static: bool = False) -> Taught:
        """What a teacher left; the last one stays in memory."""
        name = _digest({"teacher": teacher.key(), "static": static})
        if self._taught is None or self._taught[0] != name:
            file = self._folder / f"teacher-{name}.npz"
            if not file.exists():
                self._folder.mkdir(parents=True, exist_ok=True)
                (teach_static if static else teach)(self.stream, teacher).save(file)
            self._taught = name, Taught.read(file)
        return self._taught[1]

    def followed(self, arm: Arm) -> Followed:
        """How an arm did."""
        file = self._folder / f"arm-{_digest(arm.key())}.json"
        if not file.exists():
            taught = (
                self.taught(arm.teacher, static=arm.policy in STATIC_POLICIES)
                if arm.modes
                else None
            )
            found = follow(self.stream, arm, taught)
            self._folder.mkdir(parents=True, exist_ok=True)
            partial = file.with_suffix(".partial")
            partial.write_text(json.dumps({"arm": arm.key()} | asdict(found)))
            partial.replace(file)
        kept = json.loads(file.read_text())
        return Followed(kept["metrics"], kept["train_seconds"])


def open_folder(folder: Path, setting: Setting) -> None:
    """Claims a folder for results of a setting.

    Raises:
      SystemExit: It holds those of another.
    """
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "setting.json"
    if file.exists() and file.read_text() != setting.to_json():
        raise SystemExit(f"{folder} holds results of another setting: give another --shared.")
    file.write_text(setting.to_json())


def _digest(content: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:12]
