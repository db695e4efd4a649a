"""SpanExampleGen alone, and in front of the stock components that read its output."""

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tensorflow_data_validation as tfdv
import tensorflow_transform as tft
from ml_metadata.proto import metadata_store_pb2
from tfx.components import ExampleValidator, StatisticsGen, Transform
from tfx.components.schema_gen.import_schema_gen.component import ImportSchemaGen
from tfx.orchestration import metadata
from tfx.orchestration.local.local_dag_runner import LocalDagRunner
from tfx.orchestration.pipeline import Pipeline
from tfx.types import standard_artifacts

from tfx_distill.components.span_example_gen import SpanExampleGen, ingest, read_shard
from tfx_distill.components.span_statistics import SpanStatistics
from tfx_distill.datasets import logs
from tfx_distill.datasets.logs import LogConfig
from tfx_distill.schema import tfmd
from tfx_distill.schema.config import RunConfig
from tfx_distill.schema.errors import DataError

ROWS = {"train": 300, "eval": 100}
SPANS = (0, 1)


def _write_span(root: Path, span: int, seed: int = 0) -> None:
    """300 train and 100 eval rows in queries of 10; x0 is NaN in every 5th row."""
    generator = np.random.default_rng([seed, span])
    start = span * 400
    for split, rows in ROWS.items():
        number = np.arange(start, start + rows)
        clicked = (number % 4 == 0).astype(np.int64)
        lengths = number % 3
        table = pa.table(
            {
                "impression_id": [f"i{n}" for n in number],
                "request_id": number // 10,
                "timestamp": pa.array(number * 1_000_000, pa.timestamp("us", tz="UTC")),
                "x0": np.where(number % 5 == 0, np.nan, generator.normal(size=rows)),
                "views": generator.integers(0, 1000, rows),
                "device": pa.array(generator.choice(["phone", "tv"], rows)).dictionary_encode(),
                "video_id": pa.array(generator.integers(0, 50, rows), mask=number % 10 == 0),
                "topics": pa.ListArray.from_arrays(
                    pa.array(np.concatenate([[0], np.cumsum(lengths)]), pa.int32()),
                    pa.array([f"t{n % 7}" for n in range(lengths.sum())]),
                ),
                "clicked": clicked,
                "watch_s": pa.array(generator.random(rows) * 60, mask=clicked == 0),
                "unused": ["x"] * rows,
            }
        )
        folder = root / f"span-{span}"
        folder.mkdir(parents=True, exist_ok=True)
        pq.write_table(table, folder / f"{split}-00000.parquet")
        start += rows


@pytest.fixture
def config(tmp_path: Path) -> RunConfig:
    for span in SPANS:
        _write_span(tmp_path / "logs", span)
    bound = {"task": "click", "metric": "auc", "min": 0.5}
    error = {"task": "watch", "metric": "mse", "max": 9.0}
    return RunConfig.model_validate(
        {
            "name": "tiny",
            "data": {
                "spans": f"{tmp_path}/logs/span-{{SPAN}}/{{split}}-*.parquet",
                "example_id": "impression_id",
                "query_id": "request_id",
                "event_time": "timestamp",
                "shard_rows": 256,
            },
            "features": {
                "numeric": ["x0", {"name": "views", "transform": "log1p"}],
                "categorical": [
                    {"name": "device", "vocab": 4},
                    {"name": "video_id", "buckets": 64},
                ],
                "multivalent": [{"name": "topics", "vocab": 8, "max_length": 2}],
            },
            "tasks": [
                {"name": "click", "kind": "binary", "label": "clicked"},
                {
                    "name": "watch",
                    "kind": "regression",
                    "label": "watch_s",
                    "transform": "log1p",
                    "applies_when": "clicked",
                },
            ],
            "students": [{"name": "small"}],
            "gate": {
                "students": [bound, error],
                "teacher": [bound, error],
                "slices": ["device"],
            },
            "push": {"directory": str(tmp_path / "serving")},
        }
    )


def _run(tmp_path: Path, components: list[object]) -> metadata_store_pb2.ConnectionConfig:
    connection = metadata.sqlite_metadata_connection_config(str(tmp_path / "metadata.sqlite"))
    LocalDagRunner().run(
        Pipeline(
            pipeline_name="ingest",
            pipeline_root=str(tmp_path / "root"),
            components=components,
            metadata_connection_config=connection,
            enable_cache=True,
            beam_pipeline_args=["--runner=FnApiRunner", "--sdk_container_image=unused"],
        )
    )
    return connection


def _generator(config: RunConfig, carried: int | None = None) -> object:
    """Ingests both spans; or the second one, after the eval split of the first."""
    own = LogConfig.of(config)
    if carried is None:
        return SpanExampleGen(
            config=own.model_dump_json(),
            spans="0-1",
            fingerprint=logs.fingerprint(own.data, range(2)),
        )
    return SpanExampleGen(
        config=own.model_dump_json(),
        spans="1",
        fingerprint=logs.fingerprint(own.data, [1], carried),
        carried=carried,
    )


