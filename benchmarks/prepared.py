"""What several benchmarks start from: examples, a feature table and teachers, made by the pipeline.

The components are the real ones and so are their outputs: a simulated video stream of one span, its
Transform graph, its feature table, and a teacher of each size, trained on one pass over a part.
What was prepared in a folder before is used again.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tfx_distill.schema import config as run_config
from tfx_distill.schema.config import RunConfig

CONFIG = Path(__file__).parents[1] / "configs/video.yaml"
SMALL, LARGE = "small (twice as wide as a student)", "large (MMoE, four times as wide)"
TEACHERS: dict[str, dict[str, Any]] = {
    SMALL: {"architecture": "shared_bottom", "width": 2},
    LARGE: {"architecture": "mmoe", "width": 4},
}


SERVING = "Format-Serving"
"""Folder of a Model artifact that holds the SavedModel."""
_ID_STEP = 1 << 40


@dataclass(frozen=True)
class Prepared:
    """Folders of what was made.

    Attributes:
      config: The run config of a student pipeline over these examples.
      rows: Examples of the train split.
      examples: Of the ingested examples.
      transform_graph: Of the Transform graph.
      features: Of the feature table.
      teachers: By name, of the Model artifact.
    """

    config: RunConfig
    rows: int
    examples: Path
    transform_graph: Path
    features: Path
    teachers: dict[str, Path]


def prepare(folder: Path, rows: int) -> Prepared:
    """Makes everything for about `rows` train examples, or finds it.

    Args:
      folder: Where it is kept.
      rows: Train examples; a fifth as many eval examples come beside them.
    """
    place = folder / f"prepared-{rows}"
    config = _config(place)
    finished = place / "prepared.json"
    if not finished.exists():
        shutil.rmtree(place, ignore_errors=True)
        finished.parent.mkdir(parents=True)
        _make(place, rows, config)
    facts = json.loads(finished.read_text())
    teachers = {name: place / "teachers" / str(k) for k, name in enumerate(TEACHERS)}
    folders = {name: Path(facts[name]) for name in ("examples", "transform_graph", "features")}
    return Prepared(config, facts["rows"], teachers=teachers, **folders)


def _config(place: Path) -> RunConfig:
    data = run_config.load(CONFIG).data.model_dump()
    return run_config.load(
        CONFIG,
        {
            "root": str(place / "runs"),
            "data": data | {"spans": f"{place}/data/video/span-{{SPAN}}/{{split}}-*.parquet"},
            "push": {"directory": str(place / "serving")},
        },
    )


def _make(place: Path, rows: int, config: RunConfig) -> None:
    from benchmarks.students import begin_teacher
    from tfx_distill.datasets import simulator
    from tfx_distill.pipeline import graph, local_runner, session
    from tfx_distill.trainer import export, feature_table
    from tfx_distill.trainer.job import TrainingJob

    simulator.write(
        place / "data", simulator.SimulatorConfig(spans=1, examples_per_span=rows * 5 // 4)
    )
    source = session.prepare(config, session.Spans(0, 0))
    outcome = local_runner.run(graph.build(config, source), until="FeatureMaterializer")
    if outcome.error is not None:
        raise outcome.error
    artifacts = config.run_folder.absolute() / "artifacts"
    found = {
        name: next((artifacts / component / output).iterdir())
        for name, component, output in (
            ("examples", "SpanExampleGen", "examples"),
            ("transform_graph", "Transform", "transform_graph"),
            ("features", "FeatureMaterializer", "features"),
        )
    }
    some = place / "some"
    for split in ("train", "eval"):
        (some / f"Split-{split}").mkdir(parents=True)
        first = feature_table.shards(found["features"], split)[0]
        (some / f"Split-{split}" / first.name).symlink_to(first)
    for number, model in enumerate(TEACHERS.values()):
        asked = {"model": model, "training": {"epochs": 1}}
        teacher = RunConfig.model_validate(config.model_dump() | {"teacher": asked})
        job = TrainingJob.of_teacher(teacher)
        training = begin_teacher(teacher)
        training.fit(some, span=0, epochs=1)
        folder = place / "teachers" / str(number) / SERVING
        graph_folder = str(found["transform_graph"])
        export.save(training.ranker, folder, job.features, job.served, graph_folder)
    count = feature_table.rows(feature_table.shards(found["features"], "train"))
    facts = {"rows": count, **{name: str(path) for name, path in found.items()}}
    (place / "prepared.json").write_text(json.dumps(facts, indent=1))


def repeated(prepared: Prepared, copies: int) -> tuple[Path, int]:
    """The feature table again and again, each time under other example ids.

    Returns:
      Folder of the larger table, whose eval split is that of the original; and the number of its
      examples, of both splits.
    """
    import pyarrow as pa

    from tfx_distill.schema import columns
    from tfx_distill.trainer import feature_table

    folder = prepared.features.parent / f"repeated-{copies}"
    shards = [
        (copy, split, file)
        for split in columns.SPLITS
        for copy in range(copies if split == "train" else 1)
        for file in feature_table.shards(prepared.features, split)
    ]
    if not folder.exists():
        for copy, split, file in shards:
            target = folder.with_suffix(".partial") / f"Split-{split}"
            named = target / f"{file.stem}-{copy:03d}{feature_table.SUFFIX}"
            with feature_table.Writer(named) as writer, pa.memory_map(str(file)) as source:
                for batch in pa.ipc.open_file(source).read_all().to_batches():
                    place = batch.schema.get_field_index(columns.EXAMPLE_ID)
                    ids = batch.column(place).to_numpy() + copy * _ID_STEP
                    arrays = [*batch.columns[:place], pa.array(ids), *batch.columns[place + 1 :]]
                    writer.write(pa.RecordBatch.from_arrays(arrays, schema=batch.schema))
        folder.with_suffix(".partial").rename(folder)
    return folder, sum(feature_table.rows([file]) for _, _, file in shards)
