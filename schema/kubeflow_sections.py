"""The section of the run config about Kubeflow Pipelines: where steps run, and with what."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import Annotated, Literal

from pydantic import Field, field_validator

from tfx_distill.schema.sections import PositiveFloat, Section

GPU_OF_KUBERNETES = "nvidia.com/gpu"


class Volume(Section):
    """A persistent volume claim, and where every step mounts it."""

    claim: str
    mount: str

    @field_validator("mount")
    @classmethod
    def _absolute(cls, value: str) -> str:
        if not PurePosixPath(value).is_absolute():
            raise ValueError("must be an absolute path, such as /mnt/distill")
        return value


class Toleration(Section):
    """A taint of nodes that steps may be scheduled on all the same; as in Kubernetes."""

    key: str
    operator: Literal["Equal", "Exists"] = "Equal"
    value: str | None = None
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] | None = None


class Secret(Section):
    """A Kubernetes secret whose keys become environment variables of every step."""

    name: str
    env: dict[str, str]


class StepConfig(Section):
    """What a step gets: cores, memory (in GB of 10^9 bytes), GPUs, and which nodes it may run on.

    `gpu_type` is the name of the resource on Kubernetes, that of the accelerator on Vertex AI.
    """

    cpu: PositiveFloat | None = None
    memory_gb: PositiveFloat | None = None
    gpus: Annotated[int, Field(ge=0)] = 0
    gpu_type: str = GPU_OF_KUBERNETES
    node_selector: dict[str, str] = {}
    tolerations: tuple[Toleration, ...] = ()


class KubeflowConfig(Section):
    """How the pipeline is run by Kubeflow Pipelines or Vertex AI.

    `image` holds this project. Artifacts are kept under `pipeline_root`, in an object store. Logs,
    the label table, the run folder and the pushed models are on a file system that every step sees:
    one of `volumes`, or on Vertex AI a bucket under `/gcs`. `steps` is keyed by the id of a
    component, by the part of it before the dot, or by `default`; a twin gets what its student gets,
    unless it has settings of its own. A step that fails is tried again `retries` times.
    """

    image: str
    pipeline_root: Annotated[str, Field(pattern=r"^(minio|s3|gs)://[^/]+")]
    volumes: tuple[Volume, ...] = ()
    secrets: tuple[Secret, ...] = ()
    steps: dict[str, StepConfig] = {}
    retries: Annotated[int, Field(ge=0)] = 1

    def step(self, component: str) -> StepConfig:
        """What a component gets."""
        names = [component]
        if component.startswith("TwinTrainer"):
            names.append(component.replace("Twin", "Student", 1))
        keys = [key for name in names for key in (name, name.partition(".")[0])]
        found = (self.steps[key] for key in (*keys, "default") if key in self.steps)
        return next(found, StepConfig())
