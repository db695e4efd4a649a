"""What all experiments share: their command line, comparing, table, picture."""

from __future__ import annotations

import argparse
import json
import sys
import time
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.online.plan import MOVIELENS, Arm, Setting, Teacher
from benchmarks.statistics import curves, difference, dots, interval
from tfx_distill.pipeline import run_log

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from benchmarks.online.metrics import Metrics
    from benchmarks.online.seeds import Seed
    from tfx_distill.schema.config import RunConfig

ROWS: tuple[tuple[str, str], ...] = (
    ("click", "auc"),
    ("click", "gauc"),
    ("click", "log_loss"),
    ("click", "true auc"),
    ("click", "true log_loss"),
    ("satisfaction", "auc"),
    ("satisfaction", "log_loss"),
    ("satisfaction", "true log_loss"),
    ("watch_time", "mse"),
    ("ltv", "mse"),
    ("ltv", "true rank"),
    ("like", "auc"),
    ("like", "log_loss"),
    ("rating", "mse"),
)
"""Tasks and metrics of a table, where the stream has them."""


@dataclass(frozen=True)
class Panel:
    """One table of an experiment.

    Attributes:
      title: What it is about.
      comparisons: Titles of lines, each with that of its reference.
      rows: Tasks and metrics.
    """

    title: str
    comparisons: tuple[tuple[str, str], ...]
    rows: tuple[tuple[str, str], ...] = ROWS


@dataclass(frozen=True)
class Experiment:
    """A question, as models on the same streams that are compared within each seed.

    Attributes:
      name: Of its module, and of the folder of its result.
      lines: From a run config to students, or teachers, by title.
      panels: What is compared.
      figures: Further numbers of a seed, by name.
      by_span: Tasks and metrics whose differences of the last panel are drawn span by span.
    """

    name: str
    lines: Callable[[RunConfig], Mapping[str, Arm | Teacher]]
    panels: tuple[Panel, ...]
    figures: Callable[[Seed], dict[str, float]] | None = None
    by_span: tuple[tuple[str, str], ...] = ()

    def of_seed(self, seed: Seed) -> dict[str, Any]:
        """What the comparison needs of one seed."""
        lines: dict[str, list[Metrics]] = {}
        for title, line in self.lines(seed.stream.config).items():
            if isinstance(line, Arm):
                found = seed.followed(line).metrics
                # The first chunk of a stream is a batch; of a static set there is no other.
                lines[title] = found if line.static else found[1:]
            else:
                lines[title] = seed.taught(line).metrics[1:]
        return {"lines": lines, "figures": {} if self.figures is None else self.figures(seed)}

    def compare(self, seeds: list[dict[str, Any]], first_span: int) -> dict[str, Any]:
        """Intervals over seeds of every line and comparison; differences are paired.

        Args:
          seeds: From `of_seed`.
          first_span: Number of the first span that counts.
        """
        lines = [seed["lines"] for seed in seeds]
        names = seeds[0]["figures"]
        return {
            "experiment": self.name,
            "seeds": len(seeds),
            "first_span": first_span,
            "panels": {panel.title: _compared(panel, lines) for panel in self.panels},
            "figures": {name: interval(seed["figures"][name] for seed in seeds) for name in names},
            "by_span": {
                f"{task} {metric}, difference to {reference}": {
                    title: [
                        interval(span) for span in _differences(lines, title, other, task, metric).T
                    ]
                    for title, other in self.panels[-1].comparisons
                    if other == reference
                }
                for task, metric in self.by_span
                for reference in dict.fromkeys(r for _, r in self.panels[-1].comparisons)
            },
        }


def _compared(panel: Panel, lines: list[dict[str, list[Metrics]]]) -> dict[str, Any]:
    rows: dict[str, Any] = {}
    titles = dict.fromkeys(title for pair in panel.comparisons for title in pair)
    for task, metric in panel.rows:
        there = {t for t in titles if t in lines[0] and metric in lines[0][t][0].get(task, {})}
        if not there:
            continue
        rows[f"{task} {metric}"] = {
            "lines": {
                title: interval(_mean(_series(seed[title], task, metric)) for seed in lines)
                for title in titles
                if title in there
            },
            "differences": {
                f"{title} - {reference}": interval(
                    _mean(one) for one in _differences(lines, title, reference, task, metric)
                )
                for title, reference in panel.comparisons
                if {title, reference} <= there
            },
        }
    return rows


def table(result: Mapping[str, Any]) -> str:
    """The comparisons as Markdown; bold where the interval of a difference does not hold 0."""
    return "\n\n".join(
        [
            *(_panel(title, rows) for title, rows in result["panels"].items() if rows),
            *([_figures(result["figures"])] if result["figures"] else []),
        ]
    )


