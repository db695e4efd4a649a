"""How long the pages of a report take to open, and what axe-core finds on them.

    .venv/bin/python -m benchmarks.report_pages runs/stream/report

A page counts as interactive when what it shows first is drawn and the browser's main thread is
idle. Each opening is in a new context of a headless Chromium, from a file.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import time
from collections import Counter
from pathlib import Path

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, sync_playwright

_CHARTS = """() => [...document.querySelectorAll("figure[data-chart]")].every(chart => {
  const box = chart.getBoundingClientRect();
  return box.width == 0 || box.top > innerHeight || chart.hasAttribute("data-drawn");
})"""
"""Whether the charts are drawn that are seen before anyone scrolls."""
_VIEWS = {"#tfma-metrics": "tfma-metrics-table tbody tr", "#tfdv-view": "facets-overview-chart"}
"""What a view of TFMA or TFDV draws, by where."""
_IDLE = "new Promise(idle => requestIdleCallback(idle))"


def opened(page: Page, file: Path) -> float:
    """Opens a page: seconds until it is interactive."""
    started = time.perf_counter()
    page.goto(file.as_uri())
    page.wait_for_function(_CHARTS)
    for place, drawn in _VIEWS.items():
        if page.locator(place).count():
            page.locator(drawn).first.wait_for()
    page.evaluate(_IDLE)
    return time.perf_counter() - started


def measure(browser: Browser, file: Path, times: int) -> dict[str, object]:
    """Seconds of several openings, and axe-core's findings by impact in both schemes."""
    seconds = []
    for _ in range(times):
        context = browser.new_context(viewport={"width": 1400, "height": 1000})
        seconds.append(opened(context.new_page(), file))
        context.close()
    found: Counter[str] = Counter()
    rules: set[str] = set()
    for scheme in ("light", "dark"):
        context = browser.new_context(color_scheme=scheme)
        page = context.new_page()
        opened(page, file)
        for violation in Axe().run(page).response["violations"]:
            found[violation["impact"]] += len(violation["nodes"])
            rules.add(f"{violation['impact']}: {violation['id']}")
        context.close()
    return {
        "page": file.name,
        "kib": file.stat().st_size / 1024,
        "seconds": statistics.median(seconds),
        "slowest": max(seconds),
        "findings": dict(found),
        "rules": sorted(rules),
    }


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("report", type=Path, help="folder of a report")
    parser.add_argument("--times", type=int, default=5, help="openings of each page")
    asked = parser.parse_args()
    program = shutil.which("chromium") or shutil.which("google-chrome")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        pages = sorted(asked.report.glob("*.html"))
        rows = [measure(browser, page.resolve(), asked.times) for page in pages]
        browser.close()
    print("| page | KiB | seconds, median | slowest | findings of axe-core |")
    print("|---|---|---|---|---|")
    for row in rows:
        told = ", ".join(row["rules"]) or "none"  # type: ignore[call-overload]
        print(
            f"| {row['page']} | {row['kib']:.0f} | {row['seconds']:.2f} | {row['slowest']:.2f} "
            f"| {told} |"
        )
    print(json.dumps(rows))


if __name__ == "__main__":
    main()
