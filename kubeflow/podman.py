"""Steps of a compiled pipeline as real containers on this machine, by podman."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence

from tfx_distill.kubeflow.local_cluster import Command, Runner
from tfx_distill.schema.errors import EnvironmentProblem


def podman_runner(podman: str = "podman") -> Runner:
    """Runs each step in a container of its image.

    A container has no network, and of the files of this machine only the artifacts that its step
    declares, which it cannot change, the folder for what it makes, and the volumes. Its own file
    system cannot be written to, but for `/tmp`. It runs as the user who runs this, or as the user
    of the image if that is root; volumes have to be writable by that user.

    Args:
      podman: The program.

    Raises:
      EnvironmentProblem: There is no such program.
    """
    if shutil.which(podman) is None:
        raise EnvironmentProblem(
            podman,
            got="no such program",
            expected="podman, which runs the containers",
            fix="Install it, for example with `apt-get install podman`, or name it by --podman.",
        )

    def run(command: Command) -> int:
        # As the folders are that Kubeflow gives to its launcher: for whichever user an image has.
        command.written.chmod(0o777)
        return subprocess.run([podman, *_arguments(command)], check=False).returncode

    return run


def _arguments(command: Command) -> Sequence[str]:
    program, *arguments = command.arguments
    mounts = [
        *(f"{stored}:{path}:ro" for path, stored in command.inputs.items()),
        f"{command.written}:{command.output}",
        *(f"{path}:{path}" for path in command.volumes),
    ]
    return [
        "run",
        "--rm",
        "--network=none",
        "--read-only",
        "--cap-drop=all",
        "--security-opt=no-new-privileges",
        *([] if os.getuid() == 0 else ["--userns=keep-id"]),
        *(f"--volume={mount}" for mount in mounts),
        *(f"--env={name}={value}" for name, value in command.environment.items()),
        f"--entrypoint={program}",
        command.image,
        *arguments,
    ]
