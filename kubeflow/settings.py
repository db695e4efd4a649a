"""Whether a run config can run on a cluster, by the config alone: before TFX is imported."""

from __future__ import annotations

from pathlib import PurePosixPath

from tfx_distill.kubeflow.containers import Target
from tfx_distill.schema.config import RunConfig
from tfx_distill.schema.errors import ConfigError
from tfx_distill.schema.kubeflow_sections import GPU_OF_KUBERNETES, KubeflowConfig

OF_STUDENTS = (
    "StudentTrainer",
    "TwinTrainer",
    "StudentEvaluator",
    "StudentGate",
    "ServingValidator",
    "Pusher",
)
STEPS = (
    "prepare",
    "ImportSchemaGen",
    "SpanExampleGen",
    "StatisticsGen",
    "ExampleValidator",
    "Transform",
    "VocabularyRefresher",
    "FeatureMaterializer",
    "TeacherTrainer",
    "TeacherEvaluator",
    "TeacherGate",
    "TeacherLabeler",
    "LabelImporter",
    *OF_STUDENTS,
    "finish",
    "submit",
)
"""What can have a section in `kubeflow.steps`, besides `default`."""


def section_of(config: RunConfig) -> KubeflowConfig:
    """The section `kubeflow`.

    Raises:
      ConfigError: There is none.
    """
    if config.kubeflow is None:
        raise ConfigError(
            "kubeflow",
            got="a config without the section 'kubeflow'",
            expected="an image and a pipeline root at least",
            fix="Add the section; docs/kubeflow.md has one.",
        )
    return config.kubeflow


def runnable_settings(config: RunConfig, target: Target) -> KubeflowConfig:
    """The section `kubeflow` of a config that can run on that target.

    Raises:
      ConfigError: It cannot.
    """
    settings = section_of(config)
    _refuse_unknown_steps(config, settings)
    if target == "vertex":
        _refuse_what_vertex_lacks(settings)
        mounts = ["/gcs"]
    else:
        mounts = [volume.mount for volume in settings.volumes]
    _refuse_paths_elsewhere(config, mounts)
    if config.stream is not None and config.labels.order == "train_then_score":
        raise ConfigError(
            "labels.order",
            got="'train_then_score' for Kubeflow",
            expected="'score_then_train'",
            fix="Which teacher labels a span would depend on a gate of the same run, but what a "
            "compiled pipeline reads is fixed before: use 'score_then_train', or run the stream "
            "with `distill watch`.",
        )
    return settings


def _refuse_unknown_steps(config: RunConfig, settings: KubeflowConfig) -> None:
    students = [student.name for student in config.students]
    of_one = [f"{step}.{student}" for step in OF_STUDENTS for student in students]
    for key in settings.steps:
        if key not in ("default", *STEPS, *of_one):
            base = key.partition(".")[0]
            known = [one for one in of_one if one.startswith(f"{base}.")] or ["default", *STEPS]
            raise ConfigError(
                f"kubeflow.steps.{key}",
                got="no step of this pipeline",
                expected=f"one of {', '.join(known)}",
                fix="Correct the key; the ids are those of the progress lines of `distill run`.",
            )


def _refuse_what_vertex_lacks(settings: KubeflowConfig) -> None:
    if settings.volumes or settings.secrets:
        raise ConfigError(
            "kubeflow",
            got="'volumes' or 'secrets' for Vertex AI",
            expected="neither: it mounts buckets under /gcs, and service accounts open them",
            fix="Remove them, and put logs and run folder under /gcs/BUCKET.",
        )
    if not settings.pipeline_root.startswith("gs://"):
        raise ConfigError(
            "kubeflow.pipeline_root",
            got=settings.pipeline_root,
            expected="a bucket of Google Cloud, for Vertex AI",
            fix="Set it, for example to gs://BUCKET/FOLDER.",
        )
    for key, step in settings.steps.items():
        if step.node_selector or step.tolerations:
            raise ConfigError(
                f"kubeflow.steps.{key}",
                got="'node_selector' or 'tolerations' for Vertex AI",
                expected="neither: it has no nodes to choose from",
                fix="Remove them; `cpu`, `memory_gb` and `gpu_type` choose the machine.",
            )
        if step.gpus and step.gpu_type == GPU_OF_KUBERNETES:
            raise ConfigError(
                f"kubeflow.steps.{key}.gpu_type",
                got=f"{step.gpu_type!r}, a resource of Kubernetes",
                expected="an accelerator of Vertex AI",
                fix="Set it, for example to NVIDIA_L4.",
            )


def _refuse_paths_elsewhere(config: RunConfig, mounts: list[str]) -> None:
    paths = {
        "data.spans": config.data.spans,
        "root": config.root,
        "push.directory": config.push.directory,
    }
    if "://" not in config.label_table:
        paths["labels.table"] = config.label_table
    for where, path in paths.items():
        if not any(PurePosixPath(path).is_relative_to(mount) for mount in mounts):
            raise ConfigError(
                where,
                got=path,
                expected=f"a path under {' or '.join(mounts) or 'a volume'}, which every step sees",
                fix="Name the path as it is in the containers"
                + ("." if mounts else ", and add its claim to `kubeflow.volumes`."),
            )
