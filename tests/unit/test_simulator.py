from __future__ import annotations

import itertools
import os
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate, stats

from tfx_distill.datasets import impressions, simulator, world
from tfx_distill.datasets.simulator import SimulatorConfig
from tfx_distill.datasets.spans import MARKER, SpanWriter
from tfx_distill.datasets.surfaces import MUSIC, SURFACES, VIDEO
from tfx_distill.schema import config as run_config
from tfx_distill.schema.errors import DataError, EnvironmentProblem

CONFIGS = Path(__file__).parents[2] / "configs"
LABELS = {"clicked", "watch_s", "satisfied", "ltv", "listen_s", "playlist_add"}


def read(folder: Path, what: str, span: int | str = "*", split: str = "*") -> pl.DataFrame:
    return pl.read_parquet(f"{folder}/{what}/span-{span}/{split}-*.parquet")


@pytest.fixture(scope="module")
def stream(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("stream")
    simulator.write(folder, SimulatorConfig(spans=2, examples_per_span=60_000, music_share=0.05))
    return folder


configs = st.builds(
    SimulatorConfig,
    seed=st.integers(0, 2**40),
    spans=st.just(2),
    examples_per_span=st.integers(1_000, 3_000),
    eval_fraction=st.floats(0.1, 0.9),
    items=st.none() | st.integers(200, 2_000),
    users=st.none() | st.integers(1, 500),
    new_item_share=st.floats(0.02, 0.5),
    click_rate=st.floats(0.02, 0.29),
)


@settings(max_examples=8, deadline=None)
@given(config=configs)
def test_every_log_is_consistent(
    config: SimulatorConfig, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("any")
    summaries = simulator.write(folder, config)
    ids = []
    for surface, consumed, satisfied in (
        ("video", "watch_s", "satisfied"),
        ("music", "listen_s", "playlist_add"),
    ):
        log = read(folder, surface)
        item = "video_id" if surface == "video" else "track_id"
        ids.append(log["impression_id"])
        assert log["clicked"].is_in([0, 1]).all()
        clicked = log["clicked"] == 1
        assert (log[consumed] > 0).eq(clicked).all()
        assert log.filter(~clicked)[satisfied].sum() == 0
        if surface == "video":
            assert log.filter(~clicked)["ltv"].sum() == 0
            assert (log["ltv"] >= 0).all()
            assert (log["video_age_h"] >= 0).all()
            assert log["video_ctr"].drop_nulls().is_between(0, 1).all()
        lists = log.group_by("request_id").agg(
            n=pl.len(),
            positions=pl.col("position").sort(),
            items=pl.col(item).n_unique(),
            users=pl.col("user_id").n_unique(),
            times=pl.col("timestamp").n_unique(),
            rows=pl.col("impression_id").max() - pl.col("impression_id").min() + 1,
        )
        assert lists["n"].is_between(10, 20).all()
        assert (lists["items"] == lists["n"]).all()
        assert (lists["rows"] == lists["n"]).all()
        assert (lists["users"] == 1).all()
        assert (lists["times"] == 1).all()
        assert lists["positions"].to_list() == [list(range(1, n + 1)) for n in lists["n"]]
        assert (log["timestamp"] % 86_400 // 3600 == log["hour"]).all()

        for span in range(2):
            train, evals = (read(folder, surface, span, split) for split in ("train", "eval"))
            assert train["timestamp"].is_sorted()
            assert evals["timestamp"].is_sorted()
            assert train["timestamp"].max() < evals["timestamp"].min()
            day = evals["timestamp"] // 86_400
            assert day.n_unique() == 1
            assert day[0] == train["timestamp"][0] // 86_400 == 19_723 + span
            rows = [
                (s.train_rows, s.eval_rows)
                for s in summaries
                if (s.surface, s.span) == (surface, span)
            ]
            assert rows == [(len(train), len(evals))]
        truth = read(folder, f"truth/{surface}")
        assert truth["impression_id"].to_list() == log["impression_id"].to_list()
        for probability in truth.select(pl.selectors.contains("probability")):
            assert probability.is_between(0, 1).all()
    assert pl.concat(ids).is_unique().all()


def test_the_files_do_not_depend_on_the_chunks_they_are_written_in(tmp_path: Path) -> None:
    whole = SimulatorConfig(spans=1, examples_per_span=3_000)
    parts = whole.model_copy(update={"shard_rows": 1_000})
    other = whole.model_copy(update={"seed": 1})
    for name, config in (("whole", whole), ("again", whole), ("parts", parts), ("other", other)):
        simulator.write(tmp_path / name, config)
    for what in ("video", "music", "truth/video", "truth/music"):
        expected = read(tmp_path / "whole", what)
        assert read(tmp_path / "again", what).equals(expected)
        assert read(tmp_path / "parts", what).equals(expected)
        assert not read(tmp_path / "other", what).equals(expected)
    shards = sorted((tmp_path / "parts/video/span-0").glob("train-*.parquet"))
    rows = [pq.read_metadata(shard).num_rows for shard in shards]
    assert [shard.name for shard in shards] == [f"train-0000{k}.parquet" for k in range(len(rows))]
    assert len(rows) > 1
    assert set(rows[:-1]) == {1_000}
    assert 0 < rows[-1] <= 1_000
    a, b = tmp_path / "whole/video/span-0", tmp_path / "again/video/span-0"
    assert (a / "eval-00000.parquet").read_bytes() == (b / "eval-00000.parquet").read_bytes()


def test_any_span_can_be_written_alone_and_a_longer_stream_begins_the_same(tmp_path: Path) -> None:
    config = SimulatorConfig(spans=3, examples_per_span=2_000)
    simulator.write(tmp_path / "all", config)
    for surface in SURFACES:
        simulator.write_span(
            tmp_path / "one", config.model_copy(update={"spans": 1}), surface, span=2
        )
        for what in (surface.name, f"truth/{surface.name}"):
            assert read(tmp_path / "one", what, 2).equals(read(tmp_path / "all", what, 2))


def test_blocks_of_one_hour_do_not_overlap(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(simulator, "_BLOCK_REQUESTS", 3)
    simulator.write(tmp_path, SimulatorConfig(spans=1, examples_per_span=2_000))
    log = read(tmp_path, "video", 0)
    # The shards come back in the order eval, train.
    assert log.sort("impression_id")["timestamp"].is_sorted()
    assert log["impression_id"].is_unique().all()
    assert (log["video_age_h"] >= 0).all()


@pytest.mark.parametrize(("click_rate", "satisfaction_rate"), [(0.05, 0.3), (0.25, 0.05)])
def test_rates_are_those_of_the_config(
    tmp_path: Path, click_rate: float, satisfaction_rate: float
) -> None:
    config = SimulatorConfig(
        spans=1,
        examples_per_span=60_000,
        click_rate=click_rate,
        satisfaction_rate=satisfaction_rate,
        music_share=0.1,
        eval_fraction=0.3,
    )
    video, music = simulator.write(tmp_path, config)
    log = read(tmp_path, "video")
    assert len(log) == pytest.approx(60_000, rel=0.01)
    assert music.train_rows + music.eval_rows == pytest.approx(6_000, rel=0.03)
    assert video.eval_rows / len(log) == pytest.approx(0.3, abs=0.01)
    assert log["clicked"].mean() == pytest.approx(click_rate, rel=0.05)
    answers = log.filter(pl.col("clicked") == 1)["satisfied"]
    assert answers.mean() == pytest.approx(satisfaction_rate, rel=0.2)


def test_missing_values_and_new_items_have_their_shares(stream: Path) -> None:
    log = read(stream, "video")
    empty = {name: log[name].is_null().mean() for name in log.columns}
    assert empty["device"] == pytest.approx(0.01, abs=0.005)
    # By user and by item, and popular ones weigh more: wide bounds.
    for name, share in {
        "country": 0.03,
        "taste_0": 0.06,
        "content_0": 0.05,
        "topics": 0.08,
    }.items():
        assert share / 6 < empty[name] < share * 4
    assert not any(empty[name] for name in ("user_id", "video_id", "position", "views", *LABELS)
                   if name in empty)  # fmt: skip
    shown = log.unique("video_id")
    assert 0.05 < shown["new_item"].mean() < 0.15  # two cohorts of twenty
    assert set(log["new_item"]) == {0, 1}


def test_a_twentieth_of_the_catalogue_is_born_and_retired_each_span() -> None:
    before, after = (world.items(0, VIDEO, 1_000, 20, span) for span in (7, 8))
    assert len(np.setdiff1d(after.ids, before.ids)) == 50
    assert len(np.setdiff1d(before.ids, after.ids)) == 50
    both = np.intersect1d(before.ids, after.ids)
    for name in ("latent", "quality", "content", "base"):
        np.testing.assert_array_equal(
            getattr(before, name)[np.isin(before.ids, both)],
            getattr(after, name)[np.isin(after.ids, both)],
        )
    # Midnight is the end of one span and the start of the next.
    kept = np.isin(before.ids, both), np.isin(after.ids, both)
    np.testing.assert_allclose(before.age_h(24)[kept[0]], after.age_h(0)[kept[1]], atol=1e-3)
    np.testing.assert_allclose(
        before.views(24)[kept[0]], after.views(0)[kept[1]], rtol=1e-3, atol=1
    )
    unborn = before.age_h(12) < 0
    assert 0 < unborn.sum() < 50
    assert not before.popularity(12)[unborn].any()
    assert before.popularity(12)[~unborn].all()


def test_views_are_the_integral_of_popularity() -> None:
    items = world.items(3, VIDEO, 400, 20, 0)
    hours = np.linspace(0, 24, 2_001)
    popularity = np.stack([items.popularity(hour) for hour in hours]).astype(np.float64)
    alive = items.born_h <= 0
    gained = integrate.trapezoid(popularity, hours, axis=0)
    # Zipf's base has mean 1 / (1 - 0.8) = 5, and an average item gains 1,000 views a day at birth.
    expected = gained / 5 * 1_000 / 24 * items.view_noise
    views = items.views(24) - items.views(0)
    np.testing.assert_allclose(views[alive], expected[alive], rtol=0.01, atol=2)


def test_tastes_drift_like_an_ornstein_uhlenbeck_process() -> None:
    start = world.users(5, 40_000, 0, 1.0)
    for lag in (1, 10, 60):
        later = world.users(5, 40_000, lag, 1.0)
        products = (start.interest * later.interest).ravel()
        error = products.std() / np.sqrt(len(products))
        assert abs(products.mean() - np.exp(-lag / 30)) < 4 * error
        assert later.interest.std() == pytest.approx(1, abs=0.01)
        np.testing.assert_array_equal(start.second_interest, later.second_interest)
    # The older ranker believes what was true three spans ago; the log, what was true yesterday.
    third = world.users(5, 40_000, 3, 1.0)
    np.testing.assert_array_equal(third.stale_interest, start.interest)
    fourth = world.users(5, 40_000, 4, 1.0)
    assert (fourth.profile - third.interest).std() == pytest.approx(0.4, abs=0.01)


def test_the_truth_is_what_labels_are_drawn_from(stream: Path) -> None:
    log = read(stream, "video").join(read(stream, "truth/video"), on="impression_id")
    clicks = log.filter(pl.col("clicked") == 1)

    def check(observed: pl.Series, expected: pl.Series) -> None:
        gap = (observed - expected).to_numpy().astype(np.float64)
        assert abs(gap.mean()) < 4 * gap.std() / np.sqrt(len(gap))

    for rows, label, expected in (
        (log, "clicked", "click_probability"),
        (clicks, "satisfied", "satisfaction_probability"),
        (clicks, "watch_s", "expected_watch_s"),
        (log, "ltv", "expected_ltv"),
    ):
        for part in rows.sort(expected).iter_slices(len(rows) // 5 + 1):
            check(part[label], part[expected])
    # Watch time is log-normal around its expectation, with the sigma of the ADR.
    residual = (clicks["watch_s"] / clicks["expected_watch_s"]).log().to_numpy()
    assert stats.kstest(residual, stats.norm(-(0.9**2) / 2, 0.9).cdf).pvalue > 1e-4


def test_lists_are_selected_and_examined_from_the_top(stream: Path) -> None:
    log = read(stream, "video").join(read(stream, "truth/video"), on="impression_id")
    # Probability = examination * relevance, examination = 1 / sqrt(position).
    relevance = log["click_probability"] * log["position"].cast(pl.Float64).sqrt()
    assert relevance.max() <= 1.0 + 1e-6
    assert stats.spearmanr(log["position"], relevance).statistic < -0.1
    by_position = log.group_by("position").agg(pl.col("clicked").mean()).sort("position")
    assert by_position["clicked"][0] > 2 * by_position["clicked"][9]


def test_no_model_can_read_the_truth(stream: Path) -> None:
    run = run_config.load(CONFIGS / "video.yaml")
    pattern = run.data.spans.removeprefix("data/")
    assert pattern != run.data.spans
    files = sorted(stream.glob(pattern.replace("{SPAN}", "*").replace("{split}", "*")))
    assert len(files) == 4
    assert not any("truth" in file.parts for file in files)
    assert {file.parent.parent for file in files} == {stream / "video"}

    held = set().union(*(pq.read_schema(file).names for file in files))
    assert set(run.raw_columns) <= held
    for surface in SURFACES:
        logged = set(read(stream, surface.name).columns)
        truth = set(read(stream, f"truth/{surface.name}").columns)
        assert logged & truth == {"impression_id"}
        assert set(run.raw_columns) & truth == {"impression_id"}

    # Nor does a logged column hold the truth, or a label, under another name.
    log = read(stream, "video").join(read(stream, "truth/video"), on="impression_id")
    features = [f.name for f in run.features.numeric]
    hidden = [*VIDEO.truth, *(LABELS & set(log.columns))]
    for feature, secret in itertools.product(features, set(hidden) - {"impression_id"}):
        both = log.select(feature, secret).drop_nulls()
        assert abs(stats.spearmanr(both[feature], both[secret]).statistic) < 0.9, (feature, secret)


def test_music_shares_users_and_lacks_two_fifths_of_the_features(stream: Path) -> None:
    features = set(run_config.load(CONFIGS / "video.yaml").features.names)
    assert features <= set(VIDEO.log)
    assert len(features - set(MUSIC.log)) / len(features) == pytest.approx(0.4, abs=0.02)
    assert LABELS & set(MUSIC.log) == {"clicked", "listen_s", "playlist_add"}
    shared = ["user_id", "country", "user_tenure_d", *(f"taste_{k}" for k in range(6))]
    video, music = (read(stream, name, 1).select(shared).unique() for name in ("video", "music"))
    assert len(video) == video["user_id"].n_unique()
    both = music.join(video, on="user_id", suffix="_video")
    assert len(both) > 0.7 * len(music)
    for name in shared[1:]:
        assert both[name].equals(both[f"{name}_video"].alias(name), null_equal=True)
    assert not set(read(stream, "video")["video_id"]) & set(read(stream, "music")["track_id"])


def test_a_run_that_was_cut_off_is_continued(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = SimulatorConfig(spans=2, examples_per_span=1_000)
    simulator.write(tmp_path / "whole", config)
    block, calls = impressions.block, itertools.count()

    def dies(*args: object, **kwargs: object) -> object:
        if next(calls) == 60:  # In the second span's video: 24 blocks a surface.
            raise KeyboardInterrupt
        return block(*args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(impressions, "block", dies)
    with pytest.raises(KeyboardInterrupt):
        simulator.write(tmp_path / "cut", config)
    assert {p.name for p in (tmp_path / "cut/video/span-0").iterdir()} == {
        MARKER, "train-00000.parquet", "eval-00000.parquet"
    }  # fmt: skip
    assert list((tmp_path / "cut/video/span-1").iterdir()) == []
    # What a crash without any clean-up would have left:
    (tmp_path / "cut/video/span-1/train-00007.parquet").write_bytes(b"half")
    (tmp_path / "cut/video/span-1/.eval-00000.parquet.tmp").write_bytes(b"half")
    before = os.stat(tmp_path / "cut/video/span-0/train-00000.parquet").st_mtime_ns

    monkeypatch.setattr(impressions, "block", block)
    seen: list[tuple[int, int]] = []
    summaries = simulator.write(tmp_path / "cut", config, lambda *step: seen.append(step))
    assert [s.reused for s in summaries] == [True, True, False, False]
    assert os.stat(tmp_path / "cut/video/span-0/train-00000.parquet").st_mtime_ns == before
    for what in ("video", "music", "truth/video", "truth/music"):
        assert read(tmp_path / "cut", what).equals(read(tmp_path / "whole", what))
    assert {p.name for p in (tmp_path / "cut/video/span-1").iterdir()} == {
        MARKER, "train-00000.parquet", "eval-00000.parquet"
    }  # fmt: skip
    done = [step[0] for step in seen]
    assert done == sorted(done)
    assert done[-1] == sum(s.train_rows + s.eval_rows for s in summaries)
    assert all(a <= b for a, b in seen)


def test_a_folder_holds_one_stream(tmp_path: Path) -> None:
    config = SimulatorConfig(spans=1, examples_per_span=1_000)
    simulator.write(tmp_path, config)
    simulator.write(tmp_path, config.model_copy(update={"spans": 2, "shard_rows": 10_000}))
    with pytest.raises(DataError, match=r"span-0: got a span simulated with seed=0; .*another"):
        simulator.write(tmp_path, config.model_copy(update={"seed": 9}))


def test_a_folder_that_cannot_be_written_to_is_named(tmp_path: Path) -> None:
    (tmp_path / "video").write_text("a file in the way")
    with pytest.raises(EnvironmentProblem, match=r"video/span-0.*(directory|exists)"):
        simulator.write(tmp_path, SimulatorConfig(spans=1, examples_per_span=1_000))


def test_a_failed_span_leaves_nothing_to_read(tmp_path: Path) -> None:
    table = pa.table({"x": [1, 2, 3]})
    writer = SpanWriter(tmp_path, table.schema, shard_rows=2)

    def fail() -> None:
        with writer:
            writer.write("train", table)
            assert [p.name for p in tmp_path.iterdir()] == [".train-00000.parquet.tmp"]
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert list(tmp_path.iterdir()) == []


def test_the_default_stream_is_large_enough_and_eval_is_the_tail_of_the_day() -> None:
    config = SimulatorConfig()
    share = 1 - config.eval_fraction
    assert config.spans * config.examples_per_span * share * 0.99 > 200_000
    # The hourly traffic 1 + 0.6 cos((h - 20) pi / 12) sums to 24 over a day.
    curve = 1 + 0.6 * np.cos((np.arange(24) - 20) * np.pi / 12)
    cut = simulator.eval_starts_at(config) / 3600
    hour = int(cut)
    before = curve[:hour].sum() + (cut - hour) * curve[hour]
    assert before / 24 == pytest.approx(share, abs=1e-4)
