"""Examines the machine and the installation: what would stop a run, and how to mend it.

Each check does a little of what a run does, rather than read a version number, wherever that takes
only seconds. Nothing of the run's libraries is imported before its check, so that the doctor still
speaks where they are broken.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import os
import shutil
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

from tfx_distill.schema.errors import EnvironmentProblem

REBUILD = "Build the environment anew from the lock: make clean, then make setup."

GIB = 2**30
DISK_NEEDED = 5 * GIB
MEMORY_NEEDED = 4 * GIB
"""Bytes. A demo run writes under 1 GiB and its largest step takes up to 2.5 GiB of memory."""


@dataclass(frozen=True)
class Finding:
    """What one check found: `detail` says what was seen, `fix` what to do (empty when ok)."""

    name: str
    ok: bool
    detail: str
    fix: str = ""


@dataclass(frozen=True)
class TfxLine:
    """A release line of TFX and what it runs on."""

    tfx: str
    glibc: tuple[int, int]
    modules: tuple[str, ...]


MODULES = (
    "tensorflow",
    "tf_keras",
    "tensorflow_transform",
    "tensorflow_model_analysis",
    "tensorflow_data_validation",
    "tfx_bsl.public.tfxio",
    "apache_beam",
    "ml_metadata",
    "tfx.v1",
    "pyarrow.parquet",
    "deltalake",
)
DEFAULT_LINE = TfxLine(tfx="1.16", glibc=(2, 17), modules=("dill", *MODULES))
NEXT_LINE = TfxLine(tfx="1.21", glibc=(2, 39), modules=MODULES)


def line_of_python() -> TfxLine:
    """The TFX line that the running Python is meant for."""
    return DEFAULT_LINE if sys.version_info < (3, 11) else NEXT_LINE


def examine(root: str | os.PathLike[str] = "runs") -> list[Finding]:
    """Checks the machine and the installation; takes about half a minute, most of it imports.

    Args:
      root: The folder where runs are to be written; it need not exist yet.
    """
    folder = Path(root).absolute()
    return [_found(name, check, folder) for name, check in CHECKS.items()]


def _found(name: str, check: Callable[[Path], str], folder: Path) -> Finding:
    try:
        return Finding(name, ok=True, detail=check(folder))
    except EnvironmentProblem as problem:
        detail = f"{problem.where}: got {problem.got}; expected {problem.expected}"
        return Finding(name, ok=False, detail=detail, fix=problem.fix)
    except Exception as error:  # noqa: BLE001 - whatever breaks is what the doctor is asked about
        reason = " ".join(str(error).split())[:300]
        return Finding(name, ok=False, detail=f"{type(error).__name__}: {reason}", fix=REBUILD)


def check_python(_: Path) -> str:
    """Python is supported, and the TFX beside it is of the line meant for it."""
    version = ".".join(map(str, sys.version_info[:3]))
    crashes = (3, 12, 0) <= sys.version_info < (3, 12, 2)  # in the garbage collector
    if crashes or not (3, 10) <= sys.version_info < (3, 14):
        raise EnvironmentProblem(
            sys.executable,
            got=f"Python {version}",
            expected="Python 3.10 to 3.13, not 3.12.0 and 3.12.1",
            fix="Install Python 3.10, then: make setup.",
        )
    wanted = line_of_python().tfx
    installed = importlib.metadata.version("tfx")
    if not installed.startswith(f"{wanted}."):
        raise EnvironmentProblem(
            "tfx", got=installed, expected=f"{wanted} beside Python {version}", fix=REBUILD
        )
    return f"Python {version}, tfx {installed}"


def check_glibc(_: Path) -> str:
    """The C library is new enough for the wheels of this TFX line."""
    line = line_of_python()
    needed = ".".join(map(str, line.glibc))
    found = _glibc()
    if found is None or tuple(map(int, found.split(".")[:2])) < line.glibc:
        raise EnvironmentProblem(
            "C library",
            got=f"glibc {found}" if found else "no glibc",
            expected=f"glibc {needed} or newer for tfx {line.tfx}",
            fix="Use Python 3.10 (make setup), which needs glibc 2.17 only, or the environment "
            "that brings its own glibc (make test-next builds it in .venv-next).",
        )
    return f"glibc {found}"


def _glibc() -> str | None:
    try:
        return (os.confstr("CS_GNU_LIBC_VERSION") or "").removeprefix("glibc ") or None
    except (ValueError, OSError):  # the C library is another
        return None


def check_imports(_: Path) -> str:
    """Every library imports."""
    modules = line_of_python().modules
    for name in modules:
        try:
            importlib.import_module(name)
        except Exception as error:
            raise EnvironmentProblem(
                f"import {name}",
                got=f"{type(error).__name__}: {' '.join(str(error).split())[:300]}",
                expected="a module",
                fix=REBUILD,
            ) from error
    return f"{len(modules)} libraries"


def check_components(_: Path) -> str:
    """No TFX component is None: `tfx.v1` hides the import errors of its components."""
    components = importlib.import_module("tfx.v1.components")
    public = {k: v for k, v in vars(components).items() if not k.startswith("_")}
    hidden = sorted(name for name, value in public.items() if value is None)
    if hidden:
        raise EnvironmentProblem(
            "tfx.v1.components",
            got=f"None for {', '.join(hidden)}",
            expected="a class for each",
            fix=REBUILD,
        )
    return f"{sum(isinstance(value, type) for value in public.values())} components"


def check_keras(_: Path) -> str:
    """tf_keras is of TensorFlow's release; another one fails while saving models."""
    keras, tensorflow = (importlib.metadata.version(name) for name in ("tf-keras", "tensorflow"))
    if keras.split(".")[:2] != tensorflow.split(".")[:2]:
        raise EnvironmentProblem(
            "tf-keras", got=keras, expected=f"the release of TensorFlow {tensorflow}", fix=REBUILD
        )
    return f"tf-keras {keras}, TensorFlow {tensorflow}"


