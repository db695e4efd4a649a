"""The summary of a run: what was trained, how good it is, what was pushed and why, what it cost."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import ValidationError
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from tfx_distill.components.serving_report import ServingReport
from tfx_distill.components.verdict import Verdict
from tfx_distill.schema.config import HIGHER_IS_BETTER, Section
from tfx_distill.schema.errors import ConfigError

FILE = "summary.json"
MODELS = ("teacher", "candidate", "twin", "baseline")
_TITLES = {"candidate": "student"}
SHOWN_FAILURES = 20
"""Reasons of a refusal that are printed: with many slices there can be hundreds."""

Metrics = dict[str, dict[str, dict[str, float | None]]]
"""Value by model, task and metric; None where it is undefined."""


class StepSummary(Section):
    """What one component cost; see `local_runner.Step`."""

    component: str
    state: str
    seconds: float
    cpu_seconds: float
    peak_mib: float
    error: str | None
    phases: dict[str, float] = {}


class StudentSummary(Section):
    """One student.

    `transfer` is (student - twin) / (teacher - twin) by task and metric; None where the teacher
    is not better than the twin. `serving` is how the exported model did when it was served on
    trial; None if the run did not come to it. `pushed` is the path of the pushed model, None if it
    was refused.
    """

    name: str
    parameters: dict[str, int]
    metrics: Metrics
    transfer: dict[str, dict[str, float | None]]
    coverage: float | None
    verdict: Verdict
    serving: ServingReport | None = None
    pushed: str | None

    @property
    def refused(self) -> bool:
        """Whether the gate, or the trial of serving it, kept the student from being pushed."""
        unfit = self.serving is not None and not self.serving.blessed
        return self.pushed is None and (unfit or not self.verdict.blessed)


class LabelSummary(Section):
    """The teacher labels of a run.

    `table`, `version`, `teacher` and `span` are those of the (last) snapshot. `labelled_by` is the
    span up to which that teacher was trained and `watermark` the newest event time it saw, in
    seconds since the epoch; None where it is another pipeline's. `quality` is a
    `labels.quality.Quality` with the limits that it breaks.
    """

    table: str
    version: int
    teacher: str
    span: int
    labelled_by: int | None = None
    watermark: int | None = None
    quality: dict[str, Any] | None = None


class Summary(Section):
    """One run: of a batch, of the bootstrap of a stream, or of a later span (with `carried`).

    `anomalies` are what the ExampleValidator found in the data, by split and column. `finished` is
    in seconds since the epoch. `resident_mib` is the memory of the process at the end. `code` is
    the `code_version` that ran. `labels_refused` says that there are no labels because they broke a
    limit of `labels.watch`. `start` is what came before the first component, imports above
    all, in a run that a command made.
    """

    name: str
    run_id: str
    seed: int
    code: str | None = None
    first_span: int
    last_span: int
    carried: int | None = None
    finished: float
    resident_mib: float = 0.0
    examples: dict[str, int]
    failed: str | None
    anomalies: tuple[str, ...] = ()
    teacher: Verdict | None
    teacher_parameters: int | None
    labels: LabelSummary | None
    labels_refused: bool = False
    students: tuple[StudentSummary, ...]
    steps: tuple[StepSummary, ...]
    start: StepSummary | None = None

    @property
    def spans(self) -> str:
        """The spans, for people."""
        first, last = self.first_span, self.last_span
        return str(last) if first == last else f"{first}-{last}"

    @property
    def seconds(self) -> float:
        """Wall time of all components."""
        return sum(step.seconds for step in self.steps)


def transfer(metrics: Metrics) -> dict[str, dict[str, float | None]]:
    """The transfer ratio by task and metric; None where the teacher is not better than the twin."""
    out: dict[str, dict[str, float | None]] = {}
    for task, values in metrics.get("candidate", {}).items():
        for name, student in values.items():
            if name in HIGHER_IS_BETTER:
                twin = metrics.get("twin", {}).get(task, {}).get(name)
                teacher = metrics.get("teacher", {}).get(task, {}).get(name)
                sign = 1 if HIGHER_IS_BETTER[name] else -1
                out.setdefault(task, {})[name] = _ratio(sign, student, twin, teacher)
    return out


def _ratio(
    sign: int, student: float | None, twin: float | None, teacher: float | None
) -> float | None:
    if student is None or twin is None or teacher is None:
        return None
    lead = sign * (teacher - twin)
    # Without a lead of the teacher there is nothing to transfer.
    return sign * (student - twin) / lead if lead > 1e-12 else None


def write(summary: Summary, folder: Path) -> Path:
    """Writes `summary.json` into the run folder, replacing that of the run before."""
    file = folder / FILE
    unfinished = file.with_suffix(".partial")
    unfinished.write_text(summary.model_dump_json(indent=1))
    unfinished.replace(file)
    return file


def read(folder: Path) -> Summary:
    """The summary of the last run.

    Raises:
      ConfigError: There was no run.
    """
    return read_file(folder / FILE)


def read_file(file: Path) -> Summary:
    """The summary in a file.

    Raises:
      ConfigError: There is no such file, or another version of tfx-distill wrote it.
    """
    if not file.exists():
        raise ConfigError(
            str(file),
            got="no such file",
            expected="the summary of a run",
            fix="Run the config first, with `distill run`.",
        )
    try:
        return Summary.model_validate_json(file.read_text())
    except ValidationError:
        raise ConfigError(
            str(file),
            got="a summary of another version of tfx-distill",
            expected="one that this version wrote",
            fix="Run the config again; what has not changed comes from the cache.",
        ) from None


def show(summary: Summary, console: Console) -> None:
    """Prints a summary for people."""
    count = ", ".join(f"{rows:,} {split}" for split, rows in summary.examples.items())
    console.print(
        f"\n[bold]{summary.name}[/bold], run {summary.run_id}, spans {summary.spans}, "
        f"seed {summary.seed}" + (f": {count} examples" if count else "")
    )
    for anomaly in summary.anomalies:
        console.print(f"[yellow]Data anomaly:[/yellow] {anomaly}", highlight=False)
    if summary.teacher is not None:
        _show_verdict("Teacher", summary.teacher, console)
    if summary.labels is not None:
        _show_labels(summary.labels, summary.last_span, console)
    for student in summary.students:
        _show_student(student, summary, console)
    _show_steps(summary, console)
    if summary.failed is not None:
        console.print(f"[bold red]Failed:[/bold red] {escape(summary.failed)}", highlight=False)


def _show_labels(labels: LabelSummary, span: int, console: Console) -> None:
    where = f"Label table {labels.table}, version {labels.version}"
    if labels.labelled_by is not None and labels.labelled_by < span:
        age = span - labels.labelled_by
        where += f"; the teacher is {age} span{'s' if age > 1 else ''} old"
    console.print(escape(where), soft_wrap=True)
    for sentence in (labels.quality or {}).get("breaches", ()):
        console.print(f"[yellow]Label quality:[/yellow] {escape(sentence)}", highlight=False)


def _show_student(student: StudentSummary, summary: Summary, console: Console) -> None:
    shown = [model for model in MODELS if model in student.metrics]
    counts = {
        "teacher": summary.teacher_parameters,
        "candidate": student.parameters.get("student"),
        "twin": student.parameters.get("twin"),
    }
    table = Table(title=f"\nStudent {student.name}", title_justify="left", title_style="bold")
    table.add_column("task")
    table.add_column("metric")
    for model in shown:
        size = counts.get(model)
        title = _TITLES.get(model, model)
        table.add_column(title if size is None else f"{title}\n{size:,}", justify="right")
    table.add_column("transfer\nratio", justify="right")
    for task, values in student.metrics["candidate"].items():
        for metric in [*HIGHER_IS_BETTER, "calibration"]:
            if metric not in values:
                continue
            cells = [_number(student.metrics[model].get(task, {}).get(metric)) for model in shown]
            transfer = student.transfer.get(task, {}).get(metric)
            better = "" if metric == "calibration" else (" ↑" if HIGHER_IS_BETTER[metric] else " ↓")
            table.add_row(
                task, metric + better, *cells, "" if transfer is None else f"{transfer:.2f}"
            )
        table.add_section()
    console.print(table)
    if student.coverage is not None:
        console.print(f"Label coverage {student.coverage:.2%}")
    _show_verdict(f"Student {student.name}", student.verdict, console)
    # Of a student that its gate refused, the trial only says that there was none.
    let_through = student.verdict.blessed or student.verdict.overridden is not None
    if let_through and student.serving is not None:
        _show_serving(student.serving, console)
    console.print(
        f"[green]Pushed to {escape(student.pushed)}[/green]"
        if student.pushed
        else "[yellow]Not pushed[/yellow]",
        highlight=False,
        soft_wrap=True,
    )


def _show_verdict(title: str, verdict: Verdict, console: Console) -> None:
    if verdict.blessed:
        against = f" against its {' and its '.join(verdict.others)}" if verdict.others else ""
        left_out = f", {len(verdict.not_judged)} not judged" if verdict.not_judged else ""
        count = len(verdict.checks)
        console.print(f"{title}: [green]blessed[/green] ({count} checks{against}{left_out})")
    else:
        console.print(f"{title}: [red]refused[/red]")
    if verdict.overridden is not None:
        why = verdict.overridden
        sentence = f"Let through by {why.by} at {why.at}: {why.because}"
        console.print(f"  [yellow]{escape(sentence)}[/yellow]", highlight=False)
    _show_failures(verdict.failures, console)


def _show_serving(serving: ServingReport, console: Console) -> None:
    if serving.blessed:
        console.print(f"Serving: [green]fit[/green] ({len(serving.checks)} checks)")
        return
    console.print("Serving: [red]unfit[/red]")
    _show_failures(serving.failures, console)


def _show_failures(sentences: tuple[str, ...], console: Console) -> None:
    for sentence in sentences[:SHOWN_FAILURES]:
        console.print(f"  - {escape(sentence)}", highlight=False)
    if len(sentences) > SHOWN_FAILURES:
        console.print(f"  - and {len(sentences) - SHOWN_FAILURES} more, all in the summary's file")


def _show_steps(summary: Summary, console: Console) -> None:
    table = Table(title="\nComponents", title_justify="left", title_style="bold")
    table.add_column("component")
    for title in ("state", "seconds", "CPU s", "peak MiB"):
        table.add_column(title, justify="right")
    for step in summary.steps:
        table.add_row(
            step.component,
            step.state,
            f"{step.seconds:.1f}",
            f"{step.cpu_seconds:.1f}",
            f"{step.peak_mib:,.0f}",
        )
    table.add_section()
    table.add_row("all", "", f"{summary.seconds:.1f}", "", "")
    console.print(table)


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"
