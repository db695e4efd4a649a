"""Follows every page of the documentation: runs its blocks in order, in a project that has run.

docs/README.md says how the blocks are marked; `tests/doc_blocks.py` reads them.
"""

from __future__ import annotations

import os
import re
import select
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from doc_blocks import PAGES, REPOSITORY, Block, blocks

SECONDS = 300
# The first test makes the runs that the pages speak of.
pytestmark = pytest.mark.timeout(1500)


@pytest.fixture(scope="module")
def finished_run(tiny_run):
    """The tiny run; its summary is put back afterwards, since a page runs the pipeline again."""
    summary = tiny_run.config.run_folder / "summary.json"
    content = summary.read_bytes()
    yield tiny_run
    summary.write_bytes(content)


@pytest.fixture
def project(finished_run, story, tmp_path):
    """The folder that the pages speak of: configs, data, finished runs and pushed models."""
    source = finished_run.project
    (tmp_path / "configs").mkdir()
    shutil.copy(source.file, tmp_path / "configs/video.yaml")
    shutil.copy(REPOSITORY / "configs/movielens.yaml", tmp_path / "configs")
    for name in ("stream.yaml", "students.yaml"):
        shutil.copy(story.project.folder / name, tmp_path)
    shutil.copytree(source.folder / "data", tmp_path / "data")
    # Metadata names files by absolute path: the run itself cannot be copied.
    (tmp_path / "runs").symlink_to(source.folder / "runs")
    (tmp_path / "serving").mkdir()
    (tmp_path / "serving/video").symlink_to(source.folder / "serving")
    return tmp_path


def environment():
    """As in a terminal in which the virtual environment is activated."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return os.environ | {"PATH": path, "COLUMNS": "100"}


def command(block):
    if block.language == "python":
        return [sys.executable, "-c", block.content]
    return ["bash", "-euo", "pipefail", "-c", block.content]


def run(block, folder):
    """Output of a block, which must end well, or must not where it is marked so."""
    done = subprocess.run(
        command(block),
        cwd=folder,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=SECONDS,
    )
    failed = block.treatment == "run to failure"
    assert (done.returncode != 0) == failed, f"{block} ended with {done.returncode}:\n{done.stdout}"
    assert not failed or "Traceback" not in done.stdout, f"{block}:\n{done.stdout}"
    return done.stdout


def serve(block, folder):
    """Starts a server, waits for the address that it prints, and stops it."""
    server = subprocess.Popen(
        command(block),
        cwd=folder,
        env=environment() | {"PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    printed = ""
    deadline = time.monotonic() + 120
    try:
        while "http://" not in printed:
            ready, _, _ = select.select([server.stdout], [], [], deadline - time.monotonic())
            part = os.read(server.stdout.fileno(), 65_536).decode() if ready else ""
            assert part, f"{block} served nothing:\n{printed}"
            printed += part
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        server.wait(timeout=30)
        server.stdout.close()


def normal(line):
    """A line without what differs from run to run: numbers, and widths of tables."""
    line = re.sub(r"\d+(?:[.,:]\d+)*", "0", line)
    return re.sub(r"[━─]+", "─", re.sub(r"\s+", " ", line)).strip()


def refuse_invention(block, output):
    """The lines of a shown output occur in the real one, in order; `...` stands for anything."""
    lines = [normal(line) for line in output.splitlines()]
    place = 0
    for shown in block.content.splitlines():
        if not shown.strip() or shown.strip() == "...":
            continue
        pattern = re.compile(re.escape(normal(shown)).replace(r"\.\.\.", ".*"))
        place = next((i for i in range(place, len(lines)) if pattern.fullmatch(lines[i])), -1) + 1
        assert place, f"{block} shows {shown!r}, which is not (or not there) in:\n{output}"


def follow(page, folder):
    output = ""
    for block in blocks(page):
        treatment = block.treatment
        if treatment in ("run", "run to failure"):
            output = run(block, folder)
        elif treatment == "serve":
            serve(block, folder)
        elif treatment == "save":
            file = folder / block.note
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(block.content)
        elif treatment == "compare":
            refuse_invention(block, output)
        else:
            # `tests/unit/test_docs.py` looks at these.
            assert treatment in ("leave out", "check as config", "ignore"), block


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(REPOSITORY)))
def test_the_page_can_be_followed(page, project):
    follow(page, project)


@pytest.mark.parametrize(
    ("language", "note", "content"),
    [
        ("bash", "", "false\n"),
        ("bash", "", "false | true\n"),
        ("bash", "fails", "true\n"),
        ("bash", "server", "echo up\n"),
        ("python", "", "assert False\n"),
        ("text", "", "another output\n"),
        ("text", "", "second\nfirst\n"),
    ],
)
def test_a_page_that_is_wrong_fails(language, note, content, tmp_path, monkeypatch):
    wrong = Block(REPOSITORY / "docs/wrong.md", 1, language, note, content)
    right = Block(REPOSITORY / "docs/wrong.md", 1, "bash", "", "echo first; echo second\n")
    monkeypatch.setattr(sys.modules[__name__], "blocks", lambda page: [right, wrong])
    with pytest.raises(AssertionError, match=r"docs/wrong\.md:1"):
        follow(wrong.page, tmp_path)
