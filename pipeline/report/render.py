"""Turns pages into HTML files, and brings what they share: style, scripts, Vega."""

from __future__ import annotations

import json
import re
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from importlib import metadata
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from tfx_distill.pipeline.report import assets
from tfx_distill.pipeline.report.charts import Chart

ASSETS = "assets"
"""Folder of what the pages share."""
_HERE = Path(__file__).parent


@dataclass(frozen=True)
class Page:
    """One page of the site.

    Attributes:
      file: Its name.
      title: Its heading, and its name in the navigation.
      template: Name of its template.
      values: What the template shows.
    """

    file: str
    title: str
    template: str
    values: Mapping[str, Any] = field(default_factory=dict)


def missing(file: str, title: str, *why: str) -> Page:
    """A page that says what is not there, and why."""
    return Page(file, title, "missing.html", {"why": why})


class Renderer:
    """Writes the pages of one site.

    Args:
      folder: Of the site; it is made.
      name: Of the run.
      pages: File and title of each page of the navigation, in its order.
    """

    def __init__(self, folder: Path, name: str, pages: Sequence[tuple[str, str]]) -> None:
        self._folder = folder
        self._templates = jinja2.Environment(
            loader=jinja2.FileSystemLoader(_HERE / "templates"),
            autoescape=True,
            trim_blocks=True,
            lstrip_blocks=True,
            undefined=jinja2.StrictUndefined,
        )
        self._templates.filters |= {
            "number": number,
            "signed": signed,
            "seconds": seconds,
            "moment": moment,
            "slug": slug,
            "data": data,
        }
        self._templates.globals |= {
            "run_name": name,
            "navigation": pages,
            "written": time.time(),
            "version": metadata.version("tfx-distill"),
            "assets": ASSETS,
        }
        folder.mkdir(parents=True, exist_ok=True)

    def bring_assets(self) -> Path:
        """Copies style and scripts, and Vega if it is not there yet; returns their folder."""
        folder = self._folder / ASSETS
        folder.mkdir(exist_ok=True)
        for file in sorted((_HERE / "static").iterdir()):
            shutil.copyfile(file, folder / file.name)
        assets.bring(folder, (assets.VEGA,))
        return folder

    def write(self, page: Page) -> Path:
        """Writes a page as a whole, so that nobody sees half of one."""
        html = self._templates.get_template(page.template).render(page=page, **page.values)
        file = self._folder / page.file
        _replace(file, html)
        return file


def data(content: Chart | Any) -> Markup:
    """JSON for a script element of a page: nothing in it can end the element."""
    text = json.dumps(content, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return Markup(text)


def number(value: float | None, digits: int = 4) -> str:
    """A number of so many decimals; a dash where there is none."""
    return "–" if value is None else f"{value:,.{digits}f}"  # noqa: RUF001


def signed(value: float | None, digits: int = 4) -> str:
    """A difference, with its sign."""
    return "–" if value is None else f"{value:+,.{digits}f}"  # noqa: RUF001


def seconds(value: float) -> str:
    """A time in seconds; above two minutes, in minutes."""
    return f"{value:,.1f} s" if value < 120 else f"{value / 60:,.1f} min"


def moment(value: float | None) -> str:
    """A time of day, from seconds since the epoch."""
    if value is None:
        return "unknown"
    return datetime.fromtimestamp(value, timezone.utc).strftime("%Y-%m-%d %H:%M UTC")


def slug(text: str) -> str:
    """A name for an element or a file: letters, digits and hyphens."""
    return re.sub(r"[^A-Za-z0-9]+", "-", text).strip("-").lower()


def _replace(file: Path, text: str) -> None:
    unfinished = file.with_name(file.name + ".partial")
    unfinished.write_text(text, encoding="utf-8")
    unfinished.replace(file)
