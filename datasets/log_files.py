"""Which files hold which span and split of the logs."""

from __future__ import annotations

import glob
import hashlib
import re
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from tfx_distill.schema import columns
from tfx_distill.schema.columns import Split
from tfx_distill.schema.config import DataConfig
from tfx_distill.schema.errors import DataError


class LogFile(NamedTuple):
    """A file of the logs."""

    span: int
    split: Split
    path: Path


def files(data: DataConfig) -> list[LogFile]:
    """All files that match the pattern `data.spans`, by span, split and name.

    Raises:
      DataError: No file matches.
    """
    pattern = re.compile(_regex(data.spans))
    found = []
    for split in columns.SPLITS:
        # Spans may be padded with zeros: every number is taken, and read from the name.
        wildcard = data.spans.replace("{SPAN}", "[0-9]*").replace("{split}", split)
        for name in glob.glob(wildcard, recursive=True):
            match = pattern.fullmatch(name)
            if match and match["split"] == split:
                found.append(LogFile(int(match["span"]), split, Path(name)))
    if not found:
        raise DataError(
            data.spans,
            got=f"no file in {Path.cwd()}" if not Path(data.spans).is_absolute() else "no file",
            expected="files whose names match, with a number for {SPAN} and a split for {split}",
            fix="Correct data.spans, or bring the data first.",
        )
    return sorted(found, key=lambda file: (file.span, columns.SPLITS.index(file.split), file.path))


def available_spans(data: DataConfig) -> list[int]:
    """Numbers of the spans of which there is any file, ascending."""
    return sorted({file.span for file in files(data)})


def select_spans(data: DataConfig, requested: tuple[int, int] | None = None) -> list[int]:
    """The spans of a run: all from the first to the last one requested, or all there are.

    Args:
      data: Says where the logs are.
      requested: First and last span, both included.

    Raises:
      DataError: A span in that range has no file.
    """
    there = available_spans(data)
    first, last = requested or (there[0], there[-1])
    if first > last:
        raise DataError(
            f"spans {first}-{last}",
            got="a first span after the last one",
            expected="FIRST-LAST",
            fix="Swap the two numbers.",
        )
    for span in range(first, last + 1):
        if span not in there:
            raise DataError(
                f"span {span} of {data.spans}",
                got="no file",
                expected=f"files for every span from {first} to {last}",
                fix=f"Bring the span, or choose from those that are there: {_ranges(there)}.",
            )
    return list(range(first, last + 1))


def split_files(data: DataConfig, spans: Iterable[int]) -> dict[Split, list[LogFile]]:
    """Files of the train and eval split of a run over these spans.

    Of the last span, the train files are trained on and the eval files are evaluated; all files
    of earlier spans are trained on. So every evaluated example is later than every trained one.

    Raises:
      DataError: One of the spans lacks the files of a split.
    """
    spans = sorted(spans)
    chosen = [file for file in files(data) if file.span in set(spans)]
    for span in spans:
        for split in columns.SPLITS:
            if not any(file.span == span and file.split == split for file in chosen):
                raise DataError(
                    f"span {span} of {data.spans}",
                    got=f"no {split} file",
                    expected="train and eval files in every span",
                    fix=f"Bring the {split} files of the span, or leave the span out.",
                )
    train = [file for file in chosen if file.span < spans[-1] or file.split == "train"]
    return {"train": train, "eval": [file for file in chosen if file not in train]}


def fingerprint(data: DataConfig, spans: Iterable[int]) -> str:
    """Digest of the names, sizes and modification times of the files of these spans.

    It costs no reading, and tells a pipeline that cached results are stale.

    Returns:
      32 hexadecimal digits.
    """
    wanted = set(spans)
    root = Path(re.split(r"[{*?\[]", data.spans, maxsplit=1)[0]).parent
    digest = hashlib.sha256()
    for file in files(data):
        if file.span in wanted:
            stat = file.path.stat()
            name = file.path.relative_to(root).as_posix()
            digest.update(f"{name}\0{stat.st_size}\0{stat.st_mtime_ns}\n".encode())
    return digest.hexdigest()[:32]


def parse_spans(text: str) -> tuple[int, int]:
    """First and last span of `FIRST-LAST` or of a single number.

    Raises:
      DataError: The text is neither.
    """
    match = re.fullmatch(r"(\d+)(?:-(\d+))?", text.strip())
    if match is None:
        raise DataError(
            "spans",
            got=repr(text),
            expected="a number or FIRST-LAST",
            fix="Write for example 0-3.",
        )
    return int(match[1]), int(match[2] or match[1])


def _regex(pattern: str) -> str:
    """The glob pattern as a regular expression with the groups `span` and `split`."""
    parts = []
    seen: set[str] = set()
    for token in re.findall(r"\{SPAN\}|\{split\}|\*\*/|\*|\?|\[[^\]]*\]|.", pattern, re.DOTALL):
        if token in ("{SPAN}", "{split}"):
            name = token[1:-1].lower()
            body = r"\d+" if name == "span" else "|".join(columns.SPLITS)
            parts.append(f"(?P={name})" if name in seen else f"(?P<{name}>{body})")
            seen.add(name)
        elif token == "**/":
            parts.append("(?:[^/]+/)*")
        elif token == "*":
            parts.append("[^/]*")
        elif token == "?":
            parts.append("[^/]")
        elif len(token) > 1:
            parts.append(token.replace("[!", "[^"))
        else:
            parts.append(re.escape(token))
    return "".join(parts)


def _ranges(numbers: list[int]) -> str:
    """`0-3, 5` for [0, 1, 2, 3, 5]."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][1] + 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    return ", ".join(str(a) if a == b else f"{a}-{b}" for a, b in runs)
