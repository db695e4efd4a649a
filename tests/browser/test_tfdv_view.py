"""Facets on our page: TFDV's protos, opened from a file, without a network, in Chromium."""

from __future__ import annotations

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
Shot = Callable[[Page], None]


def statistics(folder: Path, rows: int, shift: float) -> Path:
    """Statistics of a split with a number and a text, as StatisticsGen leaves them."""
    data = pd.DataFrame(
        {
            "views": [shift + i % 10 for i in range(rows)],
            "device": [["phone", "tv", "desktop"][i % 3] for i in range(rows)],
        }
    )
    folder.mkdir(parents=True)
    found = tfdv.generate_statistics_from_dataframe(data, n_jobs=1)
    (folder / "FeatureStats.pb").write_bytes(found.SerializeToString())
    return folder


@pytest.fixture(scope="module")
def splits(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("statistics")
    return {
        name: statistics(root / name, rows, shift)
        for name, rows, shift in (("train", 600, 0.0), ("eval", 120, 0.0), ("before", 300, 40.0))
    }


@pytest.fixture(scope="module")
def site(splits: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("site")
    overlays = [
        Overlay("span 7: train and eval", {k: splits[k] for k in ("train", "eval")}),
        Overlay("train: spans 7 and 6", {"7": splits["train"], "6": splits["before"]}),
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


def test_statistics_are_joined_under_their_names(splits: dict[str, Path]) -> None:
    joined = tfdv_view.joined(Overlay("", {"7": splits["train"], "6": splits["before"]}))
    assert [(d.name, d.num_examples) for d in joined.datasets] == [("7", 600), ("6", 300)]


def test_statistics_that_are_missing_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no file"):
        tfdv_view.joined(Overlay("", {"train": tmp_path}))
