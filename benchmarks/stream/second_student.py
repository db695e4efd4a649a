"""What a second student costs a stream: no teacher inference, and little more than plain training.

    .venv/bin/python -m benchmarks.stream.second_student --spans 8 --into runs/second_student

A stream with one student runs to its end; then a student joins, catches up from stored features and
labels, and follows the stream. Counted: examples that a teacher labelled, against those of
the span. Timed: the training of each student against that of its twin, which is trained without
labels on the same examples.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from tfx_distill.pipeline import run_log


def measure(folder: Path, *, spans: int, examples: int) -> dict[str, Any]:
    """Runs the stream with one student up to its middle, then with two."""
    from benchmarks.stream import project
    from tfx_distill.pipeline import stream
    from tfx_distill.schema import config as run_config
    from tfx_distill.trainer.teacher import Teacher

    file = project.write(folder, spans=spans, examples=examples)
    both = yaml.safe_load(file.read_text())
    alone = folder / "alone.yaml"
    alone.write_text(yaml.safe_dump(both | {"students": both["students"][:1]}))
    labelled = {"rows": 0}

    def counted(plain: Callable[..., Any]) -> Callable[..., Any]:
        def label(teacher: Teacher, given: Any) -> Any:
            for ids, labels, missing in plain(teacher, given):
                labelled["rows"] += len(ids)
                yield ids, labels, missing

        return label

    for name in ("label", "label_rows"):
        setattr(Teacher, name, counted(getattr(Teacher, name)))
    rows = []
    for config_file, chosen in ((alone, (0, spans // 2)), (file, None)):
        for done in stream.run(run_config.load(config_file), spans=chosen):
            if done.error is not None:
                raise done.error
            rows.append(
                {
                    "config": config_file.name,
                    "span": done.summary.last_span,
                    "examples": sum(done.summary.examples.values()),
                    "examples_labelled": labelled["rows"],
                    "seconds": {
                        s.component: s.seconds for s in done.summary.steps if s.state == "ran"
                    },
                }
            )
            labelled["rows"] = 0
    return {"runs": rows}


def ratios(runs: list[dict[str, Any]]) -> dict[str, float]:
    """Seconds of each distilled training over those of its twin: medians over the online spans."""
    found: dict[str, list[float]] = {}
    for run in runs:
        seconds = run["seconds"]
        for name, taken in seconds.items():
            kind, _, student = name.partition(".")
            twin = seconds.get(f"TwinTrainer.{student}")
            if kind == "StudentTrainer" and twin:
                found.setdefault(student, []).append(taken / twin)
    return {student: statistics.median(values) for student, values in found.items()}


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--spans", type=int, default=8)
    parser.add_argument("--examples", type=int, default=20_000, help="a span")
    parser.add_argument("--into", type=Path, default=Path("runs/second_student"))
    asked = parser.parse_args()
    run_log.divert(asked.into)
    result = measure(asked.into, spans=asked.spans, examples=asked.examples)
    result["ratios"] = ratios(result["runs"])
    (asked.into / "result.json").write_text(json.dumps(result, indent=1))
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
