"""A label table in a bucket, in pipelines that are compiled for a cluster."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
import yaml
from compiled import ANYWHERE, config

from tfx_distill.kubeflow.compilation import compile_pipeline
from tfx_distill.kubeflow.containers import Target
from tfx_distill.kubeflow.settings import runnable_settings
from tfx_distill.pipeline import graph
from tfx_distill.schema.config import RunConfig
from tfx_distill.schema.errors import ConfigError

TABLE = "s3://lake/video/labels"
VERTEX = {"image": "image", "pipeline_root": "gs://bucket/root"}


@pytest.mark.parametrize(
    ("target", "folder", "sections"),
    [("kfp", "/mnt/distill", {}), ("vertex", "/gcs/bucket", {"kubeflow": VERTEX})],
)
def test_a_bucket_needs_no_volume(target: Target, folder: str, sections: dict[str, Any]) -> None:
    on_a_cluster = config("video", folder, labels={"table": TABLE}, **sections)
    assert runnable_settings(on_a_cluster, target) == on_a_cluster.kubeflow
    # Everything else is on a file system all the same.
    for section in ({"root": "/elsewhere"}, {"push": {"directory": "/elsewhere"}}):
        elsewhere = config("video", folder, **({"labels": {"table": TABLE}} | sections | section))
        with pytest.raises(ConfigError, match="/elsewhere"):
            runnable_settings(elsewhere, target)


@pytest.mark.parametrize("table", ["/lake/labels", "labels"])
def test_a_folder_needs_one(table: str) -> None:
    with pytest.raises(ConfigError) as refused:
        runnable_settings(config("video", labels={"table": table}), "kfp")
    assert (refused.value.where, refused.value.got) == ("labels.table", table)


def test_steps_are_handed_the_name_of_the_bucket_as_it_is() -> None:
    on_a_cluster = config("video", labels={"table": TABLE})
    plan = next(yaml.safe_load_all(compile_pipeline(on_a_cluster, "kfp")))["root"]["dag"]["tasks"][
        "prepare"
    ]["inputs"]["parameters"]["plan"]["runtimeValue"]["constant"]
    # Each step builds its component from that text.
    given = RunConfig.model_validate(yaml.safe_load(json.loads(plan)["config"]))
    teaching = {node.id: node for node in graph.components(given, ANYWHERE)}
    labeler = json.loads(teaching["TeacherLabeler"].exec_properties["config"])
    importing = graph.components(given, replace(ANYWHERE, labels_version=0))
    importer = next(node for node in importing if node.id == "LabelImporter")
    assert labeler["table"] == importer.exec_properties["table"] == TABLE
