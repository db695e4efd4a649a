"""A stream on this machine: the bootstrap, then one run for each span, in order, and again later.

What is to be done next follows from the logs and from the records of the spans; there is no other
state. A run that was killed is begun again, and takes what it had finished from the cache.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import yaml

from tfx_distill.components.label_importer import unlabelled
from tfx_distill.datasets import logs
from tfx_distill.labels import catalogue, retention
from tfx_distill.pipeline import run_lock, session, span_records
from tfx_distill.pipeline.session import Done, Spans
from tfx_distill.pipeline.span_records import PINNED
from tfx_distill.pipeline.summary import Summary
from tfx_distill.schema.config import RunConfig, StreamConfig
from tfx_distill.schema.errors import ConfigError, DataError

_PINNED_SECTIONS = ("data", "features", "tasks")
"""What may not change after the bootstrap: models and stored features depend on it."""
_VACUUM_EVERY = 10
"""Spans: a vacuum reads the whole log of the label table."""


@dataclass(frozen=True)
class Progress:
    """Where a stream stands.

    Attributes:
      done: Spans that are processed; those of the bootstrap are all named.
      partial: Those of them in which a component failed.
      failed: The span that stopped the stream, if any.
      pending: What is to be run next, in order; a partial last span among it.
      waiting: Why there is not more of it, in words; None if it is only a matter of new spans.
    """

    done: tuple[int, ...]
    partial: tuple[int, ...]
    failed: int | None
    pending: tuple[Spans, ...]
    waiting: str | None = None


def progress(config: RunConfig, *, students_only: bool = False) -> Progress:
    """What was processed, and what can be processed now.

    Raises:
      ConfigError: The config changed in a way that the stored features and models do not allow.
      DataError: There are no logs at all.
    """
    stream = _stream(config)
    _refuse_changes(config)
    records = span_records.read(config.run_folder)
    states = {span: span_records.state(record) for span, record in records.items()}
    failed = next((span for span, state in states.items() if state == "failed"), None)
    there = logs.complete_spans(config.data, stream.success_file)
    labelled = _labelled(config) if students_only else None
    bootstrap = next(iter(records.values()), None)
    pending: list[Spans] = []
    waiting = None
    if bootstrap is None or states[bootstrap.last_span] == "failed":
        first = there[0] if there else 0
        chosen = Spans(first, first + stream.bootstrap - 1)
        missing = [span for span in chosen.numbers if span not in there]
        if missing:
            waiting = f"the bootstrap needs {stream.bootstrap} spans: span {missing[0]} is missing"
        elif labelled is not None and (gap := _unlabelled(labelled, chosen)) is not None:
            waiting = f"span {gap} is not labelled"
        else:
            pending.append(chosen)
        following = chosen.last + 1
        start = chosen.last
        done: list[int] = []
    else:
        start = bootstrap.last_span
        last = max(span for span, state in states.items() if state != "failed")
        done = [
            *range(bootstrap.first_span, start),
            *(span for span, state in states.items() if state != "failed"),
        ]
        following = last + 1
        if states[last] == "partial":
            pending.append(
                Spans(bootstrap.first_span, start)
                if last == start
                else Spans(last, last, carried=last - 1, age=last - start)
            )
    while waiting is None and following in there:
        if labelled is not None and following not in labelled:
            waiting = f"span {following} is not labelled"
            break
        pending.append(Spans(following, following, carried=following - 1, age=following - start))
        following += 1
    if waiting is None and any(span > following for span in there):
        waiting = f"span {following} is missing, although there are later ones"
    partial = tuple(span for span, state in states.items() if state == "partial")
    return Progress(tuple(done), partial, failed, tuple(pending), waiting)


def run(
    config: RunConfig,
    *,
    spans: tuple[int, int] | None = None,
    students_only: bool = False,
    stop: Callable[[], bool] = lambda: False,
) -> Iterator[Done]:
    """Processes the pending spans, in order; ends at a span that stops the stream.

    Args:
      config: Of the stream.
      spans: First and last span to process, also if they were processed before.
      students_only: Train students from the labels of another pipeline's teacher.
      stop: Asked between components.

    Yields:
      What became of each run, when it has ended.

    Raises:
      DataError: A span is missing although there are later ones.
      ConfigError: The spans cannot be processed now.
    """
    standing = progress(config, students_only=students_only)
    chosen = standing.pending if spans is None else _requested(config, standing, spans)
    # Students wait for labels as a matter of course.
    if spans is None and not chosen and standing.waiting and not students_only:
        raise DataError(
            config.data.spans,
            got=standing.waiting,
            expected="complete spans without a gap",
            fix="Bring the span, or write its success file. `distill watch` waits for it.",
        )
    for part in chosen:
        done = process(config, part, students_only=students_only, stop=stop)
        if done is None:
            return
        yield done
        if span_records.state(done.summary) == "failed":
            return


def process(
    config: RunConfig,
    spans: Spans,
    *,
    students_only: bool = False,
    stop: Callable[[], bool] = lambda: False,
) -> Done | None:
    """Runs one part of a stream and keeps its record; None if it was stopped before its end.

    Raises:
      DistillError: Config or data cannot be used, or nobody has labelled the spans; nothing was
        done.
    """
    version = labels_version(config, spans) if students_only else None
    if spans.carried is None:
        pin(config)
    done = session.run_spans(config, spans, labels_version=version, stop=stop)
    if done is None:
        return None
    conclude(config, done.summary, students_only=students_only)
    return done


def labels_version(config: RunConfig, spans: Spans) -> int:
    """The newest version of the label table with labels of these spans.

    Raises:
      LabelError: Nobody has labelled them.
    """
    found = catalogue.newest(config.label_table, (spans.first, spans.last))
    if not found:
        raise unlabelled(str(config.label_table), spans.first, spans.last)
    return max(snapshot.version for snapshot in found)


def conclude(config: RunConfig, result: Summary, *, students_only: bool) -> None:
    """Keeps the record of a part of a stream, and lets labels expire that nobody needs."""
    span_records.write(result, config.run_folder)
    if config.labels.keep_spans is not None and result.labels and not students_only:
        retention.expire(config.label_table, config.labels.keep_spans, result.last_span)
        if result.last_span % _VACUUM_EVERY == 0:
            retention.vacuum(config.label_table)


def watch(
    config: RunConfig,
    *,
    students_only: bool = False,
    poll_seconds: float = 10.0,
    stop: Callable[[], bool] = lambda: False,
    waiting: Callable[[str], None] = lambda reason: None,
) -> Iterator[Done]:
    """Processes spans as they become complete, until it is stopped or a span stops the stream.

    Args:
      config: Of the stream.
      students_only: As of `run`.
      poll_seconds: How often to look for new spans.
      stop: Asked between components and while waiting.
      waiting: Told what is waited for, each time that changes.

    Yields:
      What became of each run, when it has ended.

    Raises:
      DistillError: As of `process`.
    """
    told = None
    begun = False
    while not stop():
        try:
            standing = progress(config, students_only=students_only)
            pending, reason = standing.pending, standing.waiting or "the next span"
        except DataError as error:
            # Nothing was logged yet.
            pending, reason = (), f"{error.where}: {error.got}"
        if begun:
            # What failed before the watch began is tried again; later, with the next span.
            pending = tuple(part for part in pending if part.last not in standing.partial)
        if pending:
            try:
                # Not while it waits: others may have the folder then.
                with run_lock.held(config.run_folder):
                    done = process(config, pending[0], students_only=students_only, stop=stop)
            except run_lock.FolderInUse as busy:
                pending, reason = (), busy.got
        if not pending:
            if reason != told:
                told = reason
                waiting(reason)
            _sleep(poll_seconds, stop)
            continue
        told = None
        if done is None:
            return
        begun = True
        yield done
        if span_records.state(done.summary) == "failed":
            return


def _sleep(seconds: float, stop: Callable[[], bool]) -> None:
    until = time.monotonic() + seconds
    while not stop() and time.monotonic() < until:
        time.sleep(min(0.2, seconds))


def _stream(config: RunConfig) -> StreamConfig:
    if config.stream is None:
        raise ConfigError(
            "stream",
            got="a config without the section 'stream'",
            expected="a stream",
            fix="Add `stream: {}` to run span by span, or use `distill run`, which runs all spans "
            "as one batch.",
        )
    return config.stream


def _refuse_changes(config: RunConfig) -> None:
    file = config.run_folder / PINNED
    if not file.exists():
        if (config.run_folder / "metadata.sqlite").exists():
            raise ConfigError(
                "stream",
                got=f"a run folder in which a batch was run, {config.run_folder}",
                expected="one of its own: models of a batch know spans that are yet to come",
                fix="Give the stream another `name`.",
            )
        return
    before, now = (yaml.safe_load(text) for text in (file.read_text(), config.to_yaml()))
    for content in (before, now):
        # Limits on drift may be changed when a span was stopped by them; engines do the same.
        del content["data"]["validation"]
        content["data"].pop("engine", None)
    changed = [
        f"{name}.{part}"
        for name in _PINNED_SECTIONS
        for part in _differing(_by_name(before[name]), _by_name(now[name]))
    ]
    if before["stream"]["bootstrap"] != now["stream"]["bootstrap"]:
        changed.append("stream.bootstrap")
    begun = any(
        span_records.state(record) != "failed"
        for record in span_records.read(config.run_folder).values()
    )
    if changed and begun:
        raise ConfigError(
            ", ".join(changed),
            got=f"another value than at the bootstrap, see {file}",
            expected="the same: stored features and models depend on it",
            fix="Change it back, or start a new stream under another `name`.",
        )


def _by_name(section: Any) -> dict[str, Any]:
    """A section with its lists of named things taken apart: features and tasks by their names."""
    if isinstance(section, list):
        return {item["name"]: item for item in section}
    parts: dict[str, Any] = {}
    for key, value in section.items():
        named = isinstance(value, list) and value and isinstance(value[0], dict)
        parts |= {f"{key}.{n}": v for n, v in _by_name(value).items()} if named else {key: value}
    return parts


def _differing(before: dict[str, Any], now: dict[str, Any]) -> list[str]:
    return [k for k in {**before, **now} if before.get(k) != now.get(k)]


def _requested(config: RunConfig, standing: Progress, spans: tuple[int, int]) -> Sequence[Spans]:
    """The runs that cover a range of spans, whether they were processed before or not."""
    first, last = spans
    records = span_records.read(config.run_folder)
    start = next((record for record in records.values()), None)
    if start is None:
        bootstrap = next(iter(standing.pending), None)
    else:
        bootstrap = Spans(start.first_span, start.last_span)
    if bootstrap is None:
        raise _not_now(spans, standing.waiting or "there are no spans yet", "complete spans")
    if first <= bootstrap.last and first != bootstrap.first:
        raise _not_now(
            spans,
            f"a first span within the bootstrap {bootstrap}",
            f"{bootstrap.first}, or {bootstrap.last + 1} or later",
            f"Write --spans {bootstrap.first}..{last}, or {bootstrap.last + 1}..{last}.",
        )
    newest = max(records, default=bootstrap.last)
    if bootstrap.last <= last < newest:
        raise _not_now(
            spans,
            f"a range that ends before span {newest}, which was processed",
            f"up to span {newest}, lest an older model is pushed over the one that serves",
        )
    if last < bootstrap.last:
        raise _not_now(
            spans, f"a part of the bootstrap {bootstrap}", f"at least all of {bootstrap}"
        )
    known = {*standing.done, *(s for part in standing.pending for s in part.numbers)}
    unknown = [span for span in range(bootstrap.first, last + 1) if span not in known]
    if unknown:
        why = standing.waiting or "it is not there"
        raise _not_now(spans, f"span {unknown[0]} cannot be processed: {why}", "complete spans")
    skipped = [span for span in range(bootstrap.first, first) if span not in standing.done]
    if skipped:
        raise _not_now(spans, f"span {skipped[0]} is not processed", "spans in order")
    later = range(max(first, bootstrap.last + 1), last + 1)
    runs = [Spans(span, span, carried=span - 1, age=span - bootstrap.last) for span in later]
    return [bootstrap, *runs] if first == bootstrap.first else runs


def _not_now(
    spans: tuple[int, int],
    got: str,
    expected: str,
    fix: str = "`distill status` lists what is done and what is pending.",
) -> ConfigError:
    return ConfigError(
        f"--spans {spans[0]}..{spans[1]}",
        got=got,
        expected=expected,
        fix=fix,
    )


def pin(config: RunConfig) -> None:
    """Keeps the config of a bootstrap, which later spans are held against."""
    config.run_folder.mkdir(parents=True, exist_ok=True)
    file = config.run_folder / PINNED
    unfinished = file.with_suffix(".partial")
    unfinished.write_text(config.to_yaml())
    unfinished.replace(file)


def _unlabelled(labelled: set[int], bootstrap: Spans) -> int | None:
    """The first span of a bootstrap whose labels are still to come, if any.

    The teacher's own bootstrap is labelled under its last span, so the first spans may be missing.
    """
    there = labelled.intersection(bootstrap.numbers)
    first = min(there, default=bootstrap.last)
    return next((s for s in range(first, bootstrap.last + 1) if s not in labelled), None)


def _labelled(config: RunConfig) -> set[int]:
    return {labelling.span for labelling in catalogue.labellings(config.label_table)}
