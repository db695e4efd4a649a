"""What a further student costs when all of them learn from one labelling.

    .venv/bin/python -m benchmarks.sharing --json runs/bench/sharing.json

Two ways to distil K students from one teacher, for the epochs of the demo: the teacher labels once
and each student joins the labels; or each student runs the teacher in its own training loop, as
Keras' Distiller does. A student without any teacher, its undistilled twin, is the floor.

Every part is timed by itself, medians in turns, and the parts are added up. TensorFlow has one
thread, as each of the students that a run trains side by side; batches are made beside it.
`ratio_further_student` is what one more student costs, over the training of its twin.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from benchmarks import one_thread, prepared, result
from benchmarks.labeler import Work, label
from benchmarks.turns import in_turns, medians, paired_ratio
from tfx_distill.labels.join import LabelJoiner
from tfx_distill.pipeline import run_log

STUDENTS = (1, 2, 4, 8)
LABELLING, SHARED, OWN, TWIN = "labelling", "with labels", "with a teacher", "twin"


def measure(folder: Path, *, rows: int, runs: int) -> dict[str, Any]:
    """Seconds of the parts, with the large teacher and the demo's first student.

    Args:
      folder: For everything that is written.
      rows: Train examples.
      runs: Of each part.
    """
    from benchmarks.students import TeacherInTheLoop, begin
    from tfx_distill.components.artifacts import read_snapshots

    made = prepared.prepare(folder, rows)  # done: see `main`
    work = Work(made, made.features, made.teachers[prepared.LARGE], folder / "shared")
    label(work)
    snapshots = read_snapshots(str(work.scratch / "artifact"))
    student = made.config.students[0]
    kinds = {task.name: task.kind for task in made.config.tasks}
    in_the_loop = TeacherInTheLoop(work.teacher / prepared.SERVING, made.features, made.config)
    taught, twin = (begin(made.config, student, twin=is_twin) for is_twin in (False, True))
    epochs = student.training.epochs
    given: dict[str, Any] = {"examples": made.features, "span": 0, "epochs": epochs}
    again = Work(made, made.features, work.teacher, folder / "scratch")
    seconds = in_turns(
        {
            LABELLING: lambda: label(again),
            SHARED: lambda: taught.fit(labels=LabelJoiner(snapshots, "train", kinds), **given),
            OWN: lambda: taught.fit(labels=in_the_loop, **given),
            TWIN: lambda: twin.fit(**given),
        },
        runs,
    )
    typical = medians(seconds)
    totals = {
        str(k): {
            "labels shared": typical[LABELLING] + k * typical[SHARED],
            "a teacher each": k * typical[OWN],
            "no teacher": k * typical[TWIN],
        }
        for k in STUDENTS
    }
    most = totals[str(STUDENTS[-1])]
    return {
        "ratio_further_student": paired_ratio(seconds[SHARED], seconds[TWIN]),
        "ratio_a_teacher_each_to_shared": most["a teacher each"] / most["labels shared"],
        "examples": made.rows,
        "epochs": epochs,
        "seconds": typical,
        "totals": totals,
        "runs": seconds,
    }


def main() -> None:
    """Measures and prints."""
    asked = result.parser(__doc__).parse_args()
    run_log.divert(asked.into)
    rows = 20_000 if asked.small else 200_000
    prepared.prepare(asked.into, rows)
    found = one_thread.call(measure, asked.into, rows=rows, runs=asked.runs)
    ways = list(next(iter(found["totals"].values())))
    table = result.markdown(
        ["students", *(f"{way}, s" for way in ways)],
        [[k, *(f"{total[way]:.1f}" for way in ways)] for k, total in found["totals"].items()],
    )
    result.show(found, table, asked.json)


if __name__ == "__main__":
    main()
