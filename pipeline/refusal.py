"""The newest student that its gate refused, in the records of the runs."""

from __future__ import annotations

from pathlib import Path

from tfx_distill.pipeline import span_records, summary
from tfx_distill.pipeline.summary import StudentSummary, Summary
from tfx_distill.schema.config import RunConfig
from tfx_distill.schema.errors import ConfigError

_EXPECTED = "a student that its gate refused"


def newest(config: RunConfig, name: str) -> Summary:
    """The run of the newest student of a name, which its gate refused and nobody let through.

    Raises:
      ConfigError: There is no such student, no run of it, or it was not its gate that refused it.
    """
    known = [student.name for student in config.students]
    if name not in known:
        raise ConfigError(
            "--student",
            got=repr(name),
            expected=f"one of {', '.join(known)}",
            fix="Name a student of this config.",
        )
    folder = config.run_folder
    records = list(span_records.read(folder).values()) or [summary.read(folder)]
    for record in reversed(records):
        found = next((student for student in record.students if student.name == name), None)
        if found is not None:
            _require_refused(found, record)
            return record
    raise ConfigError(
        "--student",
        got=f"{name}, which no run has brought to its gate",
        expected=_EXPECTED,
        fix="Run the config, with `distill run`.",
    )


def amend(folder: Path, record: Summary, student: StudentSummary) -> None:
    """Writes what has become of a student since into the records of its run.

    Args:
      folder: The run folder.
      record: Of the run, as it was.
      student: The student, as it is now.
    """
    students = tuple(student if one.name == student.name else one for one in record.students)
    changed = record.model_copy(update={"students": students})
    if record.last_span in span_records.read(folder):
        span_records.write(changed, folder)
    # On a stream the last run may have been without this student.
    if summary.read(folder).run_id == record.run_id:
        summary.write(changed, folder)


def _require_refused(student: StudentSummary, record: Summary) -> None:
    where = f"the newest {student.name}, of spans {record.spans}"
    if student.pushed is not None:
        got = f"{where}, was not refused: it serves from {student.pushed}"
        fix = "There is nothing to do. After the next refusal, try again."
    elif not student.verdict.blessed:
        return
    elif student.refused and student.serving is not None:
        why = student.serving.failures[0]
        got = f"{where}, was blessed by its gate but cannot be served: {why}"
        fix = "What cannot be served is never pushed. Mend that, or see `gate.serving`."
    else:
        got = f"{where}, was blessed by its gate but not pushed: its run failed before"
        fix = "Mend that, and run the config again, with `distill run`."
    raise ConfigError("--student", got=got, expected=_EXPECTED, fix=fix)
