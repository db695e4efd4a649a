"""Imports go one way: schema <- labels, datasets <- trainer, components <- pipeline <- kubeflow."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = "tfx_distill"
OWN_NAME = re.compile(rf"{PACKAGE}(\.\w+)+")

MAY_IMPORT: dict[str, set[str]] = {
    "schema": set(),
    "labels": {"schema"},
    "datasets": {"schema"},
    "trainer": {"schema", "labels"},
    "components": {"schema", "labels", "datasets", "trainer"},
    "pipeline": {"schema", "labels", "datasets", "trainer", "components"},
    "kubeflow": {"schema", "labels", "datasets", "trainer", "components", "pipeline"},
    "benchmarks": {"schema", "labels", "datasets", "trainer", "components", "pipeline"},
}
"""For each folder, the other folders whose modules it may import."""

LIBRARIES_KEPT_OUT: dict[str, set[str]] = {
    "schema": {"tensorflow", "tf_keras", "tfx", "apache_beam"},
    "labels": {"tensorflow", "tf_keras", "tfx"},
    "datasets": {"tensorflow_model_analysis", "tf_keras"},
    "trainer": {"tensorflow_model_analysis"},
}
"""The label table is read by pipelines that know nothing of TFX; contracts load in no time."""

SLOW = "tfx.v1."
"""Imports the client of Vertex AI; TFX's modules are imported where they are defined."""


def violations(root: Path) -> list[str]:
    """Every import under `root` that goes against the rules, as `file:line: imports what`."""
    found = []
    for layer, allowed in MAY_IMPORT.items():
        for path in sorted((root / layer).rglob("*.py")):
            module = (PACKAGE, *path.relative_to(root).with_suffix("").parts)
            for line, name in imported(ast.parse(path.read_text()), module):
                if forbidden(name, layer, allowed):
                    found.append(f"{path.relative_to(root)}:{line}: {layer} imports {name}")
    return found


def forbidden(name: str, layer: str, allowed: set[str]) -> bool:
    """Whether a module of `layer` must not import the module of that dotted name."""
    top, _, rest = name.partition(".")
    if (name + ".").startswith(SLOW):
        return True
    if top != PACKAGE:
        return top in LIBRARIES_KEPT_OUT.get(layer, set())
    target = rest.partition(".")[0]
    return target in MAY_IMPORT and target != layer and target not in allowed


def imported(tree: ast.Module, module: tuple[str, ...]) -> Iterator[tuple[int, str]]:
    """Line and dotted name of all that a module imports, at any depth.

    Strings that are nothing but a dotted name of this package count: TFX imports a `run_fn` by
    such a path.
    """
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(module[: -node.level]) if node.level else ""
            source = ".".join(part for part in (base, node.module) if part)
            # `from tfx_distill import labels` names a module, `from x import name` may not: the
            # longer name has the same top folder.
            yield from ((node.lineno, f"{source}.{alias.name}") for alias in node.names)
        elif isinstance(node, ast.Constant) and re.fullmatch(OWN_NAME, str(node.value)):
            yield node.lineno, str(node.value)


def test_imports_go_one_way() -> None:
    assert (ROOT / "schema" / "config.py").exists(), "looks in the wrong place"
    assert violations(ROOT) == []


def test_every_folder_of_the_package_has_a_layer() -> None:
    folders = {path.name for path in (ROOT / "src" / PACKAGE).iterdir() if path.is_dir()}
    assert folders - {"__pycache__"} <= MAY_IMPORT.keys()


def test_the_layers_have_no_cycle() -> None:
    settled: set[str] = set()
    while len(settled) < len(MAY_IMPORT):
        ready = {layer for layer, below in MAY_IMPORT.items() if below <= settled} - settled
        assert ready, f"cycle among {MAY_IMPORT.keys() - settled}"
        settled |= ready


@pytest.mark.parametrize(
    ("path", "source", "named"),
    [
        ("labels/read.py", "from tfx_distill.trainer import losses", "tfx_distill.trainer.losses"),
        ("labels/read.py", "import tfx_distill.pipeline.graph as g", "tfx_distill.pipeline.graph"),
        ("schema/a/b.py", "from ...labels import join", "tfx_distill.labels.join"),
        ("trainer/x.py", "from tfx_distill import components", "tfx_distill.components"),
        ("datasets/x.py", "def f():\n  import tfx_distill.labels", "tfx_distill.labels"),
        ("components/x.py", "RUN = 'tfx_distill.pipeline.cli.main'", "tfx_distill.pipeline.cli"),
        ("pipeline/x.py", "from tfx_distill.kubeflow import image", "tfx_distill.kubeflow.image"),
        ("labels/x.py", "import tfx.types", "tfx.types"),
        ("pipeline/x.py", "from tfx import v1 as tfx", "tfx.v1"),
    ],
)
def test_a_violation_is_found(tmp_path: Path, path: str, source: str, named: str) -> None:
    file = tmp_path / path
    file.parent.mkdir(parents=True)
    file.write_text(source)
    (found,) = violations(tmp_path)
    assert found.startswith(f"{path}:")
    assert f"imports {named}" in found


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("pipeline/cli.py", "from tfx_distill.components import labeler"),
        ("trainer/x.py", "from . import heads\nfrom ..schema import config"),
        ("labels/x.py", "'''Like tfx_distill.trainer.losses, but other.'''\nimport numpy"),
        ("components/x.py", "import tfx.types, tensorflow"),
    ],
)
def test_what_is_allowed_passes(tmp_path: Path, path: str, source: str) -> None:
    file = tmp_path / path
    file.parent.mkdir(parents=True)
    file.write_text(source)
    assert violations(tmp_path) == []
