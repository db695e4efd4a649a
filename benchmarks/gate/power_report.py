"""How the power study of the gate is shown: tables as Markdown, and a picture."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")

import numpy as np
from matplotlib import pyplot as plt
from matplotlib.axes import Axes

from benchmarks.gate.power_rates import JUDGED, VERDICT, refusal

_NAMES = {"auc": "AUC", "log_loss": "log loss", VERDICT: "verdict"}
_CERTAIN = 0.01
"""Predictions nearer than this to 0 or 1 have no line of their own."""

Result = dict[str, Any]
"""What `power.main` writes, as read from JSON: keys are strings."""
Row = dict[str, Any]


def tables(result: Result) -> str:
    """All figures."""
    parts = [_students(result), _rates(result), _sight(result), _detectable(result)]
    return "\n\n".join("\n".join(part) for part in parts)


def _students(result: Result) -> list[str]:
    of = result["population"]
    lines = [
        f"True loss against the sound student on {of['queries']:,} queries ({of['examples']:,} "
        "examples), and the 95% interval of what these are themselves a sample of:",
        "",
        "| student | AUC | log loss |",
        "|---|---|---|",
    ]
    size, largest = list(result["sight"].items())[-1]
    for student, loss in result["students"].items():
        cells = [
            f"{loss[metric]:+.5f} ± "
            f"{1.96 * largest[student][metric]['error'] * math.sqrt(int(size) / of['queries']):.5f}"
            for metric in JUDGED
        ]
        lines.append(f"| {student} | " + " | ".join(cells) + " |")
    return lines


def rows(result: Result) -> list[Row]:
    """All rates, each with the queries, the student, and whether the prediction is `inside`."""
    return [
        row
        | {"queries": int(queries), "student": student}
        | {"inside": row["low"] <= row["predicted"] <= row["high"]}
        for queries, by_student in result["rates"].items()
        for student, rates in by_student.items()
        for row in rates
    ]


def _rates(result: Result) -> list[str]:
    every = rows(result)
    shown = [row for row in every if _CERTAIN < row["predicted"] < 1 - _CERTAIN]
    lines = [
        f"Refused, predicted and observed with the 95% interval: {sum(r['inside'] for r in shown)} "
        f"of {len(shown)} predictions are inside (bold: outside). Of the {len(every) - len(shown)} "
        f"predictions below {_CERTAIN:.0%} or above {1 - _CERTAIN:.0%}, not shown, "
        f"{sum(r['inside'] for r in every) - sum(r['inside'] for r in shown)} are.",
        "",
        "| queries | student | refused by | allowed | predicted | observed |",
        "|---|---|---|---|---|---|",
    ]
    for row in shown:
        observed = f"{row['rate']:.1%}" if row["inside"] else f"**{row['rate']:.1%}**"
        lines.append(
            f"| {row['queries']:,} | {row['student']} | {_NAMES[row['about']]} | {row['allowed']} "
            f"| {row['predicted']:.1%} | {observed} ({row['low']:.1%} - {row['high']:.1%}) |"
        )
    studied = [result["sight"][queries] for queries in result["rates"]]
    spread = [
        r["spread"] / r["error"] for one in studied for by in one.values() for r in by.values()
    ]
    lines += [
        "",
        f"The standard deviation of the measured differences is {min(spread):.2f} to "
        f"{max(spread):.2f} times the median standard error.",
    ]
    return lines


def _sight(result: Result) -> list[str]:
    students = list(result["students"])
    lines = [
        "The least loss to allow so that an equal student passes in 80%, and the loss that is then "
        "refused in 80%, if it differs from the other one as these do from the sound one:",
        "",
        "| metric | queries | " + " | ".join(students) + " |",
        "|---" * (2 + len(students)) + "|",
    ]
    for metric in JUDGED:
        for queries, by_student in result["sight"].items():
            found = [by_student[student][metric] for student in students]
            cells = [f"{one['tolerable']:.4f}, {one['detectable']:.4f}" for one in found]
            lines.append(f"| {_NAMES[metric]} | {int(queries):,} | " + " | ".join(cells) + " |")
    return lines


def _detectable(result: Result) -> list[str]:
    found = result["detectable"]
    return [
        f"A student whose true loss of AUC is {found['loss']:.5f}, which the verdicts on "
        f"{found['queries']:,} queries call detectable ({found['detectable']:.5f} with "
        f"{found['allowed']} allowed), was refused {found['refused']} of {found['evaluations']} "
        f"times: {found['rate']:.1%} ({found['low']:.1%} - {found['high']:.1%}); predicted "
        f"{found['predicted']:.1%}.",
    ]


def picture(result: Result, file: Path) -> None:
    """Refusals by the check of the AUC, observed and predicted; and what can be seen."""
    sizes = list(result["rates"])
    figure, axes = plt.subplots(1, len(sizes) + 1, figsize=(10, 3.2), layout="constrained")
    for axis, queries in zip(axes, sizes, strict=False):
        _refusals(axis, result, queries)
    _visible(axes[-1], result)
    for axis in axes:
        axis.tick_params(labelsize=6)
        axis.legend(fontsize=6)
    figure.savefig(file, dpi=150)
    plt.close(figure)


def _refusals(axis: Axes, result: Result, queries: str) -> None:
    """By allowed loss: of each student a line of predictions, and dots of what was observed."""
    for student, loss in result["students"].items():
        of = result["sight"][queries][student]["auc"]
        own = [row for row in result["rates"][queries][student] if row["about"] == "auc"]
        allowed = np.array([row["allowed"] for row in own])
        rate = np.array([row["rate"] for row in own])
        span = np.linspace(0, allowed.max() * 1.05, 200)
        predicted = refusal(span, loss["auc"], of["error"], of["critical"])
        (line,) = axis.plot(span, predicted, linewidth=0.8, label=f"{student}: {loss['auc']:+.4f}")
        whiskers = [rate - [row["low"] for row in own], [row["high"] for row in own] - rate]
        axis.errorbar(
            allowed,
            rate,
            yerr=np.maximum(whiskers, 0),
            fmt="o",
            markersize=3,
            capsize=2,
            color=line.get_color(),
        )
    axis.set_ylim(-0.03, 1.03)
    axis.set_xlabel("allowed loss of AUC (lines: predicted, dots: observed)", fontsize=6)
    axis.set_title(f"{int(queries):,} queries: share refused, by true loss", fontsize=7)


def _visible(axis: Axes, result: Result) -> None:
    """By the number of queries, the least loss to allow and what is then refused."""
    sizes = [int(queries) for queries in result["sight"]]
    for student in result["students"]:
        found = [by_student[student]["auc"] for by_student in result["sight"].values()]
        (line,) = axis.plot(sizes, [r["tolerable"] for r in found], marker=".", label=student)
        seen = [r["detectable"] for r in found]
        axis.plot(sizes, seen, marker=".", linestyle=":", color=line.get_color())
    axis.set_xscale("log")
    axis.set_yscale("log")
    axis.set_xticks(sizes, [f"{size:,}" for size in sizes])
    axis.minorticks_off()
    axis.set_xlabel("queries", fontsize=6)
    axis.set_title("AUC: least loss to allow; dotted: loss then refused", fontsize=7)
