"""Compiled pipelines: as they were, whole, and free of what a cluster does not have."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from compiled import REPOSITORY, config, run_before

from tfx_distill.components import teacher_resolver, window_resolver
from tfx_distill.kubeflow.compilation import compile_pipeline
from tfx_distill.kubeflow.settings import STEPS
from tfx_distill.pipeline import span_records
from tfx_distill.schema.errors import ConfigError
from tfx_distill.schema.kubeflow_sections import KubeflowConfig

GOLDEN = REPOSITORY / "tests/golden"
SHAPES = ("batch", "bootstrap", "online", "students", "vertex")


@pytest.fixture(autouse=True)
def nothing_expired(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (window_resolver, teacher_resolver):
        monkeypatch.setattr(module, "is_readable", lambda uri: True)


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Every shape. The volume has to be at one place, lest the text depends on the machine."""
    with pytest.MonkeyPatch.context() as patch:
        for module in (window_resolver, teacher_resolver):
            patch.setattr(module, "is_readable", lambda uri: True)
        return dict(_compiled(tmp_path_factory.mktemp("volume"), patch))


def _compiled(volume: Path, patch: pytest.MonkeyPatch) -> Iterator[tuple[str, str]]:
    yield "batch", compile_pipeline(config("video"), "kfp")
    yield "bootstrap", compile_pipeline(config("stream"), "kfp")
    yield (
        "students",
        compile_pipeline(config("stream_students"), "kfp", students_only=True),
    )
    settings = {"image": "region-docker.pkg.dev/p/r/i:1", "pipeline_root": "gs://bucket/root"}
    on_vertex = config("video", "/gcs/bucket", kubeflow=settings)
    yield "vertex", compile_pipeline(on_vertex, "vertex")
    stream = config("stream", volume)
    run_before(stream, span=1, first_id=1)
    ended = type("Record", (), {})()
    patch.setattr(span_records, "read", lambda folder: {1: ended})
    patch.setattr(span_records, "state", lambda record: "done")
    text = compile_pipeline(stream, "kfp", span=2)
    yield "online", text.replace(str(volume), "/mnt/distill")


@pytest.mark.parametrize("shape", SHAPES)
def test_it_is_compiled_as_before(compiled: dict[str, str], shape: str) -> None:
    """Look at the difference; if it is meant, write the files anew with UPDATE_GOLDEN=1."""
    file = GOLDEN / f"{shape}.yaml"
    if os.environ.get("UPDATE_GOLDEN"):
        file.write_text(compiled[shape])
    assert compiled[shape] == file.read_text()


def spec_of(text: str) -> dict[str, Any]:
    return next(iter(yaml.safe_load_all(text)))


