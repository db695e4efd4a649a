"""The partition of the label table that one labelling of one split fills."""

from __future__ import annotations

import re
from dataclasses import dataclass

from tfx_distill.schema.columns import Split
from tfx_distill.schema.errors import LabelError

TEACHER = "teacher"
SPAN = "span"
SPLIT = "split"
COLUMNS = (TEACHER, SPAN, SPLIT)
"""Partition columns, in the order of the folders: string, int64, string."""

_SAFE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*")


@dataclass(frozen=True)
class Partition:
    """Labels of one teacher for one split of one span.

    Raises:
      LabelError: The teacher's name cannot be part of a path.
    """

    teacher: str
    span: int
    split: Split

    def __post_init__(self) -> None:
        require_path_safe(self.teacher, "teacher")

    @property
    def folder(self) -> str:
        """Folder within the table, as Hive names it."""
        return f"{TEACHER}={self.teacher}/{SPAN}={self.span}/{SPLIT}={self.split}"

    @property
    def values(self) -> dict[str, str | None]:
        """Value of each partition column, as the Delta log spells it."""
        return {TEACHER: self.teacher, SPAN: str(self.span), SPLIT: self.split}

    def __str__(self) -> str:
        return f"teacher {self.teacher}, span {self.span}, split {self.split}"


def require_path_safe(name: str, what: str) -> None:
    """Refuses names that readers of the Delta log would have to escape in paths.

    Raises:
      LabelError: `name` holds anything but letters, digits, `.`, `_` and `-`, or is hidden.
    """
    if not _SAFE.fullmatch(name):
        raise LabelError(
            f"{what} {name!r}",
            got="a name that is not safe in a path",
            expected="letters, digits, '.', '_' and '-', not starting with '.' or '-'",
            fix=f"Rename the {what}.",
        )
