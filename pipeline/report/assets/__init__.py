"""Scripts and styles of the pages that show TFMA's and TFDV's own views, without a network.

What is not ours is taken from packages when a site is written: TFMA's elements from
tensorflow-model-analysis, Vega from vl-convert-python, and Facets, which TFDV draws with, from
tensorboard-plugin-wit. The last one registers a plugin that keeps today's TensorBoard from
starting, so it is no dependency, but unpacked beside the packages of the environment.
"""

from __future__ import annotations

import json
import os
import re
import sys
from importlib import metadata
from pathlib import Path

import vl_convert

from tfx_distill.schema.errors import EnvironmentProblem

VEGA = "vega.js"
ACCESSIBLE = "accessible.js"
TFMA = (
    ACCESSIBLE,
    VEGA,
    "data_table.js",
    "html_table.js",
    "vega_charts.js",
    "tfma.js",
    "tfma_page.js",
)
"""Scripts of a page of TFMA, in their order."""
FACETS = (ACCESSIBLE, "facets_templates.js", "facets.js", "tfdv_page.js")
"""Scripts of a page of TFDV, in their order."""
STYLE = "views.css"

_HERE = Path(__file__).parent
FACETS_FOLDER = Path(sys.prefix) / "share/tfx-distill/facets"
FACETS_PACKAGE = "tensorboard-plugin-wit==1.8.1"
_FACETS_FILE = "tensorboard_plugin_wit/static/wit_tb_bin"
# A part of Facets that was published without its template, which must then be an empty one.
_NO_TEMPLATE = (
    '<dom-module id="facets-overview-filter-validator"><template></template></dom-module>'
)


def bring(folder: Path, scripts: tuple[str, ...]) -> None:
    """Puts scripts, and the style, into a folder of assets; what packages brought there stays.

    Args:
      folder: It is made where it is missing.
      scripts: `TFMA` or `FACETS`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for name in (STYLE, *scripts):
        # Ours are small, and those of an older release would not fit today's pages.
        if (_HERE / name).exists() or not (folder / name).exists():
            # Another writer of the same site never sees half a file.
            fresh = folder / f".{name}-{os.getpid()}"
            fresh.write_bytes(_content(name))
            fresh.replace(folder / name)


def _content(name: str) -> bytes:
    if name == VEGA:
        # Its stub asks for the snippet that it has a default for.
        return str(vl_convert.javascript_bundle()).encode()  # type: ignore[call-arg]
    if name == "tfma.js":
        # Found without an import, which takes seconds.
        distribution = metadata.distribution("tensorflow-model-analysis")
        file = distribution.locate_file("tensorflow_model_analysis/static/vulcanized_tfma.js")
        return Path(str(file)).read_bytes()
    if name == "facets.js":
        return facets("js")
    if name == "facets_templates.js":
        return _facets_templates().encode()
    return (_HERE / name).read_bytes()


def facets(suffix: str) -> bytes:
    """A file of Facets: `js` or `html`.

    Raises:
      EnvironmentProblem: Facets is not unpacked.
    """
    file = FACETS_FOLDER / f"{_FACETS_FILE}.{suffix}"
    if not file.exists():
        raise EnvironmentProblem(
            "the view of TensorFlow Data Validation",
            got=f"no file {file}",
            expected="Facets, which it is drawn with",
            fix="Unpack it there: python -m pip install --no-deps --target "
            f"{FACETS_FOLDER} {FACETS_PACKAGE}",
        )
    return file.read_bytes()


def _facets_templates() -> str:
    """The templates of Facets' elements as a script, so that all pages share one file.

    They must stand in the document before the elements are defined. Fonts that a server would have
    are left out.
    """
    html = re.sub(r"@font-face\s*{[^}]*}", "", facets("html").decode())
    end = "</dom-module>"
    templates = html[html.index("<dom-module") : html.rindex(end) + len(end)]
    return f"document.write({json.dumps(_NO_TEMPLATE + templates)});\n"