def _statistics(component: Path, split: str) -> Any:
    (file,) = component.glob(f"statistics/*/Split-{split}/FeatureStats.pb")
    (dataset,) = tfdv.load_stats_binary(str(file)).datasets
    return dataset


def _content(dataset: Any) -> dict[str, Any]:
    """What statistics say, by column; of values that are equally frequent any may come first."""
    found = {}
    for feature in dataset.features:
        texts = feature.string_stats
        counts = {bucket.label: bucket.sample_count for bucket in texts.rank_histogram.buckets}
        highest = [value.frequency for value in texts.top_values]
        texts.ClearField("rank_histogram")
        texts.ClearField("top_values")
        found[feature.path.step[0]] = (counts, highest, str(feature))
    return found


def test_the_stock_components_read_its_output(config: RunConfig, tmp_path: Path) -> None:
    report = logs.check(config)
    schema_file = tfmd.write(tfmd.tfmd_schema(config, report.types), tmp_path / "schema")
    gen = _generator(config)
    schema = ImportSchemaGen(schema_file=str(schema_file))
    # With the schema, statistics of whole-number categories are those of categories.
    statistics = StatisticsGen(examples=gen.outputs["examples"], schema=schema.outputs["schema"])
    own = SpanStatistics(examples=gen.outputs["examples"], schema=schema.outputs["schema"])
    validator = ExampleValidator(
        statistics=own.outputs["statistics"], schema=schema.outputs["schema"]
    )
    transform = Transform(
        examples=gen.outputs["examples"],
        schema=schema.outputs["schema"],
        preprocessing_fn="tfx_distill.trainer.features.preprocessing_fn",
        custom_config={"features": config.features.model_dump_json()},
        materialize=False,
        disable_statistics=True,
        disable_analyzer_cache=True,
    )
    connection = _run(tmp_path, [gen, schema, statistics, own, validator, transform])

    with metadata.Metadata(connection) as store:
        (examples,) = store.store.get_artifacts_by_type(standard_artifacts.Examples.TYPE_NAME)
    assert examples.properties["span"].int_value == 1
    assert examples.properties["version"].int_value == 0
    assert examples.custom_properties["rows_train"].int_value == 700
    assert examples.custom_properties["rows_eval"].int_value == 100
    # Ids count up by one a second, and the last 100 of the 800 are evaluated.
    assert examples.custom_properties["watermark"].int_value == 699
    assert examples.custom_properties["carried"].int_value == -1

    root = tmp_path / "root"
    for split, rows, lacking in (("train", 700, 140), ("eval", 100, 20)):
        dataset = _statistics(root / "SpanStatistics", split)
        assert dataset.num_examples == rows
        features = {feature.path.step[0]: feature for feature in dataset.features}
        assert features["x0"].num_stats.common_stats.num_missing == lacking
        assert features["x0"].num_stats.common_stats.num_non_missing == rows - lacking
        assert features["device"].string_stats.unique == 2
        assert features["video_id"].string_stats.unique > 2
        assert features["video_id"].string_stats.common_stats.num_missing == rows // 10
        assert features["watch_s"].num_stats.common_stats.num_missing == rows * 3 // 4
        assert "unused" not in features
        assert "impression_id" not in features
        assert _content(dataset) == _content(_statistics(root / "StatisticsGen", split))
        (anomalies,) = root.glob(f"ExampleValidator/anomalies/*/Split-{split}/SchemaDiff.pb")
        assert not _anomalies(anomalies)

    (graph,) = root.glob("Transform/transform_graph/*")
    output = tft.TFTransformOutput(str(graph))
    assert set(output.transformed_feature_spec()) == {"numeric", "categorical", "multivalent"}
    # The graph has seen the values.
    assert output.vocabulary_by_name("device") in ([b"phone", b"tv"], [b"tv", b"phone"])


def _anomalies(path: Path) -> dict[str, object]:
    from tensorflow_metadata.proto.v0 import anomalies_pb2

    return dict(anomalies_pb2.Anomalies.FromString(path.read_bytes()).anomaly_info)


def test_changed_logs_are_ingested_anew_and_unchanged_ones_are_not(
    config: RunConfig, tmp_path: Path
) -> None:
    states = metadata_store_pb2.Execution
    for change, expected in (
        (False, [states.COMPLETE]),
        (False, [states.COMPLETE, states.CACHED]),
        (True, [states.COMPLETE, states.CACHED, states.COMPLETE]),
    ):
        if change:
            _write_span(tmp_path / "logs", 1, seed=1)
        connection = _run(tmp_path, [_generator(config)])
        with metadata.Metadata(connection) as store:
            executions = store.store.get_executions()
        assert [execution.last_known_state for execution in executions] == expected


