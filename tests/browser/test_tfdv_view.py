"""Facets on our page: TFDV's protos, opened from a file, without a network, in Chromium."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
import tensorflow_data_validation as tfdv
from playwright.sync_api import Page, expect

from tfx_distill.pipeline.report import tfdv_view
from tfx_distill.pipeline.report.tfdv_view import Overlay
from tfx_distill.schema.errors import DataError

Open = Callable[[Path], Page]
Audit = Callable[..., None]
Shot = Callable[[Page], None]
MANY = "span 8: train"


def few(rows: int, shift: float) -> pd.DataFrame:
    """A number and a text."""
    return pd.DataFrame(
        {
            "views": [shift + i % 10 for i in range(rows)],
            "device": [["phone", "tv", "desktop"][i % 3] for i in range(rows)],
        }
    )


def many() -> pd.DataFrame:
    """More numbers than a window shows, with some values missing; a text of many values."""
    numbers = {
        f"taste_{n:02}": [None if i % 5 == 0 else i + n for i in range(60)] for n in range(30)
    }
    return pd.DataFrame({**numbers, "video": [f"video {i}" for i in range(60)]})


def statistics(folder: Path, data: pd.DataFrame) -> Path:
    """Statistics of a split, as StatisticsGen leaves them."""
    folder.mkdir(parents=True)
    found = tfdv.generate_statistics_from_dataframe(data, n_jobs=1)
    (folder / "FeatureStats.pb").write_bytes(found.SerializeToString())
    return folder


@pytest.fixture(scope="module")
def splits(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("statistics")
    data = {
        "train": few(600, 0.0),
        "eval": few(120, 0.0),
        "before": few(300, 40.0),
        "many": many(),
    }
    return {name: statistics(root / name, values) for name, values in data.items()}


@pytest.fixture(scope="module")
def site(splits: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("site")
    overlays = [
        Overlay("span 7: train and eval", {k: splits[k] for k in ("train", "eval")}),
        Overlay("train: spans 7 and 6", {"7": splits["train"], "6": splits["before"]}),
        Overlay(MANY, {"train": splits["many"]}),
    ]
    tfdv_view.write(overlays, root / "data.html", root / "assets")
    return root / "data.html"


def test_both_kinds_of_features_are_drawn_with_both_splits(
    site: Path, opened: Open, shot: Shot
) -> None:
    page = opened(site)
    facets = page.locator("facets-overview")
    expect(facets.get_by_text("Numeric Features (1)")).to_be_visible()
    expect(facets.get_by_text("Categorical Features (1)")).to_be_visible()
    for text in ("train", "eval", "views", "device", "600", "120"):
        expect(facets.get_by_text(text, exact=True).first).to_be_visible()
    # A histogram of each feature, in which bars of both splits stand.
    charts = facets.locator("facets-overview-chart #chart")
    expect(charts).to_have_count(2)
    for chart in charts.all():
        bars = chart.locator(".xy-plot rect")
        assert sum(box["height"] > 5 for bar in bars.all() if (box := bar.bounding_box())) >= 2
    shot(page)


def test_another_overlay_has_its_own_values(site: Path, opened: Open) -> None:
    page = opened(site)
    facets = page.locator("facets-overview")
    expect(facets.get_by_text("49", exact=True)).to_have_count(0)
    page.get_by_role("combobox", name="Compare").select_option("train: spans 7 and 6")
    # The largest number of views of the span before: 40 + 9.
    expect(facets.get_by_text("49", exact=True).first).to_be_visible()


def test_features_are_found_by_name(site: Path, opened: Open) -> None:
    page = opened(site)
    facets = page.locator("facets-overview")
    facets.get_by_label("Feature search (regex enabled)").fill("dev.*")
    expect(facets.get_by_text("Numeric Features (1)")).to_be_hidden()
    expect(facets.get_by_text("device", exact=True).first).to_be_visible()


def choose_many(page: Page) -> None:
    page.get_by_role("combobox", name="Compare").select_option(MANY)
    expect(page.get_by_text("Numeric Features (30)")).to_be_visible()


def rows(page: Page) -> list[tuple[float, float, int]]:
    """Of each row of numbers, from above: where it starts and ends, and how many bars it has."""
    found: list[tuple[float, float, int]] = page.locator(
        "facets-overview .numeric-row"
    ).evaluate_all(
        """rows => rows.map(row => {
          const {top, bottom} = row.getBoundingClientRect();
          const chart = row.querySelector("facets-overview-chart").shadowRoot;
          return [top, bottom, chart.querySelectorAll(".xy-plot rect").length];
        })"""
    )
    return sorted(found)


def eventually(page: Page, condition: Callable[[list[tuple[float, float, int]]], bool]) -> None:
    """Waits until a condition on the rows is met."""
    for _ in range(200):
        if condition(rows(page)):
            return
        page.wait_for_timeout(50)
    pytest.fail(f"rows: {rows(page)}")


def wait_for_charts(page: Page) -> None:
    """Until there is a chart in each row that is wholly seen."""
    box = page.locator("facets-overview .table-left iron-list").bounding_box()
    assert box
    top, bottom = max(box["y"], 0), min(box["y"] + box["height"], 1000)

    def drawn(places: list[tuple[float, float, int]]) -> bool:
        seen = [bars for start, end, bars in places if start >= top and end <= bottom]
        return len(seen) > 3 and all(seen)

    eventually(page, drawn)


def test_charts_are_drawn_when_they_are_seen(site: Path, opened: Open) -> None:
    page = opened(site)
    choose_many(page)
    wait_for_charts(page)
    assert any(bars == 0 for top, _, bars in rows(page) if top > 1000)
    features = page.get_by_role("group", name="Numeric Features (30)")
    # The keyboard scrolls, by a line and to the last feature.
    features.press("ArrowDown")
    page.wait_for_function("list => list.scrollTop > 0", arg=features.element_handle())
    features.press("End")
    expect(page.get_by_text("taste_29", exact=True)).to_be_in_viewport()
    wait_for_charts(page)


def test_charts_that_are_made_larger_push_the_rows_apart(site: Path, opened: Open) -> None:
    page = opened(site)
    choose_many(page)
    wait_for_charts(page)
    page.get_by_role("checkbox", name="expand").first.click()

    def apart(places: list[tuple[float, float, int]]) -> bool:
        large = [(start, end) for start, end, _ in places if end - start > 200]
        gaps = [lower[0] - upper[1] for upper, lower in itertools.pairwise(large)]
        return len(large) > 3 and min(gaps) > -1

    eventually(page, apart)


def test_statistics_can_be_read_by_all(site: Path, reader: Page, audit: Audit) -> None:
    reader.goto(site.as_uri())
    overlays = reader.get_by_role("combobox", name="Compare")
    for title in overlays.locator("option").all_inner_texts():
        overlays.select_option(title)
        expect(reader.locator("facets-overview-chart .xy-plot rect").first).to_be_visible()
        audit(reader)
    # The last one has what is in red.
    expect(reader.locator(".data-error").first).to_be_visible()
    texts = reader.locator("facets-overview-table.table-right")
    texts.get_by_role("button", name="show raw data").click()
    expect(texts.get_by_role("group", name="Raw data")).to_be_visible()
    menu = texts.get_by_role("combobox", name="Chart to show")
    expect(menu).to_have_attribute("aria-expanded", "false")
    menu.click()
    expect(menu).to_have_attribute("aria-expanded", "true")
    expect(texts.get_by_role("listbox", name="Chart to show")).to_be_visible()
    audit(reader)


def test_statistics_are_joined_under_their_names(splits: dict[str, Path]) -> None:
    joined = tfdv_view.joined(Overlay("", {"7": splits["train"], "6": splits["before"]}))
    assert [(d.name, d.num_examples) for d in joined.datasets] == [("7", 600), ("6", 300)]


def test_statistics_that_are_missing_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no file"):
        tfdv_view.joined(Overlay("", {"train": tmp_path}))
