"""The fenced blocks of the documentation, and what the tests do with each; see docs/README.md."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

REPOSITORY = Path(__file__).resolve().parents[1]
PAGES = [REPOSITORY / "README.md", *sorted((REPOSITORY / "docs").glob("*.md"))]

Treatment = Literal[
    "run", "run to failure", "serve", "leave out", "save", "check as config", "compare", "ignore"
]

NOT_HERE = ("make", "docker", "kubectl")
"""First words of the commands that may be left out: they build environments or need a cluster."""


@dataclass(frozen=True)
class Block:
    """A fenced block: ```` ```language note ````, whose fence is at `line`."""

    page: Path
    line: int
    language: str
    note: str
    content: str

    def __str__(self) -> str:
        return f"{self.page.relative_to(REPOSITORY)}:{self.line}"

    @property
    def treatment(self) -> Treatment:
        """What the tests do with the block.

        Raises:
          ValueError: Nothing is known to be done with it.
        """
        if self.language in ("bash", "python") and self.note.startswith("no-run"):
            self._require_reason()
            return "leave out"
        if self.language == "yaml" and self.note:
            return "save"
        if self.language == "mermaid":
            return "ignore"
        if self.language == "text":
            return "ignore" if self.note.startswith("from ") else "compare"
        known: dict[tuple[str, str], Treatment] = {
            ("bash", ""): "run",
            ("bash", "fails"): "run to failure",
            ("bash", "server"): "serve",
            ("python", ""): "run",
            ("yaml", ""): "check as config",
        }
        if (self.language, self.note) not in known:
            raise ValueError(
                f"{self}: no test would look at a block marked {self.language!r} {self.note!r}; "
                "docs/README.md says how to mark it"
            )
        return known[self.language, self.note]

    def _require_reason(self) -> None:
        if not re.fullmatch(r"no-run: \S.{5,}", self.note):
            raise ValueError(f"{self}: write 'no-run: ' and the reason why it is not run")
        if self.language == "python":
            imported = re.findall(r"^(?:import|from) (\w+)", self.content, re.MULTILINE)
            if all(importlib.util.find_spec(name) for name in imported):
                raise ValueError(f"{self}: all its modules are installed, so it can be run")
            return
        for line in self.content.replace("\\\n", " ").splitlines():
            if line.strip() and line.split()[0] not in NOT_HERE:
                raise ValueError(f"{self}: only commands of {NOT_HERE} may be left out")


def blocks(page: Path) -> Iterator[Block]:
    """The blocks of a page, in order.

    Raises:
      ValueError: A fence is indented, has no language, or is not closed.
    """
    start = 0
    info = ""
    held: list[str] = []
    for number, line in enumerate(page.read_text().splitlines(), 1):
        if start and line == "```":
            language, _, note = info.partition(" ")
            yield Block(page, start, language, note.strip(), "\n".join(held) + "\n")
            start = 0
        elif start:
            held.append(line)
        elif line.lstrip().startswith(("```", "~~~")):
            match = re.fullmatch(r"```(\w.*)", line)
            if match is None:
                raise ValueError(f"{page}:{number}: a fence starts with ```language at the margin")
            start, info, held = number, match[1], []
    if start:
        raise ValueError(f"{page}:{start}: the block is not closed")


def prose(page: Path) -> str:
    """The text of a page without its blocks."""
    return re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)
