"""The pages of a report in Chromium: opened from files, without a network, in both schemes."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import reported_runs
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, BrowserContext, Page, Route, expect

from tfx_distill.pipeline.report import site
from tfx_distill.schema import config as run_config

PAGES = ("index", "stream", "data", "labels", "tfma", "curves", "cost", "lineage")
Open = Callable[[Path], Page]
Shot = Callable[[Page], None]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of a small stream, without the views of TFMA and TFDV."""
    root = tmp_path_factory.mktemp("report")
    reported_runs.stream(root)
    return site.write(run_config.load(reported_runs.config(root)), with_views=False).parent


@pytest.fixture(params=["light", "dark"])
def phone(browser: Browser, request: pytest.FixtureRequest) -> Iterator[Page]:
    """A page as wide as a phone, in the scheme of its owner."""
    size = {"width": 390, "height": 844}
    made = browser.new_context(viewport=size, color_scheme=request.param)
    yield made.new_page()
    made.close()


def draw_all(page: Page) -> None:
    """Opens what is folded, and scrolls through the page: charts are drawn when they are seen."""
    page.evaluate("document.querySelectorAll('main details').forEach(d => { d.open = true })")
    for chart in page.locator("figure[data-chart]:visible").all():
        chart.scroll_into_view_if_needed()
        expect(chart).to_have_attribute("data-drawn", "")


@pytest.mark.parametrize("name", PAGES)
def test_every_chart_of_a_page_is_drawn(name: str, folder: Path, opened: Open, shot: Shot) -> None:
    page = opened(folder / f"{name}.html")
    draw_all(page)
    charts = page.locator("figure[data-chart]:visible").count()
    assert charts > 0 or name == "tfma"
    # Something is in each: dots, lines, bars or boxes.
    empty = page.evaluate(
        "[...document.querySelectorAll('figure[data-chart] svg')]"
        ".filter(s => s.querySelectorAll('.mark-symbol path, .mark-line path, .mark-rect path')"
        ".length == 0).length"
    )
    assert empty == 0
    shot(page)


@pytest.mark.parametrize("name", PAGES)
def test_pages_fit_a_phone_and_can_be_read_by_all(name: str, folder: Path, phone: Page) -> None:
    phone.goto((folder / f"{name}.html").as_uri())
    draw_all(phone)
    assert phone.evaluate("document.documentElement.scrollWidth") <= 390
    found = Axe().run(phone)
    assert found.violations_count == 0, found.generate_report()


def test_the_navigation_leads_to_every_page(folder: Path, opened: Open) -> None:
    page = opened(folder / "index.html")
    titles = page.get_by_role("navigation").get_by_role("link").all_inner_texts()
    for title in titles:
        page.get_by_role("navigation").get_by_role("link", name=title, exact=True).click()
        expect(page.get_by_role("heading", level=1)).to_have_text(title)
        current = page.get_by_role("navigation").locator("[aria-current=page]")
        expect(current).to_have_text(title)
        # Who leaves before Vega is loaded makes its request fail.
        page.wait_for_load_state("load")


def test_intervals_are_whiskers_where_they_belong(folder: Path, opened: Open) -> None:
    page = opened(folder / "index.html")
    page.get_by_text("Charts of all metrics").click()
    # The one of the leads comes before.
    chart = page.locator("figure", has_text="click: auc").last
    chart.scroll_into_view_if_needed()
    expect(chart.locator(".role-mark.mark-rule line")).to_have_count(4)
    # From the low end to the high one, around the dot of the same model.
    lines = [line.bounding_box() for line in chart.locator(".role-mark.mark-rule line").all()]
    dots = [dot.bounding_box() for dot in chart.locator(".role-mark.mark-symbol path").all()]
    for line, dot in zip(lines, dots, strict=True):
        assert line is not None
        assert dot is not None
        # The intervals of these runs are 0.02 below and 0.03 above.
        middle = dot["x"] + dot["width"] / 2
        assert (middle - line["x"]) / line["width"] == pytest.approx(0.4, abs=0.05)


def test_the_numbers_of_a_chart_are_a_table(folder: Path, opened: Open) -> None:
    page = opened(folder / "stream.html")
    chart = page.locator("figure").first
    chart.get_by_text("The numbers").click()
    expect(chart.locator("tbody tr")).to_have_count(9)
    heads = [text.split("\n")[0] for text in chart.locator("thead th").all_inner_texts()]
    assert heads[:3] == ["span", "model", "value"]


def test_a_click_on_a_box_or_its_name_shows_what_is_known(
    folder: Path, opened: Open, shot: Shot
) -> None:
    page = opened(folder / "lineage.html")
    panel = page.locator("#properties")
    expect(panel).to_be_hidden()
    chart = page.locator("section:visible figure")
    expect(chart).to_have_attribute("data-drawn", "")
    box = chart.locator("svg text", has_text="TeacherLabels")
    box.click()
    # Vega takes press and release for a click only if no frame of its own came in between.
    for _ in range(10):
        if not panel.is_hidden():
            break
        page.wait_for_timeout(500)
        box.click()
    expect(panel.locator("caption")).to_have_text("TeacherLabels: table version 2, span 2")
    expect(panel.get_by_role("row", name="table_version")).to_contain_text("2")
    page.get_by_text("The artifacts as a list").first.click()
    page.get_by_role("button", name="Config:").click()
    expect(panel.get_by_role("row", name="custom_config.job.title")).to_contain_text(
        reported_runs.TRICKY
    )
    shot(page)


def test_a_chart_waits_for_the_script_that_listens_to_it(
    folder: Path, context: BrowserContext, opened: Open
) -> None:
    def late(route: Route) -> None:
        time.sleep(2)
        route.continue_()

    context.route("**/lineage.js", late)
    page = opened(folder / "lineage.html")
    chart = page.locator("section:visible figure")
    expect(chart).to_have_attribute("data-drawn", "")
    chart.locator("svg text", has_text="TeacherLabels").click()
    expect(page.locator("#properties caption")).to_contain_text("TeacherLabels")


def test_another_model_can_be_chosen(folder: Path, opened: Open) -> None:
    page = opened(folder / "lineage.html")
    page.get_by_role("combobox", name="Pushed model").select_option(index=1)
    sections = page.locator("section:visible")
    expect(sections).to_have_count(1)
    expect(sections.locator("svg")).to_have_count(1)
    expect(sections).to_have_attribute("aria-label", "compact, span 1")


def test_charts_follow_the_scheme(folder: Path, opened: Open) -> None:
    page = opened(folder / "cost.html")
    first = page.locator("figure svg .role-axis-label text").first
    expect(first).to_have_attribute("fill", "#1b1f24")
    page.emulate_media(color_scheme="dark")
    expect(first).to_have_attribute("fill", "#e7eaee")
