"""TeacherLabeler alone: real Beam, a real label table, teachers whose logits NumPy computes."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from deltalake import DeltaTable
from labelings import WATERMARK, Labeler, settings, visible
from linear_teacher import save
from small_disk import mount_command
from small_examples import ROWS, SPAN, Prepared, execute, made
from tfx.types import standard_artifacts

from tfx_distill.components.artifacts import TeacherLabels, fingerprint, read_snapshots
from tfx_distill.components.teacher_labeler import TeacherLabeler
from tfx_distill.labels.history import provenance_of
from tfx_distill.labels.snapshot import Snapshot
from tfx_distill.schema.config import LabelWatch
from tfx_distill.schema.errors import LabelError, ModelError
from tfx_distill.trainer import feature_table

HERE = Path(__file__).parent


@pytest.fixture
def label(prepared: Prepared, features: Any, tmp_path: Path) -> Labeler:
    return Labeler(prepared, features, tmp_path)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("teachers")
    return {"first": save(folder / "first"), "second": save(folder / "second", slope=-2.0)}


@pytest.fixture(scope="module")
def rows(features: Any) -> dict[str, dict[str, np.ndarray]]:
    """The feature table by split."""
    out = {}
    for split in ROWS:
        shards = [feature_table.read(f) for f in feature_table.shards(features.uri, split)]
        out[split] = {name: np.concatenate([s[name] for s in shards]) for name in shards[0]}
    return out


def only_snapshot(uri: str) -> Snapshot:
    (snapshot,) = read_snapshots(uri)
    return snapshot


def commits_with_labels(table: Path) -> int:
    log = [file.read_text() for file in (table / "_delta_log").glob("*.json")]
    return sum('"add"' in text for text in log)


@pytest.fixture(scope="module")
def labelled(
    prepared: Prepared,
    features: Any,
    models: dict[str, str],
    tmp_path_factory: pytest.TempPathFactory,
) -> tuple[Labeler, Any]:
    """The first teacher's labels."""
    label = Labeler(prepared, features, tmp_path_factory.mktemp("labelled"))
    return label, label(models["first"])


def test_labels_are_the_logits_of_the_teacher(labelled: Any, rows: Any, models: Any) -> None:
    _, artifact = labelled
    snapshot = only_snapshot(artifact.uri)
    table = visible(snapshot)
    assert len(table) == 400
    for split, wanted in rows.items():
        part = table.filter(split=split)
        order = np.argsort(wanted["example_id"])
        assert part["example_id"].to_list() == wanted["example_id"][order].tolist()
        click = 0.5 * wanted["numeric"][:, 0] - 0.25 * wanted["categorical"][:, 0]
        for column, expected in (
            ("logit_click", click),
            ("value_watch", 1 + wanted["numeric"][:, 1]),
            ("value_mood", 0.5 * wanted["multivalent"][:, 0]),
        ):
            assert part[column].dtype == pl.Float32
            np.testing.assert_allclose(part[column].to_numpy(), expected[order], rtol=1e-6)
    assert table["logit_click"].min() < 0  # logits, not probabilities
    assert table["span"].unique().to_list() == [SPAN]
    age = datetime.now(timezone.utc) - table["scored_at"].unique().item()
    assert 0 <= age.total_seconds() < 600


def test_missing_features_are_counted(labelled: Any, prepared: Prepared) -> None:
    _, artifact = labelled
    log = prepared.log
    missing = np.zeros(len(log))
    for name in prepared.config.features.names:
        for row, value in enumerate(log[name].to_list()):
            missing[row] += value is None or value != value or value == []
    assert 0 < missing.mean() < 10
    assert len(prepared.config.features.names) == 10
    got = visible(only_snapshot(artifact.uri))["missing_feature_fraction"].to_numpy()
    np.testing.assert_allclose(got, missing / 10, atol=1e-6)


def test_both_splits_are_one_commit_that_says_where_it_comes_from(
    labelled: Any, models: Any, features: Any, prepared: Prepared
) -> None:
    label, artifact = labelled
    snapshot = only_snapshot(artifact.uri)
    assert commits_with_labels(label.table) == 1
    assert DeltaTable(str(label.table)).version() == snapshot.version
    content = fingerprint(Path(models["first"]) / "Format-Serving")
    assert (artifact.span, artifact.teacher) == (SPAN, content[:16])
    assert artifact.table_version == snapshot.version
    provenance = provenance_of(snapshot)
    assert provenance.teacher_version == "41"
    assert provenance.teacher_fingerprint == content
    assert provenance.examples_fingerprint == fingerprint(features.uri)
    assert provenance.transform_fingerprint == fingerprint(prepared.transform_graph.uri)
    assert provenance.watermark == WATERMARK


