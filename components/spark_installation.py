"""What Spark needs of this machine: the package pyspark, and Java."""

from __future__ import annotations

import importlib.metadata
import os
import re
import shutil
import subprocess

from tfx_distill.schema.errors import EnvironmentProblem

JAVA_NEEDED = 17


def require() -> str:
    """The versions of pyspark and Java, in words.

    Raises:
      EnvironmentProblem: One of them is missing, or Java is too old.
    """
    return f"pyspark {_pyspark()}, Java {_java()}"


def _pyspark() -> str:
    try:
        return importlib.metadata.version("pyspark")
    except importlib.metadata.PackageNotFoundError:
        raise EnvironmentProblem(
            "pyspark",
            got="no such package",
            expected="pyspark, for the engine 'spark'",
            fix="Install the extra: pip install 'tfx-distill[spark]'. Or use the engine 'beam'.",
        ) from None


def _java() -> int:
    """Major version of the Java that Spark will start."""
    home = os.environ.get("JAVA_HOME")
    program = os.path.join(home, "bin", "java") if home else shutil.which("java") or "java"
    fix = "Install a Java runtime, for example openjdk-17-jre-headless, or set JAVA_HOME."
    try:
        # It answers on stderr.
        told = subprocess.run(
            [program, "-version"], capture_output=True, text=True, timeout=60, check=True
        ).stderr
    except (OSError, subprocess.SubprocessError) as error:
        raise EnvironmentProblem(
            "java" if home is None else f"JAVA_HOME {home}",
            got=f"no Java that starts ({type(error).__name__})",
            expected=f"Java {JAVA_NEEDED} or later, for the engine 'spark'",
            fix=fix,
        ) from None
    # "17.0.15" is 17, "1.8.0_402" is 8.
    found = re.search(r'version "(?:1\.)?(\d+)', told)
    version = int(found[1]) if found else 0
    if version < JAVA_NEEDED:
        raise EnvironmentProblem(
            program,
            got=f"Java {version}" if found else " ".join(told.split())[:200],
            expected=f"Java {JAVA_NEEDED} or later, for the engine 'spark'",
            fix=fix,
        )
    return version
