"""The doctor finds nothing on a sound installation, and names the fix of each thing broken."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import shutil
import sys
import types
from pathlib import Path

import pytest

from tfx_distill.pipeline import doctor


def finding(name: str, folder: Path = Path("/")) -> doctor.Finding:
    return doctor._found(name, doctor.CHECKS[name], folder)


def test_this_installation_is_sound(tmp_path: Path) -> None:
    findings = doctor.examine(tmp_path / "not" / "there" / "yet")
    assert [f.name for f in findings] == list(doctor.CHECKS)
    assert [f for f in findings if not f.ok or f.fix or not f.detail] == []
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("python", "glibc", "ok"),
    [
        ((3, 10, 13), "2.17", True),
        ((3, 10, 13), "2.9", False),
        ((3, 12, 1), "2.39", True),
        ((3, 12, 1), "2.36", False),
        ((3, 12, 1), "2.100", True),
    ],
)
def test_each_tfx_line_has_its_glibc(
    monkeypatch: pytest.MonkeyPatch, python: tuple[int, ...], glibc: str, ok: bool
) -> None:
    monkeypatch.setattr(sys, "version_info", python)
    monkeypatch.setattr(os, "confstr", lambda name: f"glibc {glibc}")
    found = finding("glibc")
    assert found.ok == ok
    if not ok:
        assert f"got glibc {glibc}" in found.detail
        assert "make test-next" in found.fix


def test_another_c_library_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(name: str) -> str:
        raise ValueError("unrecognized configuration name")

    monkeypatch.setattr(os, "confstr", unknown)
    assert "no glibc" in finding("glibc").detail


@pytest.mark.parametrize(
    ("python", "tfx", "ok"),
    [
        ((3, 10, 13), "1.16.0", True),
        ((3, 10, 13), "1.21.0", False),
        ((3, 13, 0), "1.21.0", True),
        ((3, 13, 0), "1.16.0", False),
        ((3, 14, 0), "1.21.0", False),
        ((3, 9, 18), "1.16.0", False),
    ],
)
def test_tfx_is_of_the_line_of_its_python(
    monkeypatch: pytest.MonkeyPatch, python: tuple[int, ...], tfx: str, ok: bool
) -> None:
    monkeypatch.setattr(sys, "version_info", python)
    monkeypatch.setattr(importlib.metadata, "version", lambda name: tfx)
    found = finding("python")
    assert found.ok == ok
    assert ok or "make setup" in found.fix


def test_a_library_that_does_not_import_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "deltalake", None)
    found = finding("imports")
    assert not found.ok
    assert found.detail.startswith("import deltalake: got ModuleNotFoundError")
    assert found.fix == doctor.REBUILD


def test_what_a_broken_library_raises_is_a_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    broken = types.ModuleType("deltalake")
    monkeypatch.setitem(sys.modules, "deltalake", broken)
    found = finding("label table")
    assert found == doctor.Finding("label table", False, found.detail, doctor.REBUILD)
    assert found.detail.startswith("AttributeError: module 'deltalake'")


def test_a_component_that_tfx_hid_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    from tfx.v1 import components

    monkeypatch.setattr(components, "Trainer", None)
    found = finding("components")
    assert not found.ok
    assert "None for Trainer" in found.detail
    assert found.fix == doctor.REBUILD


def test_tf_keras_of_another_release_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    versions = {"tf-keras": "2.21.0", "tensorflow": "2.16.2"}
    monkeypatch.setattr(importlib.metadata, "version", versions.__getitem__)
    assert "got 2.21.0; expected the release of TensorFlow 2.16.2" in finding("keras").detail


def test_a_beam_that_computes_something_else_is_a_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    import apache_beam as beam

    monkeypatch.setattr(beam, "CombineGlobally", lambda combine: beam.Map(lambda number: number))
    found = finding("beam")
    assert not found.ok
    assert "[6] == [1, 2, 3]" in found.detail


def test_source_without_bytecode_names_the_command(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    package = types.SimpleNamespace(origin=str(tmp_path / "tensorflow" / "__init__.py"))
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: package)
    found = finding("bytecode")
    assert found.fix == f"{sys.executable} -m compileall -q -j 0 {tmp_path}"


def test_a_full_disk_is_named_with_the_space_needed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(
        shutil, "disk_usage", lambda path: types.SimpleNamespace(free=doctor.DISK_NEEDED - 1)
    )
    found = finding("disk", tmp_path)
    assert (found.ok, found.detail) == (False, f"{tmp_path}: got 5.0 GiB free; expected 5 GiB")
    assert "another disk" in found.fix


def test_too_little_memory_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "_memory_available", lambda: doctor.GIB)
    assert finding("memory").detail == "memory: got 1.0 GiB available; expected 4 GiB"


def test_available_memory_is_what_the_kernel_has() -> None:
    physical = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    assert 0 < doctor._memory_available() <= physical


def test_a_root_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    occupied = tmp_path / "file"
    occupied.touch()
    found = finding("write", occupied / "runs")
    assert not found.ok
    assert found.detail.startswith(f"{occupied}: got Not a directory")
    assert "'root'" in found.fix
