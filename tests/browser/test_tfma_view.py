"""TFMA's own elements on our page: opened from a file, without a network, in Chromium."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import small_evaluation
from playwright.sync_api import Locator, Page, expect

from tfx_distill.pipeline.report import tfma_view

TV = f"device:{small_evaluation.TV}"
PLOTS = (
    ("Calibration Plot", "tfma-calibration-plot", "g.mark-symbol path"),
    ("ROC Curve", "tfma-roc-curve", "g.mark-line path"),
    ("Precision-Recall Curve", "tfma-precision-recall-curve", "g.mark-line path"),
    ("Prediction Distribution", "tfma-prediction-distribution", "g.mark-rect path"),
    ("Residual Plot", "tfma-residual-plot", "g.mark-line path"),
    ("Acc/P/R/F1", "tfma-accuracy-charts", "g.mark-line path"),
    ("Gain", "tfma-gain-chart", "g.mark-line path"),
)
"""Each tab with the element that it shows, and what is drawn in there."""
Open = Callable[[Path], Page]
Audit = Callable[..., None]
Shot = Callable[[Page], None]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of a small evaluation."""
    root = tmp_path_factory.mktemp("site")
    evaluation = small_evaluation.write(root / "evaluation")
    tfma_view.write(evaluation, root / "site" / "tfma" / "compact.html", root / "site" / "assets")
    return root / "site" / "tfma" / "compact.html"


def column(page: Page, number: int) -> list[str]:
    """The text of a column of TFMA's table, from above."""
    cells = page.locator(f"tfma-metrics-table tbody tr td:nth-child({number})")
    return [text.strip() for text in cells.all_inner_texts()]


def head(page: Page, name: str) -> Locator:
    return page.locator("tfma-metrics-table th button", has_text=name).first


def by_device(page: Page) -> None:
    page.get_by_role("combobox", name="Slices").select_option("device")
    expect(page.locator("tfma-metrics-table tbody tr")).to_have_count(3)


def heights(bars: Locator, count: int) -> list[float]:
    """Of the bars of a chart, in pixels, from left to right."""
    expect(bars).to_have_count(count)
    boxes = [box for bar in bars.all() if (box := bar.bounding_box())]
    return [box["height"] for box in sorted(boxes, key=lambda box: box["x"])]


def test_first_shows_all_examples(site: Path, opened: Open) -> None:
    page = opened(site)
    expect(page.locator("tfma-metrics-table tbody tr")).to_have_count(1)
    assert column(page, 1) == ["Overall"]
    assert column(page, 2) == ["0.70000"]


def test_a_click_on_a_column_sorts_and_a_second_turns_it_round(
    site: Path, opened: Open, shot: Shot
) -> None:
    page = opened(site)
    by_device(page)
    head(page, "auc").click()
    assert column(page, 2) == ["0.64000", "0.71000", "0.83000"]
    assert column(page, 1) == [TV, "device:phone", "device:desktop"]
    expect(page.locator("tfma-metrics-table th[aria-sort=ascending]")).to_have_count(1)
    head(page, "auc").click()
    assert column(page, 2) == ["0.83000", "0.71000", "0.64000"]
    # Text is sorted as text, and the keyboard does what the mouse does.
    head(page, "feature").press("Enter")
    assert column(page, 1) == ["device:desktop", "device:phone", TV]
    shot(page)


def test_slices_are_filtered_by_name_and_by_size(site: Path, opened: Open) -> None:
    page = opened(site)
    by_device(page)
    page.get_by_role("searchbox").fill("OLD")
    expect(page.locator("tfma-metrics-table tbody tr")).to_have_count(1)
    assert column(page, 1) == [TV]
    page.get_by_role("searchbox").fill("radio")
    expect(page.locator("#tfma-metrics")).to_have_text("No slice has this text in its name.")
    page.get_by_role("searchbox").fill("")
    # TFMA's own filter, by weight of examples.
    page.locator("#weighted-examples-threshold input").fill("200")
    page.locator("#weighted-examples-threshold input").press("Enter")
    expect(page.locator("tfma-metrics-table tbody tr")).to_have_count(2)
    assert sorted(column(page, 1)) == ["device:desktop", "device:phone"]


