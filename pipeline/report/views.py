"""The views of TFMA and TFDV in a site, whose own code takes seconds to import."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from pathlib import Path

from tfx_distill.pipeline.report import page_data, page_tfma, tfdv_view, tfma_view
from tfx_distill.pipeline.report.gather_metadata import Metadata
from tfx_distill.pipeline.report.gather_runs import Runs
from tfx_distill.pipeline.report.page_tfma import Evaluation

_log = logging.getLogger(__name__)


def write(runs: Runs, found: Metadata, folder: Path, assets: Path) -> dict[str, str]:
    """Writes a view of each evaluation and of the statistics of the newest run.

    Args:
      runs: The runs.
      found: ML Metadata.
      folder: Of the site.
      assets: Folder of what its pages share.

    Returns:
      By file, why a view could not be written.
    """
    absent: dict[str, str] = {}
    for one in page_tfma.evaluations(runs, found):
        _try(absent, folder / one.file, partial(_tfma, one, assets=assets))
    _try(absent, folder / page_data.VIEW, partial(_tfdv, runs, found, assets=assets))
    return absent


def left_out(runs: Runs, found: Metadata) -> dict[str, str]:
    """All views, as absent."""
    why = "It was left out; `distill report` writes it."
    files = [page_data.VIEW, *(one.file for one in page_tfma.evaluations(runs, found))]
    return dict.fromkeys(files, why)


def _try(absent: dict[str, str], page: Path, write_view: Callable[[Path], None]) -> None:
    try:
        write_view(page)
    except Exception as error:  # noqa: BLE001 (the site goes without it, and says why)
        _log.debug("view %s", page, exc_info=True)
        absent[page.name] = f"It could not be made: {type(error).__name__}: {error}"


def _tfma(one: Evaluation, page: Path, assets: Path) -> None:
    # Imports TFMA when it is called.
    tfma_view.write(
        one.folder, page, assets, title=f"Evaluation of {one.model}", home=page_tfma.FILE
    )


def _tfdv(runs: Runs, found: Metadata, page: Path, assets: Path) -> None:
    overlays = _overlays(runs, found)
    if not overlays:
        raise LookupError("no run kept statistics")
    tfdv_view.write(overlays, page, assets, title="Statistics", home=page_data.FILE)


def _overlays(runs: Runs, found: Metadata) -> list[tfdv_view.Overlay]:
    """Train against eval of the newest run, and each against the same split of the run before."""
    folders = []
    for run in runs.all[::-1][:2]:
        artifact = found.output(run.run_id, "StatisticsGen", "statistics")
        if artifact is not None:
            folders.append((run.spans, Path(artifact.uri)))
    if not folders:
        return []
    spans, now = folders[0]
    splits = [split for split in ("train", "eval") if (now / f"Split-{split}").exists()]
    overlays = [
        tfdv_view.Overlay(
            f"span {spans}: {' and '.join(splits)}",
            {split: now / f"Split-{split}" for split in splits},
        )
    ]
    for earlier, before in folders[1:]:
        overlays += [
            tfdv_view.Overlay(
                f"{split}: spans {spans} and {earlier}",
                {
                    f"span {spans}": now / f"Split-{split}",
                    f"span {earlier}": before / f"Split-{split}",
                },
            )
            for split in splits
        ]
    return overlays
