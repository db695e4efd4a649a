"""A run folder with all that a report shows, made by hand: numbers that tests know."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import ml_metadata as mlmd
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from ml_metadata.proto import metadata_store_pb2 as pb
from tensorboard.compat.proto import event_pb2, summary_pb2
from tensorboard.summary.writer.record_writer import RecordWriter
from tensorflow_metadata.proto.v0 import anomalies_pb2

STUDENT = "compact"
TRICKY = "</script><b>&"
"""Text that would end a script element, if it were not escaped."""


class Store:
    """ML Metadata, written as TFX writes it."""

    def __init__(self, file: Path) -> None:
        config = pb.ConnectionConfig()
        config.sqlite.filename_uri = str(file)
        config.sqlite.connection_mode = 3  # made if it is not there
        self.store = mlmd.MetadataStore(config)
        self._contexts = {
            kind: self.store.put_context_type(pb.ContextType(name=kind))
            for kind in ("node", "pipeline_run")
        }

    def artifact(self, kind: str, uri: str | Path, **properties: Any) -> int:
        type_id = self.store.put_artifact_type(pb.ArtifactType(name=kind))
        made = pb.Artifact(type_id=type_id, uri=str(uri), state=pb.Artifact.LIVE)
        _set(made.custom_properties, properties)
        return int(self.store.put_artifacts([made])[0])

    def execution(
        self,
        run_id: str,
        component: str,
        inputs: Mapping[str, list[int]],
        outputs: Mapping[str, list[int]],
        *,
        cached: bool = False,
        found: bool = False,
        **properties: Any,
    ) -> int:
        """`found`: a Resolver's, which made nothing."""
        type_id = self.store.put_execution_type(pb.ExecutionType(name=component.split(".")[0]))
        state = pb.Execution.CACHED if cached else pb.Execution.COMPLETE
        made = pb.Execution(type_id=type_id, last_known_state=state)
        _set(made.custom_properties, properties)
        out = pb.Event.INTERNAL_OUTPUT if found else pb.Event.OUTPUT
        pairs = []
        for kind, side in ((pb.Event.INPUT, inputs), (out, outputs)):
            for key, ids in side.items():
                for artifact in self.store.get_artifacts_by_id(ids):
                    event = pb.Event(artifact_id=artifact.id, type=kind)
                    event.path.steps.add().key = key
                    pairs.append((artifact, event))
        contexts = [
            pb.Context(type_id=self._contexts[kind], name=name)
            for kind, name in (("node", f"music.{component}"), ("pipeline_run", run_id))
        ]
        # One transaction: each takes a write to the disk.
        id_, _, _ = self.store.put_execution(
            made, pairs, contexts, reuse_context_if_already_exist=True
        )
        return int(id_)


def _set(target: Any, properties: Mapping[str, Any]) -> None:
    for name, value in properties.items():
        if isinstance(value, int):
            target[name].int_value = value
        else:
            target[name].string_value = str(value)


# Summaries


def metrics(span: int) -> dict[str, Any]:
    lift = 0.001 * span
    return {
        "teacher": {"click": {"auc": 0.75 + lift, "calibration": 1.0}},
        "candidate": {"click": {"auc": 0.72 + lift, "calibration": 0.9}},
        "twin": {"click": {"auc": 0.70 + lift, "calibration": None}},
        "baseline": {"click": {"auc": 0.71 + lift, "calibration": 1.1}},
    }


def check(passed: bool, bound: float, sentence: str, **changes: Any) -> dict[str, Any]:
    return {
        "task": "click",
        "metric": "auc",
        "slice": "",
        "rule": "max_regression",
        "allowed": 0.01,
        "other": "twin",
        "value": 0.72,
        "difference": 0.02,
        "bound": bound,
        "detectable": 0.02,
        "passed": passed,
        "sentence": sentence,
        **changes,
    }


def verdict(blessed: bool, *checks: dict[str, Any]) -> dict[str, Any]:
    return {
        "candidate": STUDENT,
        "blessed": blessed,
        "baseline": "baseline",
        "baseline_reason": "It is the model in service.",
        "checks": list(checks),
        "not_judged": [{"sentence": "device=watch has 3 queries, fewer than 100."}],
        "confidence": 0.95,
    }


