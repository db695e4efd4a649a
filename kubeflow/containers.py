"""What a step's container is, and what it needs of Kubernetes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from tfx_distill.schema.kubeflow_sections import KubeflowConfig

Target = Literal["kfp", "vertex"]
_ON_BUCKETS = {"MOUNT_ALLOW_UNSAFE_RENAME": "true"}
"""Has Delta Lake commit by renaming: a mounted bucket has no hard links."""


def container(
    settings: KubeflowConfig,
    component: str,
    module: str,
    arguments: Sequence[str],
    target: Target,
) -> dict[str, Any]:
    """The container of a step, as a pipeline spec has it.

    Args:
      settings: The section `kubeflow`.
      component: By which cores, memory and GPUs are looked up.
      module: What Python runs.
      arguments: Of the module.
      target: Where it runs.
    """
    step = settings.step(component)
    content: dict[str, Any] = {
        "image": settings.image,
        "command": ["python", "-m", module],
        "args": list(arguments),
    }
    if target == "vertex":
        content["env"] = [{"name": name, "value": value} for name, value in _ON_BUCKETS.items()]
    resources: dict[str, Any] = {}
    if step.cpu is not None:
        resources["cpuLimit"] = step.cpu
    if step.memory_gb is not None:
        resources["memoryLimit"] = step.memory_gb
    if step.gpus:
        resources["accelerator"] = {"count": str(step.gpus), "type": step.gpu_type}
    if resources:
        content["resources"] = resources
    return content


def kubernetes(settings: KubeflowConfig, component: str) -> dict[str, Any]:
    """Volumes, secrets and nodes of a step, as the platform spec of Kubernetes has them."""
    step = settings.step(component)
    content: dict[str, Any] = {
        "pvcMount": [
            {"constant": volume.claim, "mountPath": volume.mount} for volume in settings.volumes
        ],
        "secretAsEnv": [
            {
                "secretName": secret.name,
                "keyToEnv": [
                    {"secretKey": key, "envVar": variable} for variable, key in secret.env.items()
                ],
            }
            for secret in settings.secrets
        ],
        "tolerations": [t.model_dump(exclude_none=True) for t in step.tolerations],
    }
    if step.node_selector:
        content["nodeSelector"] = {"labels": dict(step.node_selector)}
    return {key: value for key, value in content.items() if value}
