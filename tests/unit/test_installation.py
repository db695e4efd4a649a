"""What a newcomer's first commands rest on: the scripts, the requirements, the built package."""

from __future__ import annotations

import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
import warnings
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = ("components", "datasets", "labels", "pipeline", "schema", "trainer")


def run(*command: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, cwd=ROOT, env=os.environ | environment, capture_output=True, text=True, check=False
    )


def script(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


def test_readme_names_the_commands_that_ci_runs() -> None:
    readme = (ROOT / "README.md").read_text()
    assert "make demo" in readme
    assert "make test" in readme
    assert "make test" in (ROOT / ".ci" / "run").read_text()


def test_make_help_lists_the_targets() -> None:
    listed = [line.split()[1] for line in run("make", "help").stdout.splitlines()]
    assert {"help", "demo", "test", "lint", "bench", "test-next"} <= set(listed)


SCRIPTS = sorted(path for path in (ROOT / ".ci").iterdir() if path.suffix != ".conf")


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_scripts_are_valid_and_executable(path: Path) -> None:
    assert os.access(path, os.X_OK)
    assert run("bash", "-n", str(path)).stderr == ""


@pytest.mark.parametrize(
    ("python", "line"),
    [("3.10", "1.16.0"), ("3.11", "1.21.3"), ("3.12", "1.21.3"), ("3.13", "1.21.3")],
)
def test_one_tfx_line_per_python(python: str, line: str) -> None:
    here = {"python_version": python, "python_full_version": f"{python}.2", "extra": ""}
    applying = [
        requirement
        for requirement in map(Requirement, importlib.metadata.requires("tfx-distill") or ())
        if requirement.name == "tfx"
        and (requirement.marker is None or requirement.marker.evaluate(here))
    ]
    (tfx,) = applying
    assert tfx.specifier.contains(line)
    assert not tfx.specifier.contains("1.17.0")


class TestFindPython:
    """`.ci/find-python` prints the interpreter, or says what to install."""

    def test_a_shim_that_fails_does_not_hide_pyenvs_own_python(self, tmp_path: Path) -> None:
        script(tmp_path / "bin" / "python3.77", "echo 'pyenv: command not found' >&2; exit 127")
        real = script(
            tmp_path / "pyenv" / "versions" / "3.77.1" / "bin" / "python3.77",
            'case "$2" in *version_info*) echo 3.77;; *) echo "$0";; esac',
        )
        found = run(
            ".ci/find-python",
            "3.77",
            PATH=f"{tmp_path}/bin:{os.environ['PATH']}",
            PYENV_ROOT=f"{tmp_path}/pyenv",
        )
        assert (found.returncode, found.stdout.strip()) == (0, str(real))

    def test_the_first_version_that_is_there_is_taken(self) -> None:
        here = "{}.{}".format(*sys.version_info)
        folder = str(Path(sys.executable).parent)
        found = run(".ci/find-python", "3.99", here, PATH=f"{folder}:{os.environ['PATH']}")
        assert found.returncode == 0
        version = run(found.stdout.strip(), "--version").stdout
        assert version.startswith(f"Python {here}.")

    @pytest.mark.parametrize(("release", "taken"), [("3.12.1", False), ("3.12.2", True)])
    def test_a_python_whose_garbage_collector_crashes_is_passed_over(
        self, release: str, taken: bool, tmp_path: Path
    ) -> None:
        # This Python, told that it is another release.
        version = tuple(map(int, release.split(".")))
        told = f"import sys; sys.version_info = {version}; sys.executable = sys.argv[1]"
        python = script(
            tmp_path / "bin" / "python3.12",
            f'exec {sys.executable} -c "{told}; exec(sys.argv[2])" "$0" "$2"',
        )
        found = run(
            ".ci/find-python",
            "3.12",
            PATH=f"{tmp_path}/bin:{os.environ['PATH']}",
            PYENV_ROOT=str(tmp_path),
            UV_PYTHON_INSTALL_DIR=str(tmp_path),
        )
        assert (found.stdout.strip() == str(python)) is taken

    def test_none_is_an_error_that_says_what_to_do(self) -> None:
        found = run(".ci/find-python", "3.99")
        assert (found.returncode, found.stdout) == (1, "")
        assert found.stderr.startswith("No Python 3.99 found")
        assert "Install one" in found.stderr


def test_the_wheel_holds_every_module(tmp_path: Path) -> None:
    source = tmp_path / "source"
    for name in (*FOLDERS, "src"):
        shutil.copytree(
            ROOT / name,
            source / name,
            symlinks=True,
            ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"),
        )
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    (source / "schema" / "probe.pbtxt").write_text("feature {}")

    # In a process of its own: setuptools and an already imported distutils do not go together.
    build = "import sys; from setuptools import build_meta; build_meta.build_wheel(sys.argv[1])"
    subprocess.run(
        (sys.executable, "-c", build, str(tmp_path)), cwd=source, check=True, capture_output=True
    )
    (wheel,) = tmp_path.glob("*.whl")

    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    expected = {
        f"tfx_distill/{path.relative_to(source)}"
        for folder in FOLDERS
        for path in (source / folder).rglob("*")
        if path.suffix in {".py", ".pbtxt"}
    }
    assert expected | {"tfx_distill/__init__.py", "tfx_distill/py.typed"} <= names
    assert any(name.endswith("licenses/LICENSE") for name in names)


def test_a_deprecated_call_of_ours_is_an_error_and_one_of_others_is_not() -> None:
    def warn_in(module: str) -> None:
        warnings.warn_explicit("old", DeprecationWarning, "file.py", 1, module=module)

    with pytest.raises(DeprecationWarning, match="old"):
        warn_in("tfx_distill.trainer.features")
    with pytest.warns(DeprecationWarning, match="old"):
        warn_in("keras.layers")


def test_the_index_of_decisions_links_every_record() -> None:
    folder = ROOT / "docs" / "adr"
    index = (folder / "README.md").read_text()
    records = sorted(path.name for path in folder.glob("[0-9]*.md"))
    assert records == re.findall(r"\]\((\d{4}-.*?\.md)\)", index)