def check_label_table(_: Path) -> str:
    """Labels are written, committed to a Delta table and joined again."""
    import deltalake
    import numpy as np
    import pyarrow as pa

    from tfx_distill.labels.commit import commit
    from tfx_distill.labels.join import LabelJoiner
    from tfx_distill.labels.partition import Partition
    from tfx_distill.labels.provenance import Provenance
    from tfx_distill.labels.shard import LabelShardWriter

    ids, logits = np.array([1, 2], np.int64), np.array([0.5, -0.5], np.float32)
    kinds = {"click": "binary"}
    with tempfile.TemporaryDirectory() as folder:
        partition = Partition("doctor", 0, "train")
        scored_at = datetime.now(timezone.utc)
        with LabelShardWriter(folder, partition, "part-0", kinds, scored_at) as writer:
            writer.write(ids, {"click": logits}, np.zeros(2, np.float32))
        snapshot = commit(folder, [writer.shard], Provenance("doctor", "", "", "", "", None))
        found, present = LabelJoiner(snapshot, "train", kinds).join("part-0", ids[::-1])
    if not present.all() or found["click"].tolist() != [-0.5, 0.5]:
        raise EnvironmentProblem(
            "label table", got=str(found["click"]), expected="[-0.5, 0.5]", fix=REBUILD
        )
    return f"deltalake {deltalake.__version__}, pyarrow {pa.__version__}"


def check_beam(_: Path) -> str:
    """A pipeline runs in Beam's in-process runner."""
    import apache_beam as beam
    from apache_beam.testing.util import assert_that, equal_to

    with beam.Pipeline(runner="FnApiRunner", argv=[]) as pipeline:
        total = pipeline | beam.Create([1, 2, 3]) | beam.CombineGlobally(sum)
        assert_that(total, equal_to([6]))
    return f"apache-beam {beam.__version__}"


def check_metadata(_: Path) -> str:
    """ML Metadata writes to an SQLite file and reads it back."""
    from ml_metadata import MetadataStore
    from ml_metadata.proto import metadata_store_pb2 as mlmd

    with tempfile.TemporaryDirectory() as folder:
        config = mlmd.ConnectionConfig()
        config.sqlite.filename_uri = f"{folder}/metadata.db"
        written = MetadataStore(config).put_artifact_type(mlmd.ArtifactType(name="Probe"))
        read = MetadataStore(config).get_artifact_type("Probe").id
    if read != written:
        raise EnvironmentProblem(
            "ML Metadata", got=f"type {read}", expected=f"type {written}", fix=REBUILD
        )
    return f"ml-metadata {importlib.metadata.version('ml-metadata')}"


