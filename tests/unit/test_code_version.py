"""Which code ran, told by the modules themselves."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tfx_distill.components.code_version import PACKAGE, code_version, digest


@pytest.fixture
def package(tmp_path: Path) -> Path:
    folder = tmp_path / "package"
    (folder / "part" / "deep").mkdir(parents=True)
    (folder / "__init__.py").write_text("")
    (folder / "part" / "one.py").write_text("x = 1\n")
    (folder / "part" / "deep" / "two.py").write_text("y = 2\n")
    return folder


def test_it_changes_with_every_module_and_with_nothing_else(package: Path) -> None:
    seen = {digest(package)}
    (package / "part" / "__pycache__").mkdir()
    (package / "part" / "__pycache__" / "one.pyc").write_bytes(b"x")
    (package / "part" / "notes.md").write_text("no code")
    assert {digest(package)} == seen
    for file, text in {
        "__init__.py": "z = 3\n",
        "part/deep/two.py": "y = 3\n",
        "part/new.py": "",
    }.items():
        (package / file).write_text(text)
        seen.add(digest(package))
    (package / "part" / "one.py").rename(package / "part" / "three.py")
    seen.add(digest(package))
    assert len(seen) == 5


def test_a_checkout_with_links_is_the_package_that_is_installed(
    package: Path, tmp_path: Path
) -> None:
    linked = tmp_path / "linked"
    linked.mkdir()
    shutil.copy(package / "__init__.py", linked)
    (linked / "part").symlink_to(package / "part")
    assert digest(linked) == digest(package)


def test_this_package_has_modules_that_count() -> None:
    assert (PACKAGE / "pipeline" / "graph.py").exists()
    assert code_version().endswith("+" + digest(PACKAGE))