def summary(span: int, run_id: str, *, pushed: str | None, stream: bool = True) -> dict[str, Any]:
    first = 0 if span == 1 else span
    steps = {
        "SpanExampleGen": 2.0,
        "TeacherTrainer": 6.0,
        "TeacherLabeler": 2.0,
        f"StudentTrainer.{STUDENT}": 3.0,
        f"TwinTrainer.{STUDENT}": 1.0,
        f"StudentEvaluator.{STUDENT}": 4.0,
    }
    return {
        "name": "music",
        "run_id": run_id,
        "seed": 7,
        "first_span": first,
        "last_span": span,
        "carried": None if first == 0 else span - 1,
        "finished": 1_700_000_000.0 + span,
        "examples": {"train": 900, "eval": 100},
        "failed": None,
        "anomalies": [] if span == 1 else [f"train, {TRICKY}: values below 0"],
        "teacher": verdict(True, check(True, 0.0, "auc of click is 0.75; at least 0.6 is wanted.")),
        "teacher_parameters": 1_000_000,
        "labels": {
            "table": "labels",
            "version": span,
            "teacher": "c0ffee",
            "labelled_by": span - 1,
            "quality": {
                "coverage": 0.5,
                "staleness_mean_hours": 12.0,
                "tasks": {"click": {"calibration": 0.9, "correlation": 0.8, "shift": None}},
                "breaches": ["click: the labels are too old."],
            },
        },
        "labels_refused": False,
        "students": [
            {
                "name": STUDENT,
                "parameters": {"student": 2000, "twin": 2000},
                "metrics": metrics(span),
                "transfer": {"click": {"auc": 0.4}},
                "coverage": 0.5,
                "verdict": verdict(
                    pushed is not None,
                    check(True, 0.004, "Better than the twin."),
                    check(pushed is not None, -0.03, f"Worse on {TRICKY}", slice="device=tv"),
                ),
                "serving": {
                    "blessed": True,
                    "checks": [{"passed": True, "sentence": "Answers in 3 ms."}],
                },
                "pushed": pushed,
            }
        ],
        "steps": [
            {
                "component": name,
                "state": "ran",
                "seconds": seconds,
                "cpu_seconds": seconds,
                "peak_mib": 100.0,
                "error": None,
                "phases": {"tracing": seconds / 2, "imports": seconds / 4},
            }
            for name, seconds in steps.items()
        ],
    }


# Files of artifacts


def intervals(folder: Path, span: int) -> Path:
    """The gate's intervals: of each model overall, of differences also on one slice."""
    folder.mkdir(parents=True)
    shown = {model: tasks["click"]["auc"] for model, tasks in metrics(span).items()}
    base = {"slice": "", "task": "click", "metric": "auc", "queries": 40}
    content = {
        "confidence": 0.95,
        "estimates": [
            {**base, "model": m, "value": v, "low": v - 0.02, "high": v + 0.03}
            for m, v in shown.items()
        ],
        "differences": [
            {**base, "slice": part, "other": o, "value": 0.02, "low": -0.01, "high": 0.04}
            for part in ("", "device=tv")
            for o in ("baseline", "twin")
        ]
        + [{**base, "slice": "device=tiny", "other": "twin", "value": None}],
    }
    (folder / "intervals.json").write_text(json.dumps(content))
    return folder


