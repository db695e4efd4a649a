"""Engines in the run config: what is refused, and what they have no influence on."""

from __future__ import annotations

import pytest
from config_basis import BASIS, changed, refused

from tfx_distill.components import engines
from tfx_distill.components.feature_materializer import MaterializerConfig
from tfx_distill.components.teacher_labeler import LabelerConfig
from tfx_distill.datasets.logs import LogConfig
from tfx_distill.pipeline import doctor, stream
from tfx_distill.schema.config import RunConfig, SparkConfig


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("labels", {"engine": "flink"}, "'beam' or 'spark'"),
        ("data.engine", "Spark", "'beam' or 'spark'"),
        ("spark", {"options": {"executor.memory": "4g"}}, "start with 'spark.'"),
        ("spark", {"options": {"spark.master": "yarn"}}, "the key 'master'"),
        ("spark", {"options": {"spark.task.maxFailures": 1}}, "valid string"),
    ],
)
def test_what_spark_would_not_understand_is_refused(key, value, expected, tmp_path):
    error = refused(tmp_path, changed(key, value))
    assert expected in error.expected


def on_spark() -> RunConfig:
    content = changed("data.engine", "spark")
    return RunConfig.model_validate(
        content | {"labels": {"engine": "spark"}, "spark": {"options": {"spark.cores.max": "8"}}}
    )


def test_components_are_told_of_spark_only_where_it_is_their_engine():
    config = on_spark()
    told = engines.parameter(config.labels.engine, config)
    assert SparkConfig.model_validate_json(told) == SparkConfig(
        master="local[*]", options={"spark.cores.max": "8"}
    )
    assert engines.parameter("beam", config) == ""


def test_an_engine_changes_no_part_that_shapes_outputs():
    beam, spark = RunConfig.model_validate(BASIS), on_spark()
    for part in (LogConfig, LabelerConfig, MaterializerConfig):
        assert part.of(beam) == part.of(spark)


def test_a_stream_can_change_its_engine(tmp_path):
    beam, spark = (
        config.model_copy(
            update={
                "root": str(tmp_path),
                "stream": stream.StreamConfig(bootstrap=2),
            }
        )
        for config in (RunConfig.model_validate(BASIS), on_spark())
    )
    stream.pin(beam)
    stream._refuse_changes(spark)
    # What is pinned, is.
    other = beam.model_copy(update={"data": beam.data.model_copy(update={"shard_rows": 7})})
    assert stream._differing(other.data.model_dump(), beam.data.model_dump()) == ["shard_rows"]


def test_the_doctor_tells_of_spark_and_is_content_without(monkeypatch, tmp_path):
    monkeypatch.setenv("JAVA_HOME", str(tmp_path))
    found = doctor._found("spark", doctor.CHECKS["spark"], tmp_path)
    assert found.ok
    assert "only the engine 'spark' needs it" in found.detail
    assert "Java" in found.detail
