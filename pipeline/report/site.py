"""Writes the site of a run: gathers what is there, and makes one page of each part."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

from tfx_distill.pipeline.report import (
    page_cost,
    page_curves,
    page_data,
    page_labels,
    page_lineage,
    page_stream,
    page_summary,
    page_tfma,
    views,
)
from tfx_distill.pipeline.report.gather_metadata import metadata
from tfx_distill.pipeline.report.gather_runs import runs
from tfx_distill.pipeline.report.gathered import Gathered
from tfx_distill.pipeline.report.render import Page, Renderer, missing
from tfx_distill.schema.config import RunConfig

FOLDER = "report"
"""Folder of the site, in the run folder."""

_PAGES: tuple[tuple[str, str, Callable[[Gathered], Page]], ...] = (
    (page_summary.FILE, page_summary.TITLE, page_summary.page),
    (page_stream.FILE, page_stream.TITLE, page_stream.page),
    (page_data.FILE, page_data.TITLE, page_data.page),
    (page_labels.FILE, page_labels.TITLE, page_labels.page),
    (page_tfma.FILE, page_tfma.TITLE, page_tfma.page),
    (page_curves.FILE, page_curves.TITLE, page_curves.page),
    (page_cost.FILE, page_cost.TITLE, page_cost.page),
    (page_lineage.FILE, page_lineage.TITLE, page_lineage.page),
)
_log = logging.getLogger(__name__)


def write(config: RunConfig, folder: Path | None = None, *, with_views: bool = True) -> Path:
    """Writes all pages; one that cannot be made says why.

    Args:
      config: Of the run.
      folder: Where to; `report` in the run folder by default. What is there is replaced.
      with_views: Whether to write the views of TFMA and TFDV, whose packages take seconds to
        import.

    Returns:
      The first page.

    Raises:
      OSError: The folder cannot be written.
    """
    target = config.run_folder / FOLDER if folder is None else folder
    found, store = runs(config.run_folder), metadata(config.run_folder)
    renderer = Renderer(target, config.name, [(file, title) for file, title, _ in _PAGES])
    assets = renderer.bring_assets()
    gathered = Gathered(
        found,
        store,
        tasks=tuple(task.name for task in config.tasks),
        slices=config.gate.slices,
        absent=views.write(found, store, target, assets)
        if with_views
        else views.left_out(found, store),
    )
    for file, title, make in _PAGES:
        renderer.write(_made(gathered, file, title, make))
    return target / page_summary.FILE


def _made(found: Gathered, file: str, title: str, make: Callable[[Gathered], Page]) -> Page:
    """A page; whatever is wrong with what it shows, the others are written too."""
    try:
        return make(found)
    except Exception as error:  # noqa: BLE001
        _log.warning("Page %s of the report: %s: %s", file, type(error).__name__, error)
        _log.debug("page %s", file, exc_info=True)
        return missing(file, title, f"It could not be made: {type(error).__name__}: {error}")