def check_bytecode(_: Path) -> str:
    """TensorFlow's Python files are compiled: else each process spends seconds on that."""
    package = importlib.util.find_spec("tensorflow")
    if package is None or package.origin is None:
        raise EnvironmentProblem(
            "tensorflow", got="no such package", expected="TensorFlow", fix=REBUILD
        )
    source = Path(package.origin).parent / "python" / "framework" / "ops.py"
    if not Path(importlib.util.cache_from_source(str(source))).exists():
        packages = Path(package.origin).parents[1]
        raise EnvironmentProblem(
            str(source),
            got="no compiled bytecode",
            expected="bytecode beside it: imports are three times as fast",
            fix=f"{sys.executable} -m compileall -q -j 0 {packages}",
        )
    return "compiled"


def check_report(_: Path) -> str:
    """What the report draws with is there."""
    from tfx_distill.pipeline.report import assets

    assets.facets("js")
    return f"Vega, and Facets in {assets.FACETS_FOLDER}"


def check_spark(_: Path) -> str:
    """Whether the engine `spark` can be used; all else does without it."""
    from tfx_distill.components import spark_installation

    try:
        return spark_installation.require()
    except EnvironmentProblem as problem:
        return (
            f"not to be had, and only the engine 'spark' needs it: {problem.where}: {problem.got}"
        )


def check_disk(folder: Path) -> str:
    """There is room for runs."""
    free = shutil.disk_usage(_existing(folder)).free
    if free < DISK_NEEDED:
        raise EnvironmentProblem(
            str(folder),
            got=f"{free / GIB:.1f} GiB free",
            expected=f"{DISK_NEEDED / GIB:.0f} GiB",
            fix="Free some space, or set 'root' in the run config to a folder on another disk.",
        )
    return f"{free / GIB:.0f} GiB free under {_existing(folder)}"


def check_memory(_: Path) -> str:
    """There is memory for the largest step, within the limit of a container too."""
    available = _memory_available()
    if available < MEMORY_NEEDED:
        raise EnvironmentProblem(
            "memory",
            got=f"{available / GIB:.1f} GiB available",
            expected=f"{MEMORY_NEEDED / GIB:.0f} GiB",
            fix="Close other programs, or raise the memory limit of the container.",
        )
    return f"{available / GIB:.0f} GiB available"


def _memory_available() -> int:
    """Bytes, by the kernel's estimate and the limit of the control group, whichever is less."""
    fields = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
    available = int(fields["MemAvailable"].split()[0]) * 1024
    group = Path("/sys/fs/cgroup")
    try:
        limit = int((group / "memory.max").read_text())
        available = min(available, limit - int((group / "memory.current").read_text()))
    except (OSError, ValueError):  # no control group, or the limit is "max"
        pass
    return available


def check_write(folder: Path) -> str:
    """Runs can be written."""
    parent = _existing(folder)
    try:
        with tempfile.TemporaryFile(dir=parent) as file:
            file.write(b"\0")
    except OSError as error:
        raise EnvironmentProblem(
            str(parent),
            got=error.strerror or str(error),
            expected="a folder that can be written to",
            fix="Change its permissions, or set 'root' in the run config to another folder.",
        ) from error
    return str(folder)


def _existing(folder: Path) -> Path:
    """The folder, or the nearest one above it that is there."""
    return next(path for path in (folder, *folder.parents) if path.exists())


CHECKS: dict[str, Callable[[Path], str]] = {
    "python": check_python,
    "glibc": check_glibc,
    "disk": check_disk,
    "memory": check_memory,
    "write": check_write,
    "report": check_report,
    "spark": check_spark,
    "bytecode": check_bytecode,
    "imports": check_imports,
    "components": check_components,
    "keras": check_keras,
    "label table": check_label_table,
    "beam": check_beam,
    "metadata": check_metadata,
}
"""By name, the cheap ones first."""
