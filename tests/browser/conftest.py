"""A headless Chromium without a network, and pages whose every fault fails the test."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, BrowserContext, Page, Route, expect, sync_playwright

HERE = Path(__file__).parent
PATIENCE = 30_000
"""Milliseconds that something may take to appear: these pages draw a lot, CI's machines do more."""

expect.set_options(timeout=PATIENCE)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.browser)


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """The Chromium of the machine: playwright's own builds come from elsewhere than packages."""
    program = shutil.which("chromium") or shutil.which("google-chrome")
    if not program:
        if "CI" in os.environ:
            pytest.fail("Chromium is missing. Install it: apt-get install chromium")
        # Nobody needs a browser to distil; CI installs one, and there a missing one fails above.
        pytest.skip("no Chromium on this machine")
    with sync_playwright() as playwright:
        # Containers run tests as root and give /dev/shm a few megabytes.
        arguments = ["--no-sandbox", "--disable-dev-shm-usage"]
        started = playwright.chromium.launch(executable_path=program, args=arguments)
        yield started
        started.close()


class Faults(list[str]):
    """What went wrong on a page: requests, messages on the console, uncaught errors."""

    def watch(self, page: Page) -> None:
        page.on("pageerror", lambda error: self.append(f"error: {error.stack or error}"))
        page.on("requestfailed", lambda request: self.append(f"failed: {request.url}"))
        page.on(
            "console",
            lambda message: (
                self.append(f"{message.type}: {message.text}")
                if message.type in ("error", "warning")
                else None
            ),
        )

    def refuse(self, route: Route) -> None:
        if route.request.url.startswith(("file:", "data:", "blob:")):
            route.continue_()
        else:
            self.append(f"network: {route.request.url}")
            route.abort()


@pytest.fixture
def faults() -> Faults:
    """Of the pages of a test; whoever expects some clears them."""
    return Faults()


@pytest.fixture
def context(browser: Browser, faults: Faults) -> Iterator[BrowserContext]:
    """A window of 1400 x 1000 pixels, whose requests reach files only."""
    made = browser.new_context(viewport={"width": 1400, "height": 1000})
    made.set_default_timeout(PATIENCE)
    made.route("**/*", faults.refuse)
    yield made
    made.close()
    assert not faults


@pytest.fixture
def opened(context: BrowserContext, faults: Faults) -> Callable[[Path], Page]:
    """Opens a file as a reader does who clicks on it. The test fails with any fault of the page."""

    def open_file(file: Path) -> Page:
        page = context.new_page()
        faults.watch(page)
        page.goto(file.as_uri())
        return page

    return open_file


@pytest.fixture(params=["light", "dark"])
def reader(browser: Browser, request: pytest.FixtureRequest) -> Iterator[Page]:
    """A page in the scheme of its owner. Its faults are not watched, since axe-core asks for the
    style sheet's file, which a page from a file may not read."""
    made = browser.new_context(viewport={"width": 1400, "height": 1000}, color_scheme=request.param)
    made.set_default_timeout(PATIENCE)
    yield made.new_page()
    made.close()


@pytest.fixture
def audit() -> Callable[..., None]:
    """Fails if axe-core finds anything within what a selector matches."""

    def run(page: Page, within: str = "html") -> None:
        # What is just being faded in or out has too little contrast, but not for long.
        for _ in range(5):
            violations = Axe().run(page, context=within).response["violations"]
            found = [(rule["id"], node["html"]) for rule in violations for node in rule["nodes"]]
            if not found:
                return
            page.wait_for_timeout(500)
        pytest.fail("\n".join(f"{rule}: {html}" for rule, html in found))

    return run


@pytest.fixture
def shot(request: pytest.FixtureRequest) -> Callable[[Page], None]:
    """Keeps a picture of a page in the folder that SCREENSHOTS names, if it does."""

    def keep(page: Page) -> None:
        if folder := os.environ.get("SCREENSHOTS"):
            page.screenshot(path=Path(folder) / f"{request.node.name}.png", full_page=True)

    return keep
