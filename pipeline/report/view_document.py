"""The HTML document around a view of TFMA or TFDV.

Their elements know one light scheme of colours, so these pages stand beside the site's own layout.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Any

from tfx_distill.pipeline.report import assets
from tfx_distill.pipeline.report.render import data


def select(name: str, label: str) -> str:
    """A labelled choice, which the page's script fills."""
    return f'<label>{escape(label)} <select id="{name}"></select></label>\n'


def write(
    page: Path,
    title: str,
    body: str,
    content: Any,
    *,
    name: str,
    scripts: tuple[str, ...],
    folder: Path,
    home: str,
    first: Sequence[str] = (),
) -> None:
    """Writes a page, and brings the scripts it needs.

    Args:
      page: File to write.
      title: Its heading.
      body: Its HTML, below the heading.
      content: What its script shows; becomes JSON in an element called `<name>-data`.
      name: Of the view.
      scripts: Of the view, in their order; see `assets`.
      folder: Of the assets of the site.
      home: Where the link back leads, relative to the page.
      first: Statements that run before the scripts.
    """
    assets.bring(folder, scripts)
    page.parent.mkdir(parents=True, exist_ok=True)
    base = escape(Path(os.path.relpath(folder, page.parent)).as_posix())
    sources = "\n".join(f'<script src="{base}/{script}"></script>' for script in scripts)
    html = f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(title)}</title>
<link rel="icon" href="data:,">
<link rel="stylesheet" href="{base}/{assets.STYLE}">
</head>
<body>
<header><nav aria-label="Report"><a href="{escape(home)}">Back to the report</a></nav></header>
<main>
<h1>{escape(title)}</h1>
{body}
</main>
<script type="application/json" id="{name}-data">{data(content)}</script>
<script>{"".join(f"{statement};" for statement in first)}</script>
{sources}
</body>
</html>
"""
    fresh = page.with_name(f".{page.name}")
    fresh.write_text(html)
    fresh.replace(page)
