"""The notebooks of the documentation as they are kept: valid, without outputs, each cell explained.

`tests/e2e/test_notebook.py` runs them.
"""

from __future__ import annotations

import re
from pathlib import Path

import nbformat
import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
NOTEBOOKS = sorted((REPOSITORY / "docs/notebooks").glob("*.ipynb"))


def test_there_is_one():
    assert NOTEBOOKS


@pytest.fixture(params=NOTEBOOKS, ids=lambda file: file.stem)
def file(request):
    return request.param


@pytest.fixture
def notebook(file):
    return nbformat.read(file, as_version=nbformat.NO_CONVERT)


def test_it_is_written_as_jupyter_writes_it(file, notebook):
    nbformat.validate(notebook)
    assert file.read_text() == nbformat.writes(notebook) + "\n"


def test_it_has_no_outputs(notebook):
    # Jupyter keeps the state of widgets here, megabytes of it.
    assert set(notebook.metadata) == {"kernelspec", "language_info"}
    for cell in notebook.cells:
        assert cell.metadata == {}, cell.id
        if cell.cell_type == "code":
            assert cell.outputs == [], cell.id
            assert cell.execution_count is None, cell.id


def test_every_cell_of_code_follows_a_text(notebook):
    kinds = [cell.cell_type for cell in notebook.cells]
    for place, kind in enumerate(kinds):
        assert kind == "markdown" or kinds[place - 1] == "markdown", notebook.cells[place].id


def test_links_lead_somewhere(file, notebook):
    links = [
        link
        for cell in notebook.cells
        if cell.cell_type == "markdown"
        for link in re.findall(r"\]\(([^)\s]+)\)", cell.source)
    ]
    assert links
    for link in links:
        name, _, anchor = link.partition("#")
        page = file.parent / name
        assert page.is_file(), link
        headings = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
        assert not anchor or anchor in [h.lower().replace(" ", "-") for h in headings], link
