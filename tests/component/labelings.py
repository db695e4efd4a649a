"""Runs of the TeacherLabeler, one after another, into one label table."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl
from small_examples import SPAN, Prepared, execute, made
from tfx.types import standard_artifacts

from tfx_distill.components.artifacts import TeacherLabels
from tfx_distill.components.teacher_labeler import LabelerConfig, TeacherLabeler
from tfx_distill.labels.snapshot import Snapshot
from tfx_distill.schema.config import LabelWatch, SparkConfig

WATERMARK = -7200
"""Of the teachers, in seconds: two hours before the first example."""


def settings(prepared: Prepared, table: Path) -> LabelerConfig:
    return LabelerConfig.of(prepared.config).model_copy(update={"table": str(table)})


class Labeler:
    """Labels with one teacher after another into one table."""

    def __init__(self, prepared: Prepared, features: Any, folder: Path) -> None:
        self._prepared, self._features, self._folder = prepared, features, folder
        self.table = folder / "table"
        self._runs = 0

    def __call__(
        self,
        model: str,
        *,
        blessed: int | None = 1,
        watch: LabelWatch | None = None,
        spark: SparkConfig | None = None,
        **others: Any,
    ) -> Any:
        """Runs the component, with further inputs if given; returns its output artifact."""
        self._runs += 1
        teacher = made(standard_artifacts.Model, model, number=40 + self._runs)
        teacher.set_int_custom_property("watermark", WATERMARK)
        teacher.set_int_custom_property("span", SPAN - 1)
        blessing = made(standard_artifacts.ModelBlessing, self._folder / "blessing")
        if blessed is not None:
            blessing.set_int_custom_property("blessed", blessed)
        labels = made(TeacherLabels, self._folder / f"labels-{self._runs}")
        execute(
            TeacherLabeler,
            self._folder,
            {
                "features": self._features,
                "transform_graph": self._prepared.transform_graph,
                "model": teacher,
                "model_blessing": blessing,
                **others,
            },
            {"teacher_labels": labels},
            config=settings(self._prepared, self.table)
            .model_copy(update={"watch": watch or LabelWatch(calibration=None)})
            .model_dump_json(),
            spark="" if spark is None else spark.model_dump_json(),
        )
        return labels


def visible(snapshot: Snapshot) -> pl.DataFrame:
    """What any reader of Delta tables sees, in the order of the ids."""
    return pl.read_delta(snapshot.table, version=snapshot.version).sort("example_id")
