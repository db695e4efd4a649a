"""Where the artifacts of an object store are found in a container."""

from __future__ import annotations

import os
from pathlib import Path

MOUNTS = {"gs://": "/gcs/", "s3://": "/s3/", "minio://": "/minio/"}
"""To where Kubeflow's launcher copies inputs, and from where it copies outputs; Vertex AI mounts
buckets under `/gcs`.
"""
ROOT = "TFX_DISTILL_SYNCED"
"""Environment variable: a folder that stands for `/`, where steps run outside of containers."""


def local_path(uri: str, root: Path | None = None) -> str:
    """The path of an artifact; one that is a path already stays as it is.

    Args:
      uri: Of the artifact.
      root: A folder that stands for `/`; by default the one that the environment names, if any.
    """
    for scheme, mount in MOUNTS.items():
        if uri.startswith(scheme):
            below = root or Path(os.environ.get(ROOT, "/"))
            return str(below / mount[1:] / uri.removeprefix(scheme))
    return uri
