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
from tfx_distill.schema.errors import ConfigError, DataError


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
                fix=f"Bring the span, or choose from those that are there: {ranges(there)}.",
            )
    return list(range(first, last + 1))


def complete_spans(data: DataConfig, success_file: str | None) -> list[int]:
    """Numbers of the spans that can be processed, ascending.

    A complete span has train and eval files, and each folder that holds one of them also holds
    `success_file`, which is written after them. Looks at names only.

    Args:
      data: Says where the logs are.
      success_file: Name of the file; None takes a span as soon as it has files of both splits.

    Raises:
      ConfigError: Several spans share a folder, so that a file in it cannot speak for one of them.
      DataError: There is no file at all.
    """
    if success_file is not None and "{SPAN}" not in data.spans.rpartition("/")[0]:
        raise ConfigError(
            "stream.success_file",
            got=f"{success_file!r} with data.spans: {data.spans}",
            expected="a folder for each span, that is {SPAN} before the last '/' of data.spans",
            fix="Give each span a folder, or set `stream.success_file: null` to take a span as "
            "soon as it has files.",
        )
    splits: dict[int, set[Split]] = {}
    folders: dict[int, set[Path]] = {}
    for file in files(data):
        splits.setdefault(file.span, set()).add(file.split)
        folders.setdefault(file.span, set()).add(file.path.parent)
    return [
        span
        for span in sorted(splits)
        if len(splits[span]) == len(columns.SPLITS)
        and (
            success_file is None
            or all((folder / success_file).exists() for folder in folders[span])
        )
    ]


def split_files(
    data: DataConfig, spans: Iterable[int], carried: int | None = None
) -> dict[Split, list[LogFile]]:
    """Files of the train and eval split of a run over these spans.

    Of the last span, the train files are trained on and the eval files are evaluated; all files
    of earlier spans are trained on. So every evaluated example is later than every trained one.

    Args:
      data: Says where the logs are.
      spans: Numbers of the spans.
      carried: An earlier span whose eval files are trained on before all others: on a stream, the
        span before, whose train files have been trained on already.

    Raises:
      DataError: One of the spans lacks the files of a split.
    """
    spans = sorted(spans)
    wanted = _parts(spans, carried)
    chosen = [file for file in files(data) if (file.span, file.split) in wanted]
    missing = wanted - {(file.span, file.split) for file in chosen}
    if missing:
        span, split = min(missing)
        raise DataError(
            f"span {span} of {data.spans}",
            got=f"no {split} file",
            expected="train and eval files in every span",
            fix=f"Bring the {split} files of the span, or leave the span out.",
        )
    evaluated = (spans[-1], "eval")
    return {
        "train": [file for file in chosen if (file.span, file.split) != evaluated],
        "eval": [file for file in chosen if (file.span, file.split) == evaluated],
    }


def fingerprint(data: DataConfig, spans: Iterable[int], carried: int | None = None) -> str:
    """Digest of the names, sizes and modification times of the files that `split_files` chooses.

    It costs no reading, and tells a pipeline that cached results are stale.

    Returns:
      32 hexadecimal digits.
    """
    wanted = _parts(spans, carried)
    root = Path(re.split(r"[{*?\[]", data.spans, maxsplit=1)[0]).parent
    digest = hashlib.sha256()
    for file in files(data):
        if (file.span, file.split) in wanted:
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


def _parts(spans: Iterable[int], carried: int | None) -> set[tuple[int, Split]]:
    """The splits of these spans, and the eval split of the span that is carried over."""
    parts = {(span, split) for span in spans for split in columns.SPLITS}
    return parts if carried is None else parts | {(carried, "eval")}


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


def ranges(numbers: list[int]) -> str:
    """`0-3, 5` for [0, 1, 2, 3, 5]."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][1] + 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    return ", ".join(str(a) if a == b else f"{a}-{b}" for a, b in runs)