def test_a_later_span_of_a_stream_trains_on_what_was_evaluated_before(
    config: RunConfig, tmp_path: Path
) -> None:
    connection = _run(tmp_path, [_generator(config, carried=0)])
    with metadata.Metadata(connection) as store:
        (examples,) = store.store.get_artifacts_by_type(standard_artifacts.Examples.TYPE_NAME)
    held = {name: value.int_value for name, value in examples.custom_properties.items()}
    # The 100 evaluated seconds before 400, and 300 of this span; then 100 to evaluate.
    assert (held["rows_train"], held["rows_eval"], held["carried"]) == (400, 100, 0)
    assert held["watermark"] == 699
    assert examples.properties["span"].int_value == 1
    times = {
        split: sorted(
            seconds
            for path in _shards(Path(examples.uri), split)
            for (seconds,) in _values(path, "event_time")  # type: ignore[misc]
        )
        for split in ROWS
    }
    assert times == {"train": list(range(300, 700)), "eval": list(range(700, 800))}


def _shards(folder: Path, split: str) -> list[Path]:
    return sorted((folder / f"Split-{split}").iterdir())


def _values(path: Path, name: str) -> list[object]:
    batches = list(read_shard(path, [name]))
    return [value for batch in batches for value in batch.column(0).to_pylist()]


def test_shards_hold_the_examples_once_and_only_training_is_shuffled(
    config: RunConfig, tmp_path: Path
) -> None:
    own = LogConfig.of(config)
    ingest(own, SPANS, tmp_path / "out")
    train = _shards(tmp_path / "out", "train")
    assert [path.name for path in train] == [f"part-{n:05d}.parquet" for n in range(3)]
    times = [_values(path, "event_time") for path in train]
    # 700 rows in queries of 10, at most 256 a shard: cut at 250 and 500.
    assert [len(shard) for shard in times] == [250, 250, 200]
    for number, shard in enumerate(times):
        seconds = [value for (value,) in shard]  # type: ignore[misc]
        assert sorted(seconds) == list(range(250 * number, 250 * number + len(shard)))
        assert seconds != sorted(seconds)
        starts = seconds[::10]
        # Each query stays together, and in order.
        assert all(s % 10 == 0 for s in starts)
        assert seconds == [s + k for s in starts for k in range(10)]
    evaluated = [
        v for path in _shards(tmp_path / "out", "eval") for v in _values(path, "event_time")
    ]
    assert evaluated == [[second] for second in range(700, 800)]


def test_the_same_seed_gives_the_same_bytes_and_another_another_order(
    config: RunConfig, tmp_path: Path
) -> None:
    own = LogConfig.of(config)
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        ingest(own.model_copy(update={"seed": seed}), SPANS, tmp_path / name)
    first, again, other = (
        [path.read_bytes() for path in _shards(tmp_path / name, "train")] for name in "abc"
    )
    assert first == again
    assert first != other


def test_values_survive_and_other_readers_read_them(config: RunConfig, tmp_path: Path) -> None:
    ingest(LogConfig.of(config), SPANS, tmp_path / "out")
    logged = pl.concat(
        [
            pl.read_parquet(tmp_path / "logs" / f"span-{span}" / f"{split}-00000.parquet")
            for span in SPANS
            for split in ROWS
        ]
    ).with_columns(time=pl.col("timestamp").dt.epoch("s"))
    kept = pl.read_parquet(tmp_path / "out" / "Split-*" / "*.parquet").with_columns(
        time=pl.col("event_time").list.first()
    )
    both = logged.join(kept, on="time", suffix="_kept", validate="1:1")
    assert both.height == 800
    assert both["request_id"].to_list() == both["query_id"].list.first().to_list()
    assert both["video_id"].to_list() == both["video_id_kept"].list.first().to_list()
    assert both["watch_s"].cast(pl.Float32).to_list() == both["watch_s_kept"].list.first().to_list()
    assert both["x0"].fill_nan(None).cast(pl.Float32).to_list() == (
        both["x0_kept"].list.first().to_list()
    )
    device = both["device_kept"].list.first().cast(pl.String)
    assert both["device"].cast(pl.String).to_list() == device.to_list()
    topics = both["topics_kept"].cast(pl.List(pl.String))
    assert both["topics"].to_list() == topics.to_list()


def test_bad_logs_publish_nothing_and_keep_what_was_there(
    config: RunConfig, tmp_path: Path
) -> None:
    own = LogConfig.of(config)
    ingest(own, SPANS, tmp_path / "out")
    before = {path: path.read_bytes() for path in (tmp_path / "out").rglob("*.parquet")}
    path = tmp_path / "logs" / "span-1" / "eval-00000.parquet"
    table = pq.read_table(path)
    pq.write_table(pa.concat_tables([table, table.slice(7, 1)]), path)
    with pytest.raises(DataError, match="row 100"):
        ingest(own, SPANS, tmp_path / "out")
    after = {path: path.read_bytes() for path in (tmp_path / "out").rglob("*.parquet")}
    assert after == before
    assert not (tmp_path / "out" / "_unfinished").exists()


def test_a_damaged_shard_is_named(config: RunConfig, tmp_path: Path) -> None:
    ingest(LogConfig.of(config), SPANS, tmp_path / "out")
    shard = _shards(tmp_path / "out", "train")[1]
    shard.write_bytes(shard.read_bytes()[:-100])
    with pytest.raises(DataError, match=r"Split-train/part-00001\.parquet"):
        list(read_shard(shard))
