"""The Kubernetes manifests: valid, whole, and in agreement with the config beside them."""

from __future__ import annotations

import copy
import json
import os
import shutil
import subprocess
from typing import Any

import kubernetes_validate
import pytest
import yaml
from doc_blocks import REPOSITORY, blocks

from tfx_distill.schema import config as run_config
from tfx_distill.schema.config import RunConfig

FOLDER = REPOSITORY / "kubeflow/manifests"
KUSTOMIZATION = yaml.safe_load((FOLDER / "kustomization.yaml").read_text())
RESOURCES = [
    pytest.param(document, id=f"{document['kind']}-{document['metadata']['name']}")
    for name in KUSTOMIZATION["resources"]
    for document in yaml.safe_load_all((FOLDER / name).read_text())
]


def validate(document: dict[str, Any]) -> None:
    """As `kubernetes-validate --strict`, which only warns of a kind that it does not know.

    Raises:
      ValidationError: A field is unknown, missing or of another type.
      SchemaNotFoundError: There is no such kind.
    """
    kubernetes_validate.validate(document, kubernetes_validate.latest_version(), strict=True)


WORKERS = list(yaml.safe_load_all((FOLDER.parent / "workers.yaml").read_text()))


def test_the_workers_of_a_course_are_valid_and_find_each_other() -> None:
    for document in WORKERS:
        validate(document)
    service, job = WORKERS
    pod = job["spec"]["template"]
    assert service["spec"]["selector"] == pod["metadata"]["labels"]
    assert service["metadata"]["name"] == pod["spec"]["subdomain"] == job["metadata"]["name"]
    (container,) = pod["spec"]["containers"]
    env = {one["name"]: one["value"] for one in container["env"]}
    assert int(env["WORKERS"]) == job["spec"]["completions"] == job["spec"]["parallelism"]
    # What the shell makes of it, as TensorFlow reads it.
    command = container["command"][-1].replace("exec python", "printenv TF_CONFIG #")
    told = subprocess.run(
        ["bash", "-c", command],
        env=os.environ | env | {"JOB_COMPLETION_INDEX": "3"},
        capture_output=True,
        text=True,
        check=True,
    )
    found = json.loads(told.stdout)
    assert found["task"] == {"type": "worker", "index": 3}
    assert found["cluster"]["worker"][3] == "distill-workers-3.distill-workers:2222"
    assert len(found["cluster"]["worker"]) == 4


def named(kind: str) -> dict[str, Any]:
    (found,) = (p.values[0] for p in RESOURCES if p.values[0]["kind"] == kind)
    return dict(found)


@pytest.fixture(scope="module")
def config() -> RunConfig:
    return run_config.load(FOLDER.parent / "stream.yaml")


@pytest.mark.parametrize("document", RESOURCES)
def test_every_document_is_valid(document: dict[str, Any]) -> None:
    validate(document)


def test_what_is_wrong_is_found() -> None:
    typo = copy.deepcopy(named("Deployment"))
    typo["spec"]["template"]["spec"]["containers"][0]["imagePullPolice"] = "Always"
    with pytest.raises(kubernetes_validate.ValidationError):
        validate(typo)
    with pytest.raises(kubernetes_validate.SchemaNotFoundError):
        validate(named("Deployment") | {"kind": "Deploiment"})
    with pytest.raises(kubernetes_validate.SchemaNotFoundError):
        validate(KUSTOMIZATION)


def test_the_kustomization_names_every_file() -> None:
    listed = {*KUSTOMIZATION["resources"], "kustomization.yaml"}
    assert listed == {file.name for file in FOLDER.iterdir()}


# Nothing else builds a kustomization, and no package index that this project asks has it.
@pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl builds the kustomization")
def test_what_kustomize_makes_is_valid(config: RunConfig) -> None:
    built = subprocess.run(
        ["kubectl", "kustomize", str(FOLDER)], capture_output=True, text=True, check=True
    )
    documents = list(yaml.safe_load_all(built.stdout))
    for document in documents:
        validate(document)
        namespace = document["metadata"].get("namespace")
        assert namespace == (None if document["kind"] == "Namespace" else "kubeflow")
    assert config.kubeflow is not None
    assert built.stdout.count(f"image: {config.kubeflow.image}\n") == 1
    assert len(documents) == len(RESOURCES)


def test_config_and_manifests_agree(config: RunConfig) -> None:
    assert config.kubeflow is not None
    (volume,) = config.kubeflow.volumes
    assert volume.claim == named("PersistentVolumeClaim")["metadata"]["name"]
    assert named("PersistentVolumeClaim")["spec"]["accessModes"] == ["ReadWriteMany"]

    server = named("Deployment")["spec"]["template"]["spec"]
    (container,) = server["containers"]
    mounts = {one["name"]: one["mountPath"] for one in container["volumeMounts"]}
    claims = {
        one["name"]: one["persistentVolumeClaim"]["claimName"]
        for one in server["volumes"]
        if "persistentVolumeClaim" in one
    }
    assert [(claims[name], mounts[name]) for name in claims] == [(volume.claim, volume.mount)]
    assert server["containers"][0]["command"][-1] == str(config.run_folder / "report")


def test_the_config_is_that_of_the_guide(config: RunConfig) -> None:
    page = REPOSITORY / "docs/kubeflow.md"
    (shown,) = (block for block in blocks(page) if block.note == "stream.yaml")
    assert RunConfig.model_validate(yaml.safe_load(shown.content)) == config


def test_labels_and_accounts_lead_somewhere() -> None:
    pod = named("Deployment")["spec"]["template"]["metadata"]["labels"]
    assert named("Deployment")["spec"]["selector"]["matchLabels"] == pod
    assert named("Service")["spec"]["selector"] == pod
    binding = named("RoleBinding")
    assert binding["roleRef"]["name"] == named("Role")["metadata"]["name"]
    assert [one["name"] for one in binding["subjects"]] == [
        named("ServiceAccount")["metadata"]["name"]
    ]


def test_a_role_grants_no_more_than_it_names() -> None:
    for rule in named("Role")["rules"]:
        assert "*" not in [*rule["apiGroups"], *rule["resources"], *rule["verbs"]]
        if "secrets" in rule["resources"]:
            assert rule["resourceNames"] == ["mlpipeline-minio-artifact"]