def test_labels_are_reused_and_the_log_says_so(
    labelled: Any, models: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    label, artifact = labelled
    files = sorted(label.table.rglob("*.parquet"))
    copy = shutil.copytree(models["first"], tmp_path / "elsewhere")
    with caplog.at_level("WARNING", logger="tfx_distill"):
        again = label(str(copy))
    snapshot = only_snapshot(artifact.uri)
    assert only_snapshot(again.uri) == snapshot
    assert again.table_version == artifact.table_version
    (said,) = (record.getMessage() for record in caplog.records if "reused" in record.getMessage())
    assert str(snapshot) in said
    assert sorted(label.table.rglob("*.parquet")) == files
    assert commits_with_labels(label.table) == 1


def test_another_teacher_commits_beside_the_first(
    label: Labeler, models: Any, caplog: pytest.LogCaptureFixture
) -> None:
    first = only_snapshot(label(models["first"]).uri)
    before = visible(first)
    with caplog.at_level("WARNING", logger="tfx_distill"):
        second = only_snapshot(label(models["second"]).uri)
    assert "reused" not in caplog.text
    assert second.version == first.version + 1
    assert second.teacher != first.teacher
    assert visible(first).equals(before)
    both = pl.read_delta(str(label.table))
    assert both.group_by("teacher").len()["len"].to_list() == [400, 400]
    slopes = both.pivot("teacher", index="example_id", values="logit_click")
    assert not (slopes[first.teacher] == slopes[second.teacher]).all()


@pytest.mark.parametrize("blessed", [0, None])
def test_an_unblessed_teacher_is_refused(blessed: int | None, label: Labeler, models: Any) -> None:
    with pytest.raises(ModelError) as caught:
        label(models["first"], blessed=blessed)
    assert models["first"] in caught.value.where
    assert "did not bless" in caught.value.got
    assert "gate.teacher" in caught.value.fix
    assert not label.table.exists()


def test_without_any_teacher_the_error_says_so(
    label: Labeler, prepared: Prepared, features: Any, tmp_path: Path
) -> None:
    with pytest.raises(ModelError, match="no blessed teacher"):
        execute(
            TeacherLabeler,
            tmp_path,
            {"features": features, "transform_graph": prepared.transform_graph},
            {"teacher_labels": made(TeacherLabels, tmp_path / "labels")},
            config=settings(prepared, label.table).model_dump_json(),
        )


def quality_of(artifact: Any) -> dict[str, Any]:
    quality: dict[str, Any] = json.loads((Path(artifact.uri) / "quality.json").read_text())
    return quality


def test_the_quality_of_labels_is_measured(labelled: Any, rows: Any, prepared: Prepared) -> None:
    _, artifact = labelled
    quality = quality_of(artifact)
    logits, clicked, times = [], [], []
    for wanted in rows.values():
        logits.append(0.5 * wanted["numeric"][:, 0] - 0.25 * wanted["categorical"][:, 0])
        clicked.append(wanted["label_click"])
        times.append(wanted["event_time"])
    predicted = 1 / (1 + np.exp(-np.concatenate(logits)))
    click = quality["tasks"]["click"]
    assert click["calibration"] == pytest.approx(
        predicted.mean() / np.concatenate(clicked).mean(), rel=1e-5
    )
    assert click["mean"] == pytest.approx(np.concatenate(logits).mean(), rel=1e-5)
    assert quality["staleness_mean_hours"] == pytest.approx(
        (np.concatenate(times).mean() - WATERMARK) / 3600
    )
    assert (quality["coverage"], quality["examples"]) == (1.0, 400)
    # Nobody labelled any of these examples before.
    assert click["compared"] == 0
    assert artifact.get_int_custom_property("watermark") == WATERMARK
    assert artifact.get_int_custom_property("teacher_span") == SPAN - 1


def test_two_teachers_are_compared_on_examples_that_both_labelled(
    label: Labeler, models: Any, features: Any, rows: Any, tmp_path: Path
) -> None:
    # The eval split of the span before is the beginning of this one's train split: here it is the
    # same examples under another split.
    before = label(models["first"])
    swapped = made(standard_artifacts.Examples, tmp_path / "swapped", number=9)
    for split, other in (("train", "eval"), ("eval", "train")):
        shutil.copytree(Path(features.uri) / f"Split-{other}", Path(swapped.uri) / f"Split-{split}")
    swapped.span = SPAN + 1
    after = label(models["second"], features=swapped, previous=before)
    quality = quality_of(after)
    wanted = rows["eval"]
    first = 0.5 * wanted["numeric"][:, 0] - 0.25 * wanted["categorical"][:, 0]
    second = -2.0 * wanted["numeric"][:, 0] - 0.25 * wanted["categorical"][:, 0]
    click = quality["tasks"]["click"]
    assert click["compared"] == ROWS["eval"]
    assert click["correlation"] == pytest.approx(np.corrcoef(first, second)[0, 1], abs=1e-4)
    assert click["shift"] == pytest.approx((second.mean() - first.mean()) / first.std(), rel=1e-4)
    assert quality["tasks"]["mood"]["correlation"] == pytest.approx(1.0)
    # A teacher is not compared with itself.
    again = label(models["second"], features=features, previous=after)
    assert quality_of(again)["tasks"]["click"]["compared"] == 0


def test_labels_that_break_a_limit_warn(
    label: Labeler, models: Any, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("WARNING", logger="tfx_distill"):
        artifact = label(models["first"], watch=LabelWatch(max_staleness_hours=1.0))
    assert "max_staleness_hours" in caplog.text
    assert "max_staleness_hours" in quality_of(artifact)["breaches"][-1]
    assert commits_with_labels(label.table) == 1


def test_labels_that_break_a_limit_that_fails_are_not_committed(
    label: Labeler, models: Any
) -> None:
    watch = LabelWatch(max_staleness_hours=1.0, calibration=None, on_breach="fail")
    with pytest.raises(LabelError) as caught:
        label(models["first"], watch=watch)
    assert "max_staleness_hours" in caught.value.got
    assert "not committed" in caught.value.fix
    assert not (label.table / "_delta_log").exists()
    # With other limits they are.
    label(models["first"])
    assert commits_with_labels(label.table) == 1


def test_a_teacher_that_predicts_nan_commits_nothing(
    label: Labeler, models: Any, rows: Any, tmp_path: Path
) -> None:
    before = visible(only_snapshot(label(models["first"]).uri))
    age = rows["train"]["numeric"][:, 0]
    lowest, next_lowest = np.sort(age)[:2]
    assert lowest < next_lowest < rows["eval"]["numeric"][:, 0].min()
    bad = rows["train"]["example_id"][np.argmin(age)]
    broken = save(tmp_path / "broken", limit=float(lowest + next_lowest) / 2)
    with pytest.raises(LabelError) as caught:
        label(broken)
    error = caught.value
    assert "task click" in error.where
    assert f"example_id {bad}" in error.where
    assert "split train" in error.where
    assert "nan" in error.got
    assert "1 of the" in error.got
    assert error.expected == "finite labels"
    assert "learning rate" in error.fix
    table = pl.read_delta(str(label.table)).sort("example_id")
    assert table.equals(before)
    assert commits_with_labels(label.table) == 1
    assert list(label.table.rglob("*.partial")) == []


def test_a_full_disk_is_one_error_and_harms_nothing(
    prepared: Prepared, features: Any, models: Any, tmp_path: Path
) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = mount_command(disk, "1m")
    command = [
        *("unshare", "-rm", "sh", "-c", f'{mount} && exec "$@"', "sh"),
        *(sys.executable, HERE / "label_on_a_full_disk.py", disk, tmp_path / "scratch"),
        *(features.uri, prepared.transform_graph.uri, models["first"], models["second"]),
        settings(prepared, disk / "table").model_dump_json(),
    ]
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    told = json.loads(done.stdout.splitlines()[-1])
    assert told["kind"] == "EnvironmentProblem"
    assert told["where"].startswith(told["table"])
    assert "a full disk after" in told["got"]
    assert told["expected"] == "room for the label file"
    assert "Free space" in told["fix"]
    assert "committed before are not affected" in told["fix"]
    assert told["unfinished"] == []
    assert told["unharmed"] is True
    assert told["labelled"] == sum(ROWS.values())
    assert told["versions"] == [1, 2]
    assert told["still unharmed"] is True