def predictions(folder: Path, rows: int = 400) -> Path:
    """Two shards of predictions; the student is the teacher plus noise, and 0.1 higher on tv."""
    rng = np.random.default_rng(1)
    (folder / "predictions").mkdir(parents=True)
    teacher = rng.random(rows).astype(np.float32)
    device = np.where(np.arange(rows) % 4 == 0, "tv", "phone")
    student = teacher * 0.8 + rng.normal(size=rows) * 0.05 + (device == "tv") * 0.1
    table = pa.table(
        {
            "example_id": np.arange(rows),
            "query_id": np.arange(rows) // 5,
            "device": device,
            "candidate/click": student.astype(np.float32),
            "teacher/click": teacher,
        }
    )
    for i in range(2):
        part = table.slice(i * rows // 2, rows // 2)
        pq.write_table(part, folder / "predictions" / f"part-{i:05d}.parquet")
    return folder


def event_log(folder: Path, losses: Mapping[str, list[float]]) -> Path:
    """Event files framed by TensorBoard's own writer; `val_` marks the eval split."""
    for split, marked in (("train", False), ("validation", True)):
        (folder / split).mkdir(parents=True)
        writer = RecordWriter((folder / split / "events.out.tfevents.1").open("wb"))
        for name, values in losses.items():
            if name.startswith("val_") == marked:
                for step, value in enumerate(values):
                    tag = f"epoch_{name.removeprefix('val_')}"
                    part = summary_pb2.Summary.Value(tag=tag, simple_value=value)
                    event = event_pb2.Event(step=step, summary=summary_pb2.Summary(value=[part]))
                    writer.write(event.SerializeToString())
        writer.close()
    return folder


def anomalies(folder: Path, distance: float) -> Path:
    """The validator's measured drift of one column of the train split."""
    found = anomalies_pb2.Anomalies()
    info = found.drift_skew_info.add()
    info.path.step.append("views")
    info.drift_measurements.add(
        type=anomalies_pb2.DriftSkewInfo.Measurement.L_INFTY, value=distance, threshold=0.5
    )
    (folder / "Split-train").mkdir(parents=True)
    (folder / "Split-train" / "SchemaDiff.pb").write_bytes(found.SerializeToString())
    return folder


# A stream of three runs


def stream(root: Path) -> Path:
    """A run folder: a bootstrap of spans 0 and 1, span 2 (pushed), span 3 (refused)."""
    folder = root / "music"
    (folder / "spans").mkdir(parents=True)
    store = Store(folder / "metadata.sqlite")
    base: dict[str, int] = {}
    for span in (1, 2, 3):
        run_id = f"run-{span}"
        served = root / "serving" / str(span)
        served.mkdir(parents=True)
        pushed = None if span == 3 else str(served)
        content = summary(span, run_id, pushed=pushed)
        (folder / "spans" / f"{span:06d}.json").write_text(json.dumps(content))
        base = _run(store, folder / "artifacts" / str(span), span, run_id, pushed, base)
    return folder


def _run(
    store: Store,
    place: Path,
    span: int,
    run_id: str,
    pushed: str | None,
    base: Mapping[str, int],
) -> dict[str, int]:
    """One run in ML Metadata; returns the models for the next one to start from."""
    made = store.artifact
    schema = made("Schema", place / "schema")
    examples = made("Examples", place / "examples", span=span, spans=f"{span}-{span}")
    store.execution(run_id, "ImportSchemaGen", {}, {"schema": [schema]})
    store.execution(run_id, "SpanExampleGen", {}, {"examples": [examples]})
    drift = made("ExampleAnomalies", anomalies(place / "anomalies", 0.1 * span), span=span)
    store.execution(run_id, "ExampleValidator", {}, {"anomalies": [drift]})
    graph = made("TransformGraph", place / "graph")
    sources = {"examples": [examples], "schema": [schema]}
    store.execution(run_id, "Transform", sources, {"transform_graph": [graph]})
    features = made("Examples", place / "features", span=span)
    sources = {"examples": [examples], "transform_graph": [graph]}
    store.execution(run_id, "FeatureMaterializer", sources, {"features": [features]})
    models = {}
    for name, component in (
        ("teacher", "TeacherTrainer"),
        ("student", f"StudentTrainer.{STUDENT}"),
        ("twin", f"TwinTrainer.{STUDENT}"),
    ):
        inputs = {"examples": [features]}
        if name == "student":
            labels = made("TeacherLabels", place / "labels", span=span, table_version=span)
            store.execution(
                run_id,
                "TeacherLabeler",
                {"model": [models["teacher"]], "features": [features]},
                {"teacher_labels": [labels]},
            )
            inputs["teacher_labels"] = [labels]
        if name in base:
            inputs["base_model"] = [base[name]]
        models[name] = made("Model", place / name, span=span, tfx_version="1.16.0")
        losses = {"loss": [2.0, 1.0][: 2 if span == 1 else 1], "val_loss": [3.0]}
        log = made("ModelRun", event_log(place / f"{name}-run", losses))
        store.execution(
            run_id,
            component,
            inputs,
            {"model": [models[name]], "model_run": [log]},
            custom_config=json.dumps({"job": json.dumps({"title": TRICKY, "rate": 0.1})}),
        )
    evaluation = made("ModelEvaluation", predictions(place / "evaluation"))
    store.execution(
        run_id,
        f"StudentEvaluator.{STUDENT}",
        {"examples": [examples], "model": [models["student"]], "twin": [models["twin"]]},
        {"evaluation": [evaluation]},
    )
    blessing = made(
        "ModelBlessing", intervals(place / "blessing", span), blessed=int(pushed is not None)
    )
    store.execution(
        run_id, f"StudentGate.{STUDENT}", {"evaluation": [evaluation]}, {"blessing": [blessing]}
    )
    if pushed is not None:
        told = {"pushed": 1, "pushed_destination": pushed, "pushed_version": span}
        push = made("PushedModel", place / "pushed", **told)
        store.execution(
            run_id,
            f"Pusher.{STUDENT}",
            {"model": [models["student"]], "model_blessing": [blessing]},
            {"pushed_model": [push]},
        )
    return models


# The config of these runs

CONFIG: dict[str, Any] = {
    "name": "music",
    "data": {
        "spans": "data/span-{SPAN}/{split}-*.parquet",
        "example_id": "impression_id",
        "query_id": "request_id",
        "event_time": "timestamp",
    },
    "features": {"numeric": ["views"], "categorical": [{"name": "device", "vocab": 8}]},
    "tasks": [{"name": "click", "kind": "binary", "label": "clicked"}],
    "students": [{"name": STUDENT}],
    "gate": {
        "students": [{"task": "click", "metric": "auc", "min": 0.5}],
        "teacher": [{"task": "click", "metric": "auc", "min": 0.5}],
        "slices": ["device"],
    },
    "push": {"directory": "serving"},
    "stream": {},
}


def config(root: Path) -> Path:
    """A config file whose run folder is `<root>/music`."""
    file = root / "music.yaml"
    file.write_text(json.dumps({**CONFIG, "root": str(root)}))
    return file