def _panel(title: str, rows: Mapping[str, Any]) -> str:
    names = list(dict.fromkeys(name for row in rows.values() for name in row["differences"]))
    references = list(dict.fromkeys(name.rsplit(" - ", 1)[1] for name in names))
    lines = [
        f"| {title} | " + " | ".join((*references, *names)) + " |",
        "|---|" + "---|" * (len(references) + len(names)),
    ]
    for metric, row in rows.items():
        cells = [
            f"{row['lines'][name]['mean']:.4f}" if name in row["lines"] else ""
            for name in references
        ]
        cells += [
            difference(row["differences"][name]) if name in row["differences"] else ""
            for name in names
        ]
        lines.append(f"| {metric} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _figures(figures: Mapping[str, Any]) -> str:
    lines = ["| figure | mean |", "|---|---|"]
    for name, found in figures.items():
        lines.append(f"| {name} | {found['mean']:.4g} ± {found['half_width']:.2g} |")
    return "\n".join(lines)


def picture(result: Mapping[str, Any], file: Path) -> None:
    """The curves by span where the experiment has them, else the differences as dots."""
    if result["by_span"]:
        curves(result["by_span"], result["first_span"], file)
    else:
        panels = {
            f"{title}: {name}" if len(result["panels"]) > 1 else name: row["differences"]
            for title, rows in result["panels"].items()
            for name, row in rows.items()
        }
        dots(panels, file)


def run(experiment: Experiment, arguments: list[str] | None = None) -> dict[str, Any]:
    """The command line of an experiment: does the seeds that are missing, then compares.

    Returns:
      What it wrote to `result.json`.
    """
    parser = argparse.ArgumentParser(prog=f"python -m benchmarks.online.{experiment.name}")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--spans", type=int, help="24, or the 8 months of MovieLens")
    parser.add_argument("--bootstrap", type=int, help="spans trained on together; 4, or 2")
    parser.add_argument("--examples", type=int, help="a simulated span; 15,000")
    parser.add_argument("--data", choices=("video", "movielens"), default="video")
    parser.add_argument("--into", type=Path, help="default: runs/online/NAME")
    parser.add_argument(
        "--shared", type=Path, help="streams and models that experiments share; beside INTO"
    )
    asked = parser.parse_args(arguments)
    if asked.seeds < 2:
        parser.error("an interval needs at least 2 seeds")
    name = experiment.name if asked.data == "video" else f"{experiment.name}-{asked.data}"
    into = asked.into or Path("runs/online") / name
    shared = asked.shared or into.parent / f"{asked.data}-seeds"
    run_log.divert(into)
    _one_thread()
    from benchmarks.online.seeds import Seed, open_folder

    setting = MOVIELENS if asked.data == "movielens" else Setting()
    for key in ("spans", "bootstrap", "examples"):
        if getattr(asked, key) is not None:
            setting = replace(setting, **{key: getattr(asked, key)})
    if setting.spans <= setting.bootstrap:
        parser.error(f"--spans must be above the {setting.bootstrap} of the bootstrap")
    open_folder(shared, setting)
    seeds = []
    for number in range(asked.seeds):
        started = time.monotonic()
        seeds.append(experiment.of_seed(Seed(setting, number, shared)))
        print(f"{name}: seed {number}, {time.monotonic() - started:.0f} s", file=sys.stderr)
    result = experiment.compare(seeds, setting.bootstrap)
    result = {"setting": json.loads(setting.to_json()), **result}
    (into / "result.json").write_text(json.dumps(result, indent=1))
    picture(result, into / "result.png")
    print(table(result))
    return result


def _one_thread() -> None:
    """One core, so that seconds are comparable and sums are always taken in one order."""
    import tensorflow as tf

    if tf.config.threading.get_intra_op_parallelism_threads() != 1:
        try:
            tf.config.threading.set_intra_op_parallelism_threads(1)
            tf.config.threading.set_inter_op_parallelism_threads(1)
        except RuntimeError:
            warnings.warn(
                "TensorFlow is running already: its threads stay as they are.", stacklevel=2
            )


def _differences(
    lines: list[dict[str, list[Metrics]]], title: str, reference: str, task: str, metric: str
) -> NDArray[np.float64]:
    """Of each seed and span: [seeds, spans]."""
    return np.array(
        [
            np.subtract(_series(seed[title], task, metric), _series(seed[reference], task, metric))
            for seed in lines
        ]
    )


def _series(metrics: list[Metrics], task: str, metric: str) -> list[float]:
    return [span[task][metric] for span in metrics]


def _mean(values: Any) -> float:
    """The mean over the spans in which the metric exists: an AUC needs both classes."""
    return float(np.nanmean(values))