def test_another_model_has_its_own_values(site: Path, opened: Open) -> None:
    page = opened(site)
    page.get_by_role("combobox", name="Model").select_option("baseline")
    expect(page.locator("tfma-metrics-table tbody")).to_contain_text("0.60000")


def test_slices_are_drawn_as_bars_and_a_click_marks_the_row(site: Path, opened: Open) -> None:
    page = opened(site)
    by_device(page)
    # In the order of their names, as high as they have examples: desktop, phone, tv.
    bars = heights(page.locator("tfma-slice-overview svg g.mark-rect path"), 3)
    assert [height / max(bars) for height in bars] == pytest.approx([0.42, 1.0, 0.18], abs=0.02)
    page.locator("tfma-metrics-table tbody tr", has_text="phone").click()
    expect(page.locator("tfma-metrics-table tr[aria-current=true]")).to_contain_text("phone")


def test_the_histogram_of_slices_is_drawn(site: Path, opened: Open, shot: Shot) -> None:
    page = opened(site)
    by_device(page)
    page.locator("tfma-graph-data-filter #chart-type paper-dropdown-menu").click()
    page.locator("#chart-type paper-item", has_text="Metrics Histogram").click()
    # Ten buckets from 0.64 to 0.83, and one slice in three of them: 0.64, 0.71, 0.83.
    bars = heights(page.locator("tfma-metrics-histogram #details svg g.mark-rect path"), 10)
    assert [i for i, height in enumerate(bars) if height > 50] == [0, 3, 9]
    assert min(bars) < 2
    shot(page)


@pytest.mark.parametrize(("tab", "element", "marks"), PLOTS)
def test_plots_are_drawn(
    site: Path, opened: Open, shot: Shot, tab: str, element: str, marks: str
) -> None:
    page = opened(site)
    page.locator("tfma-plot paper-tab", has_text=tab).click()
    drawn = page.locator(f"{element} svg {marks}")
    expect(drawn.first).to_be_visible()
    box = page.locator(f"{element} svg").bounding_box()
    assert box
    assert box["width"] > 300
    assert box["height"] > 200
    shot(page)


def test_metrics_can_be_read_by_all(site: Path, reader: Page, audit: Audit) -> None:
    reader.goto(site.as_uri())
    expect(reader.locator("tfma-metrics-table tbody tr")).to_have_count(1)
    audit(reader)
    by_device(reader)
    audit(reader)
    menu = reader.get_by_role("combobox", name="Visualization")
    expect(menu).to_have_attribute("aria-expanded", "false")
    menu.click()
    expect(menu).to_have_attribute("aria-expanded", "true")
    expect(reader.get_by_role("listbox", name="Visualization")).to_be_visible()
    audit(reader)
    reader.locator("#chart-type paper-item", has_text="Metrics Histogram").click()
    expect(menu).to_have_attribute("aria-expanded", "false")
    expect(reader.get_by_role("slider", name="Number of Buckets")).to_be_visible()
    audit(reader)


def test_plots_can_be_read_by_all(site: Path, reader: Page, audit: Audit) -> None:
    reader.goto(site.as_uri())
    tabs = reader.locator("tfma-plot paper-tab:visible")
    expect(tabs).to_have_count(len(PLOTS))
    for tab, element, _ in PLOTS:
        tabs.filter(has_text=tab).click()
        expect(reader.locator(f"{element} svg").first).to_be_visible()
        audit(reader, "#tfma-plot")


def test_a_task_without_plots_says_so(site: Path, opened: Open) -> None:
    page = opened(site)
    page.get_by_role("combobox", name="Task").select_option("watch")
    expect(page.locator("#tfma-plot")).to_have_text("This evaluation has no plots.")
