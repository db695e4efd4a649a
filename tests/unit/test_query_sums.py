"""Sums over queries, against the metrics of the ModelEvaluator and on resampled rows."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import paired_rows
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from paired_rows import KINDS, MODELS, SLICES

from tfx_distill.components import stored_predictions
from tfx_distill.components.area_under_curve import AreaUnderCurve
from tfx_distill.components.column_metric import ColumnMetric, ScoredColumns
from tfx_distill.components.grouped_auc import GroupedAuc
from tfx_distill.components.mean_metrics import (
    AbsoluteError,
    CalibrationRatio,
    LogLoss,
    SquaredError,
)
from tfx_distill.components.query_ndcg import QueryNdcg
from tfx_distill.components.query_sums import SliceSums, slice_sums
from tfx_distill.schema.errors import ConfigError, DataError

CUT = 3
EVERY: tuple[ColumnMetric, ...] = (CalibrationRatio(), QueryNdcg(top_k=CUT))
METRICS: dict[str, tuple[ColumnMetric, ...]] = {
    "binary": (*EVERY, AreaUnderCurve(), LogLoss(), GroupedAuc()),
    "regression": (*EVERY, SquaredError(), AbsoluteError()),
}


def sums_of(files: Sequence[Path], **sizes: int) -> dict[str, SliceSums]:
    with stored_predictions.opened(files, MODELS, SLICES, **sizes) as stored:
        return {part.name: part for part in slice_sums(stored, MODELS, KINDS, CUT)}


def values(part: SliceSums) -> dict[tuple[str, str, str], float]:
    return {key: float(value) for key, value in part.values(part.sums.sum(axis=0)).items()}


def in_slice(rows: dict[str, Any], name: str) -> np.ndarray:
    if not name:
        return np.ones(len(rows["query_id"]), bool)
    column, value = name.split("=")
    return np.array([str(found) == value for found in rows[column]])


def by_the_evaluator(rows: dict[str, Any], name: str) -> dict[tuple[str, str, str], float]:
    """The column metrics themselves, as the ModelEvaluator computes them."""
    out = {}
    for model, tasks in MODELS.items():
        for task in tasks:
            kept = in_slice(rows, name) & (rows[f"weight_{task}"] > 0)
            columns = ScoredColumns(
                rows["query_id"][kept],
                rows[f"label_{task}"][kept].astype(np.float64),
                rows[f"{model}/{task}"][kept],
                rows[f"weight_{task}"][kept].astype(np.float64),
            )
            for metric in METRICS[KINDS[task]]:
                out[model, task, metric.name] = metric.value(metric.statistic(columns))
    return out


ALL_SLICES = ("", "device=phone", "device=tv", "new_item=0", "new_item=1")
ALL_ROWS = {"": range(1)}


@settings(max_examples=15)
@given(
    seed=st.integers(0, 10**6),
    files=st.integers(1, 4),
    partition_rows=st.sampled_from([100, 10**6]),
)
def test_drawn_once_each_query_gives_the_metrics_of_the_evaluator(
    tmp_path_factory: pytest.TempPathFactory, seed: int, files: int, partition_rows: int
) -> None:
    rows = paired_rows.rows(seed)
    paths = paired_rows.write(rows, tmp_path_factory.mktemp("rows"), files)
    found = sums_of(paths, partition_rows=partition_rows)
    assert tuple(found) == ALL_SLICES
    for name, part in found.items():
        assert values(part) == pytest.approx(by_the_evaluator(rows, name), abs=1e-9, nan_ok=True)


def redrawn(rows: dict[str, Any], groups: np.ndarray, times: np.ndarray) -> dict[str, Any]:
    """The rows of each group as often as it is drawn, each time as queries of their own."""
    order = np.repeat(np.arange(len(groups)), times[groups])
    copy = np.concatenate([np.arange(n) for n in times[groups]])
    out = {name: column[order] for name, column in rows.items()}
    out["query_id"] = out["query_id"] * 16 + copy
    return out


@pytest.mark.parametrize("name", ALL_SLICES)
def test_resamples_have_the_metrics_of_their_rows(tmp_path: Path, name: str) -> None:
    rows = paired_rows.rows(3, queries=300)
    rows["query_id"] = np.unique(rows["query_id"], return_inverse=True)[1]
    part = sums_of(paired_rows.write(rows, tmp_path))[name]
    draws = np.random.default_rng(0).multinomial(300, np.full(300, 1 / 300), 10)
    found = part.values(draws[:, part.groups] @ part.sums)
    expected = [by_the_evaluator(redrawn(rows, rows["query_id"], t), name) for t in draws]
    for key, values_found in found.items():
        exact = np.array([one[key] for one in expected])
        if key[2] == "auc":
            # Linearised: what is left out is of second order in the change.
            change = exact - values(part)[key]
            assert np.std(values_found - exact) < 0.1 * np.std(change)
        else:
            assert values_found == pytest.approx(exact, abs=1e-9)


def test_the_auc_of_one_example_more_by_hand(tmp_path: Path) -> None:
    # Queries 0 to 3 have one example each. Of 2 negatives, 0.3 and 0.1, the positive 0.8 wins 2,
    # the positive 0.3 one and a half: AUC 3.5/4. With the positive 0.3 drawn twice, 5/6.
    rows = paired_rows.rows(0, queries=4, size=1)
    rows |= {
        "query_id": np.arange(4),
        "label_click": np.array([1, 1, 0, 0], np.float32),
        "weight_click": np.ones(4, np.float32),
        "candidate/click": np.array([0.8, 0.3, 0.3, 0.1], np.float32),
    }
    part = sums_of(paired_rows.write(rows, tmp_path))[""]
    drawn = part.values(np.array([[1.0, 1, 1, 1], [1, 2, 1, 1], [1, 1, 2, 1]]) @ part.sums)
    # One class alone is drawn anew: the linear form is exact.
    assert drawn["candidate", "click", "auc"] == pytest.approx([3.5 / 4, 5 / 6, 5 / 6])


def test_a_query_in_two_slices_is_ranked_in_each_by_itself(tmp_path: Path) -> None:
    rows = paired_rows.rows(0, queries=1, size=2)
    assert len(rows["query_id"]) == 3
    rows = {name: np.tile(column, 2)[:4] for name, column in rows.items()}
    rows |= {
        "device": np.array(["phone", "phone", "tv", "tv"]),
        "label_click": np.array([0, 1, 1, 0], np.float32),
        "weight_click": np.ones(4, np.float32),
        "candidate/click": np.array([0.1, 0.2, 0.3, 0.4], np.float32),
    }
    found = sums_of(paired_rows.write(rows, tmp_path))
    gauc = {name: values(part)["candidate", "click", "gauc"] for name, part in found.items()}
    assert (gauc["device=phone"], gauc["device=tv"], gauc[""]) == (1, 0, 0.5)


def test_queries_are_counted_where_they_count_by_hand(tmp_path: Path) -> None:
    # Query 0: both classes. 1: positives only. 2: one row. 3: no click, so no time. 4: weight 0.
    rows: dict[str, Any] = {
        "query_id": np.array([0, 0, 1, 1, 2, 3, 3, 4]),
        "label_click": np.array([0, 1, 1, 1, 1, 0, 0, 1], np.float32),
        "weight_click": np.array([1, 1, 1, 1, 1, 1, 1, 0], np.float32),
        "label_time": np.ones(8, np.float32),
        "weight_time": np.array([0, 1, 1, 1, 1, 0, 0, 0], np.float32),
        "device": np.array(["tv"] * 4 + ["phone"] * 4),
        "new_item": np.zeros(8, np.int64),
    }
    rows |= {f"{m}/{t}": np.full(8, 0.5, np.float32) for m, tasks in MODELS.items() for t in tasks}
    files = paired_rows.write(rows, tmp_path)
    for sizes in ({}, {"max_groups": 2}, {"partition_rows": 2}):
        found = sums_of(files, **sizes)
        queries = found[""].queries
        assert queries["click", "log_loss"] == 4
        assert queries["click", "auc"] == 2  # three have a positive, two a negative
        assert queries["click", "gauc"] == 1
        assert queries["click", "ndcg"] == 2
        assert queries["time", "mse"] == 3
        assert queries["time", "ndcg"] == 1
        assert found["device=phone"].queries["click", "auc"] == 1
        assert found["device=phone"].queries["click", "gauc"] == 0
        assert found["device=phone"].queries["time", "mae"] == 1


@pytest.mark.parametrize("partition_rows", [60, 10**6])
def test_merged_into_groups_queries_stay_whole(tmp_path: Path, partition_rows: int) -> None:
    rows = paired_rows.rows(1, queries=200)
    files = paired_rows.write(rows, tmp_path)
    apart = sums_of(files)
    merged = sums_of(files, max_groups=30, partition_rows=partition_rows)
    assert len(apart[""].groups) == 200
    assert list(merged[""].groups) == list(range(30))
    for name in ALL_SLICES:
        assert values(merged[name]) == pytest.approx(values(apart[name]), abs=1e-9)
        assert merged[name].queries == apart[name].queries
        assert (np.diff(merged[name].groups) > 0).all()


def test_groups_of_ids_in_a_row_are_of_about_equal_size(tmp_path: Path) -> None:
    rows = paired_rows.rows(1, queries=4000, size=1)
    rows["query_id"] = np.arange(len(rows["query_id"])) * 40
    files = paired_rows.write(rows, tmp_path)
    with stored_predictions.opened(files, MODELS, SLICES, max_groups=40) as stored:
        (partition,) = stored.partitions(ALL_ROWS)
    sizes = np.bincount(partition.group, minlength=40)
    # Binomial, of mean 100 and standard deviation 10.
    assert sizes.min() > 60
    assert sizes.max() < 140


def test_no_two_partitions_have_a_group_in_common(tmp_path: Path) -> None:
    files = paired_rows.write(paired_rows.rows(1, queries=100), tmp_path)
    with stored_predictions.opened(files, MODELS, SLICES, partition_rows=100) as stored:
        for _ in range(2):
            partitions = list(stored.partitions(ALL_ROWS))
            groups = [set(partition.group) for partition in partitions]
            assert len(groups) > 5
            assert sum(map(len, groups)) == len(set().union(*groups)) == stored.groups
            assert sum(len(p.query) for p in partitions) == sum(map(rows_in, files))


def rows_in(file: Path) -> int:
    return int(pq.ParquetFile(str(file)).metadata.num_rows)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_prediction_that_is_not_finite_breaks_its_model_task_and_slices(
    tmp_path: Path, bad: float
) -> None:
    rows = paired_rows.rows(5)
    expected = {name: by_the_evaluator(rows, name) for name in ALL_SLICES}
    at = np.flatnonzero((rows["weight_click"] > 0) & (rows["device"] == "tv"))[0]
    rows["candidate/click"][at] = bad
    rows["baseline/click"][np.flatnonzero(rows["weight_click"] == 0)[0]] = bad
    broken = {"", "device=tv", f"new_item={rows['new_item'][at]}"}
    for sizes in ({}, {"partition_rows": 60}):
        for name, part in sums_of(paired_rows.write(rows, tmp_path), **sizes).items():
            for key, value in values(part).items():
                if name in broken and key[:2] == ("candidate", "click"):
                    assert math.isnan(value), (name, key)
                else:
                    assert value == pytest.approx(expected[name][key], abs=1e-9), (name, key)


def test_what_the_labels_do_not_determine_is_nan(tmp_path: Path) -> None:
    rows = paired_rows.rows(5)
    rows["label_click"][:] = 1
    rows["weight_time"][:] = 0
    found = values(sums_of(paired_rows.write(rows, tmp_path))[""])
    undefined = {key[1:] for key, value in found.items() if math.isnan(value)}
    assert undefined == {
        ("click", "auc"),
        ("click", "gauc"),
        *(("time", metric) for metric in ("mse", "mae", "calibration", "ndcg")),
    }


def test_a_gain_below_zero_has_no_ndcg(tmp_path: Path) -> None:
    rows = paired_rows.rows(5)
    rows["label_time"][rows["weight_time"] > 0] -= 0.5
    found = values(sums_of(paired_rows.write(rows, tmp_path))[""])
    assert math.isnan(found["candidate", "time", "ndcg"])
    assert math.isfinite(found["candidate", "time", "mse"])


def test_more_scores_than_are_kept_apart(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    count = 150_000
    rows = {
        "query_id": np.arange(count) // 10,
        "label_click": (rng.random(count) < 0.1).astype(np.float32),
        "weight_click": np.ones(count, np.float32),
    }
    score = rng.random(count) * 0.5 + 0.2 * rows["label_click"]
    rows["candidate/click"] = score.astype(np.float32)
    files = paired_rows.write(rows, tmp_path)
    models = {"candidate": ("click",)}
    with stored_predictions.opened(files, models, (), partition_rows=40_000) as stored:
        (part,) = slice_sums(stored, models, {"click": "binary"}, CUT)
    kept = AreaUnderCurve()
    expected = kept.value(
        kept.statistic(
            ScoredColumns(
                rows["query_id"],
                rows["label_click"].astype(np.float64),
                rows["candidate/click"],
                rows["weight_click"].astype(np.float64),
            )
        )
    )
    assert values(part)["candidate", "click", "auc"] == pytest.approx(expected, abs=1e-6)


def test_errors_name_the_file_and_the_column(tmp_path: Path) -> None:
    rows = paired_rows.rows(0)
    files = paired_rows.write(rows, tmp_path)
    with (
        pytest.raises(DataError, match=r"part-00000.*no column.*'candidate/like'"),
        stored_predictions.opened(files, {"candidate": ["click", "like"]}, SLICES),
    ):
        pass
    with (
        pytest.raises(ConfigError, match=r"gate.slices: country: got no such column.*part-00000"),
        stored_predictions.opened(files, MODELS, ["device", "country"]),
    ):
        pass
    with pytest.raises(DataError, match="no prediction"), stored_predictions.opened([], MODELS, ()):
        pass
    files[1].write_bytes(b"not Parquet")
    with (
        pytest.raises(DataError, match="part-00001"),
        stored_predictions.opened(files, MODELS, SLICES),
    ):
        pass


def test_a_slice_column_of_too_many_values_is_refused(tmp_path: Path) -> None:
    rows = paired_rows.rows(0, queries=200)
    rows["new_item"] = np.arange(len(rows["query_id"]))
    with (
        pytest.raises(ConfigError, match=r"gate.slices: new_item"),
        stored_predictions.opened(paired_rows.write(rows, tmp_path), MODELS, SLICES),
    ):
        pass