@pytest.mark.parametrize("shape", SHAPES)
def test_every_input_has_a_producer_that_has_run(compiled: dict[str, str], shape: str) -> None:
    spec = spec_of(compiled[shape])
    tasks = spec["root"]["dag"]["tasks"]
    for name, task in tasks.items():
        component = spec["components"][task["componentRef"]["name"]]
        assert component["executorLabel"] in spec["deploymentSpec"]["executors"]
        declared = component.get("inputDefinitions", {})
        wired = task.get("inputs", {})
        for kind in ("artifacts", "parameters"):
            assert declared.get(kind, {}).keys() == wired.get(kind, {}).keys(), name
        for key, source in wired.get("artifacts", {}).items():
            made = source["taskOutputArtifact"]
            producer = spec["components"][tasks[made["producerTask"]]["componentRef"]["name"]]
            output = producer["outputDefinitions"]["artifacts"][made["outputArtifactKey"]]
            assert output["artifactType"] == declared["artifacts"][key]["artifactType"], name
        for source in wired.get("parameters", {}).values():
            if "componentInputParameter" in source:
                parameters = spec["root"]["inputDefinitions"]["parameters"]
                assert source["componentInputParameter"] in parameters
        assert set(task.get("dependentTasks", ())) <= tasks.keys()
        assert re.fullmatch(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?", name), name


@pytest.mark.parametrize("shape", SHAPES)
def test_nothing_of_this_machine_is_in_it(compiled: dict[str, str], shape: str) -> None:
    text = compiled[shape]
    assert "__main__" not in text
    for path in (REPOSITORY, Path.home(), Path("/tmp")):
        assert f"{path}/" not in text


def test_what_containers_get_is_in_the_platform_document(compiled: dict[str, str]) -> None:
    spec, platform = yaml.safe_load_all(compiled["batch"])
    executors = platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
    containers = spec["deploymentSpec"]["executors"]
    assert executors.keys() == containers.keys()
    for executor in executors.values():
        assert executor["pvcMount"] == [{"constant": "distill", "mountPath": "/mnt/distill"}]
        assert executor["secretAsEnv"] == [
            {
                "secretName": "store",
                "keyToEnv": [{"envVar": "AWS_ACCESS_KEY_ID", "secretKey": "accesskey"}],
            }
        ]
    teacher = executors["exec-teacher-trainer"]
    assert teacher["nodeSelector"] == {"labels": {"pool": "gpu"}}
    assert teacher["tolerations"] == [{"key": "gpu", "operator": "Exists", "effect": "NoSchedule"}]
    assert containers["exec-teacher-trainer"]["container"]["resources"] == {
        "cpuLimit": 8.0,
        "memoryLimit": 32.0,
        "accelerator": {"count": "1", "type": "nvidia.com/gpu"},
    }
    # By the part of the id before the dot, or by default.
    student = containers["exec-student-trainer-compact"]["container"]["resources"]
    assert student == {"cpuLimit": 4.0, "memoryLimit": 16.0}
    gate = containers["exec-student-gate-compact"]["container"]["resources"]
    assert gate == {"cpuLimit": 2.0, "memoryLimit": 8.0}


def test_vertex_gets_no_platform_document(compiled: dict[str, str]) -> None:
    assert len(list(yaml.safe_load_all(compiled["vertex"]))) == 1


def test_on_vertex_labels_are_committed_without_hard_links(compiled: dict[str, str]) -> None:
    for shape, text in compiled.items():
        executors = next(yaml.safe_load_all(text))["deploymentSpec"]["executors"].values()
        environments = [one["container"].get("env") for one in executors if "container" in one]
        wanted = [{"name": "MOUNT_ALLOW_UNSAFE_RENAME", "value": "true"}]
        assert environments == [wanted if shape == "vertex" else None] * len(environments)


VERTEX = {"image": "image", "pipeline_root": "gs://bucket/root"}
NODES = {"steps": {"Pusher": {"node_selector": {"pool": "gpu"}}}}


@pytest.mark.parametrize(
    ("name", "folder", "target", "sections", "where"),
    [
        ("video", "/elsewhere", "kfp", {"kubeflow": VERTEX}, "data.spans"),
        ("video", "/mnt/distill", "vertex", {"kubeflow": VERTEX}, "data.spans"),
        ("video", "/gcs/bucket", "vertex", {}, "kubeflow"),
        ("video", "/mnt/distill", "kfp", {"push": {"directory": "serving"}}, "push.directory"),
        ("video", "/mnt/distill", "kfp", {"kubeflow": None}, "kubeflow"),
        ("video", "/gcs/bucket", "vertex", {"kubeflow": VERTEX | NODES}, "kubeflow.steps.Pusher"),
        (
            "video",
            "/gcs/bucket",
            "vertex",
            {"kubeflow": VERTEX | {"pipeline_root": "s3://bucket"}},
            "kubeflow.pipeline_root",
        ),
        (
            "video",
            "/gcs/bucket",
            "vertex",
            {"kubeflow": VERTEX | {"steps": {"TeacherTrainer": {"gpus": 1}}}},
            "kubeflow.steps.TeacherTrainer.gpu_type",
        ),
        (
            "video",
            "/gcs/bucket",
            "vertex",
            {"kubeflow": VERTEX | {"steps": {"Pusher.compct": {"cpu": 1}}}},
            "kubeflow.steps.Pusher.compct",
        ),
        (
            "stream",
            "/mnt/distill",
            "kfp",
            {"labels": {"order": "train_then_score"}},
            "labels.order",
        ),
    ],
)
def test_what_cannot_run_there_is_refused_with_a_way_round(
    name: str, folder: str, target: Any, sections: dict[str, Any], where: str
) -> None:
    with pytest.raises(ConfigError) as refused:
        compile_pipeline(config(name, folder, **sections), target)
    assert refused.value.where == where
    assert refused.value.fix


def test_a_later_span_waits_for_the_bootstrap(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no bootstrap"):
        compile_pipeline(config("stream", tmp_path), "kfp", span=2)


def test_the_settings_of_a_step_are_the_narrowest() -> None:
    settings = KubeflowConfig.model_validate(
        VERTEX
        | {"steps": {"default": {"cpu": 1}, "Pusher": {"cpu": 2}, "Pusher.compact": {"cpu": 3}}}
    )
    found = [settings.step(name).cpu for name in ("Pusher.compact", "Pusher.tiny", "Transform")]
    assert found == [3, 2, 1]


def test_a_twin_gets_what_its_student_gets() -> None:
    steps = {"default": {"cpu": 1}, "StudentTrainer": {"cpu": 2}, "StudentTrainer.tiny": {"cpu": 3}}
    settings = KubeflowConfig.model_validate(VERTEX | {"steps": steps})
    assert [settings.step(f"TwinTrainer.{name}").cpu for name in ("compact", "tiny")] == [2, 3]
    of_its_own = KubeflowConfig.model_validate(
        VERTEX | {"steps": steps | {"TwinTrainer": {"cpu": 4}}}
    )
    assert of_its_own.step("TwinTrainer.tiny").cpu == 4


def test_every_component_can_have_settings_and_nothing_else(compiled: dict[str, str]) -> None:
    ids = set()
    for text in compiled.values():
        executors = next(yaml.safe_load_all(text))["deploymentSpec"]["executors"].values()
        for arguments in (one["container"]["args"] for one in executors if "container" in one):
            place = arguments.index("--id") + 1 if "--id" in arguments else 0
            ids.add(arguments[place].partition(".")[0])
    # Those of a schedule, and of a feature that these configs do not have.
    assert ids | {"submit", "VocabularyRefresher"} == set(STEPS)


def test_compiling_makes_no_folder(tmp_path: Path) -> None:
    compile_pipeline(config("video", tmp_path / "volume"), "kfp")
    assert not (tmp_path / "volume").exists()
