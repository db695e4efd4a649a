"""Intervals over seeds, and how tables and pictures show them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TypedDict

import matplotlib
import numpy as np
from scipy import stats

matplotlib.use("Agg")

from matplotlib import pyplot as plt


class Interval(TypedDict):
    """A mean over seeds, half the width of its 95% interval, and the number of seeds."""

    mean: float
    half_width: float
    n: int


def interval(values: Iterable[float]) -> Interval:
    """Mean and half the width of its 95% interval (Student's t)."""
    sample = np.asarray(list(values), float)
    half = stats.t.ppf(0.975, len(sample) - 1) * stats.sem(sample)
    return {"mean": float(sample.mean()), "half_width": float(half), "n": len(sample)}


def difference(found: Interval, digits: int = 4) -> str:
    """A difference as a cell of a Markdown table: bold where its interval does not hold 0."""
    clear = abs(found["mean"]) > found["half_width"]
    text = f"{found['mean']:+.{digits}f} ± {found['half_width']:.{digits}f}"
    return f"**{text}**" if clear else text


def dots(
    panels: Mapping[str, Mapping[str, Interval]], file: Path, *, reference: float | None = 0.0
) -> None:
    """Dots with whiskers: a panel per metric, a line per model.

    Args:
      panels: By the title of the panel and the name of the line.
      file: A PNG.
      reference: Where to draw a vertical line.
    """
    lines = max(len(panel) for panel in panels.values())
    height = (0.45 + 0.14 * lines) * len(panels)
    figure, axes = plt.subplots(
        len(panels), 1, figsize=(7, height), layout="constrained", squeeze=False
    )
    for axis, (title, panel) in zip(axes[:, 0], panels.items(), strict=True):
        for place, found in enumerate(panel.values()):
            axis.errorbar(found["mean"], place, xerr=found["half_width"], fmt="o", capsize=3)
        if reference is not None:
            axis.axvline(reference, color="grey", linewidth=0.8)
        axis.set_yticks(range(len(panel)), list(panel), fontsize=5)
        axis.margins(y=0.3)
        axis.set_title(title, fontsize=7)
        axis.tick_params(axis="x", labelsize=6)
    figure.savefig(file, dpi=150)
    plt.close(figure)


def curves(panels: Mapping[str, Mapping[str, Sequence[Interval]]], first: int, file: Path) -> None:
    """Means over seeds with bands, span by span: a panel per metric, a line per model.

    Args:
      panels: By the title of the panel and the name of the line, one interval a span.
      first: Number of the first span.
      file: A PNG.
    """
    figure, axes = plt.subplots(
        len(panels), 1, figsize=(7, 2.4 * len(panels)), layout="constrained", squeeze=False
    )
    for axis, (title, panel) in zip(axes[:, 0], panels.items(), strict=True):
        for name, values in panel.items():
            mean = np.array([value["mean"] for value in values])
            half = np.array([value["half_width"] for value in values])
            spans = np.arange(first, first + len(values))
            (line,) = axis.plot(spans, mean, marker=".", label=name)
            axis.fill_between(spans, mean - half, mean + half, alpha=0.12, color=line.get_color())
        axis.axhline(0, color="grey", linewidth=0.8)
        axis.set_title(title, fontsize=7)
        axis.xaxis.get_major_locator().set_params(integer=True)
        axis.set_xlabel("span", fontsize=6)
        axis.tick_params(labelsize=6)
        axis.legend(fontsize=5)
    figure.savefig(file, dpi=150)
    plt.close(figure)
