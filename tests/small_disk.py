"""A disk of a given size for a test that fills it: a tmpfs in a mount namespace of its own."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest


def mount_command(folder: Path, size: str) -> str:
    """The shell command that mounts the disk, to be run under `unshare -rm`.

    Some machines (containers without user namespaces, macOS) do not allow it: the test is then
    skipped, and says so. In CI that is a failure: there the promise has to be kept.
    """
    mount = f"mount -t tmpfs -o size={size} none {folder}"
    problem = None
    if shutil.which("unshare") is None:
        problem = "there is no `unshare` to mount a small disk with"
    elif subprocess.run(["unshare", "-rm", "sh", "-c", mount], capture_output=True).returncode:
        problem = "this machine does not allow to mount a small disk"
    if problem is not None:
        if "CI" in os.environ:
            pytest.fail(problem)
        # Elsewhere the machine may simply not allow it, and nothing of ours can change that.
        pytest.skip(problem)
    return mount
