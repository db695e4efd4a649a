"""Where a stream stands: spans, teacher, labels, and what serves."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from tfx_distill.datasets.log_files import ranges
from tfx_distill.pipeline import backfill, span_records, stream
from tfx_distill.pipeline.backfill import Teacher
from tfx_distill.pipeline.stream import Progress
from tfx_distill.pipeline.summary import Summary
from tfx_distill.schema.config import RunConfig


@dataclass(frozen=True)
class Serving:
    """A student in service: the newest one that was pushed.

    Attributes:
      student: Its name.
      path: Of the pushed model; None if none was ever pushed.
      span: Span that it was trained up to.
      since: When it was pushed, in seconds since the epoch.
      refused: Spans since then in which a successor was refused.
    """

    student: str
    path: str | None
    span: int | None
    since: float | None
    refused: tuple[int, ...]


@dataclass(frozen=True)
class Status:
    """All of it, from the records of the spans and from ML Metadata.

    Attributes:
      progress: Spans done and pending.
      labelled: The summary of the newest span with labels.
      newest_teacher: The newest teacher, blessed or not; None for students only.
      serving: By student of the config.
      failures: What failed, by span.
    """

    progress: Progress
    labelled: Summary | None
    newest_teacher: Teacher | None
    serving: tuple[Serving, ...]
    failures: dict[int, str]


def status(config: RunConfig, *, students_only: bool = False) -> Status:
    """Reads where a stream stands; runs nothing."""
    standing = stream.progress(config, students_only=students_only)
    records = span_records.read(config.run_folder)
    labelled = [record for record in records.values() if record.labels is not None]
    trained = (config.run_folder / "metadata.sqlite").exists() and not students_only
    teachers = backfill.teachers(config) if trained else []
    return Status(
        progress=standing,
        labelled=labelled[-1] if labelled else None,
        newest_teacher=max(teachers, key=lambda t: (t.span, t.version), default=None),
        serving=tuple(_serving(student.name, records) for student in config.students),
        failures={span: r.failed for span, r in records.items() if r.failed is not None},
    )


def _serving(student: str, records: dict[int, Summary]) -> Serving:
    path, at, since, refused = None, None, None, []
    for span, record in records.items():
        found = next((s for s in record.students if s.name == student), None)
        if found is None:
            continue
        if found.refused:
            refused.append(span)
        elif found.pushed is not None:
            path, at, since, refused = found.pushed, span, _written(found.pushed), []
    return Serving(student, path, at, since, tuple(refused))


def _written(path: str) -> float | None:
    # A span that is run again takes the push from the cache: the record's own time would be later.
    folder = Path(path)
    return folder.stat().st_mtime if folder.exists() else None


def show(found: Status, console: Console) -> None:
    """Prints a status for people."""
    standing = found.progress
    console.print(f"Done: {_ranges(standing.done)}", highlight=False)
    if standing.partial:
        console.print(f"[yellow]With a failure: {_ranges(standing.partial)}[/yellow]")
    if standing.failed is not None:
        console.print(f"[red]Failed: span {standing.failed}[/red]")
    for span, reason in found.failures.items():
        console.print(f"  span {span}: {escape(reason)}", highlight=False, soft_wrap=True)
    console.print(f"Pending: {', '.join(map(str, standing.pending)) or 'none'}", highlight=False)
    if standing.waiting:
        console.print(f"Waiting: {standing.waiting}", highlight=False)
    teacher = found.newest_teacher
    if teacher is not None:
        console.print(
            f"Newest teacher: version {teacher.version}, trained up to span {teacher.span}",
            highlight=False,
        )
    _show_labels(found.labelled, console)
    table = Table(title="\nIn service", title_justify="left", title_style="bold")
    for title in ("student", "span", "since", "refused in", "model"):
        table.add_column(title, overflow="fold")
    for one in found.serving:
        table.add_row(
            one.student,
            "-" if one.span is None else str(one.span),
            "-" if one.since is None else _time(one.since),
            _ranges(one.refused),
            one.path or "none yet",
        )
    console.print(table)


def _show_labels(record: Summary | None, console: Console) -> None:
    if record is None or record.labels is None:
        console.print("Labels: none yet")
        return
    labels = record.labels
    parts = [f"Labels: up to span {record.last_span}, by teacher {labels.teacher}"]
    if labels.labelled_by is not None:
        parts.append(f"trained up to span {labels.labelled_by}")
    if labels.watermark is not None:
        parts.append(f"on events until {_time(labels.watermark)}")
    hours = (labels.quality or {}).get("staleness_mean_hours")
    if hours is not None:
        parts.append(f"on average {hours:.1f} h before what it labelled")
    console.print(", ".join(parts), highlight=False, soft_wrap=True)


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, timezone.utc).strftime("%Y-%m-%d %H:%M UTC")


def _ranges(spans: tuple[int, ...]) -> str:
    return ranges(list(spans)) or "none"
