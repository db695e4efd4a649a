"""Brings the tables and pictures of `docs/experiments.md` up to date with the results.

.venv/bin/python -m benchmarks.online.page
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
from pathlib import Path

from benchmarks.online.experiment import table

DOCS = Path(__file__).parents[2] / "docs"


def update(text: str, results: Path) -> str:
    """The page with each table between `<!-- table NAME -->` and `<!-- end -->` made anew.

    Args:
      text: The page.
      results: Folder of the folders of results, by name; a table without a result stays.
    """

    def made(found: re.Match[str]) -> str:
        file = results / found[1] / "result.json"
        if not file.exists():
            return found[0]
        return f"<!-- table {found[1]} -->\n{table(json.loads(file.read_text()))}\n<!-- end -->"

    return re.sub(r"<!-- table (\S+) -->\n.*?<!-- end -->", made, text, flags=re.DOTALL)


def main() -> None:
    """Rewrites the page, and copies the pictures that it shows."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--results", type=Path, default=Path("runs/online"))
    asked = parser.parse_args()
    page = DOCS / "experiments.md"
    text = update(page.read_text(), asked.results)
    page.write_text(text)
    for name in re.findall(r"\(images/online/(\S+)\.png\)", text):
        picture = asked.results / name / "result.png"
        if picture.exists():
            (DOCS / "images/online").mkdir(parents=True, exist_ok=True)
            shutil.copyfile(picture, DOCS / f"images/online/{name}.png")


if __name__ == "__main__":
    main()
