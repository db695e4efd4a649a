"""TensorFlow Data Validation's view of statistics, Facets, as a page that needs no network.

TFDV itself loads Facets from a server by an HTML import, which no browser has any more. Here the
same elements, see `assets`, are given the same protos.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tensorflow_metadata.proto.v0 import statistics_pb2

from tfx_distill.pipeline.report import assets, view_document
from tfx_distill.schema.errors import DataError

_BODY = f"""<p>Every feature as TensorFlow Data Validation counted it. Values in red are worth a
look: many missing or many zeros.</p>
<form class="controls" onsubmit="return false">
{view_document.select("tfdv-overlay", "Compare")}
</form>
<div id="tfdv-view"></div>"""


@dataclass(frozen=True)
class Overlay:
    """Statistics that are drawn over one another.

    Attributes:
      title: Such as "span 7: train and eval".
      splits: Folder of the statistics of a split (with FeatureStats.pb in it) by the name that it
        has in the legend.
    """

    title: str
    splits: Mapping[str, Path]


def write(
    overlays: Sequence[Overlay],
    page: Path,
    folder: Path,
    *,
    title: str = "Data",
    home: str = "index.html",
) -> None:
    """Writes a page on which one of some overlays is shown, the first one at the start.

    Args:
      overlays: At least one. Each adds to the page what its protos take (about 100 KiB for two
        splits of 30 features).
      page: File to write.
      folder: Of the site's assets; what the page needs is put there.
      title: Heading of the page.
      home: Where its link back leads, relative to the page.

    Raises:
      DataError: Statistics are missing, or are not those of one dataset.
    """
    content = [
        {
            "title": overlay.title,
            "proto": base64.b64encode(joined(overlay).SerializeToString()).decode(),
        }
        for overlay in overlays
    ]
    view_document.write(
        page,
        title,
        _BODY,
        content,
        name="tfdv",
        scripts=assets.FACETS,
        folder=folder,
        home=home,
    )


def joined(overlay: Overlay) -> statistics_pb2.DatasetFeatureStatisticsList:
    """The statistics of an overlay in one proto, under their names.

    Raises:
      DataError: Statistics are missing, or are not those of one dataset.
    """
    result = statistics_pb2.DatasetFeatureStatisticsList()
    for name, split in overlay.splits.items():
        file = Path(split) / "FeatureStats.pb"
        found = statistics_pb2.DatasetFeatureStatisticsList()
        if file.exists():
            found.ParseFromString(file.read_bytes())
        if len(found.datasets) != 1:
            raise DataError(
                str(file),
                got=f"{len(found.datasets)} datasets" if file.exists() else "no file",
                expected="the statistics of one split",
                fix="Run the component StatisticsGen of this span again.",
            )
        dataset = result.datasets.add()
        dataset.CopyFrom(found.datasets[0])
        dataset.name = name
    return result
