"""What a stream does next, from the logs that are there and the records of its spans."""

from __future__ import annotations

import copy
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from config_basis import BASIS

from tfx_distill.pipeline import session, span_records, stopping, stream
from tfx_distill.pipeline.session import Done, Spans
from tfx_distill.pipeline.summary import LabelSummary, Summary
from tfx_distill.schema.config import RunConfig
from tfx_distill.schema.errors import ConfigError, DataError


@pytest.fixture
def config(tmp_path: Path) -> RunConfig:
    content = copy.deepcopy(BASIS) | {"root": str(tmp_path / "runs"), "stream": {"bootstrap": 2}}
    content["data"]["spans"] = f"{tmp_path}/logs/span-{{SPAN}}/{{split}}-*.parquet"
    return RunConfig.model_validate(content)


def arrive(config: RunConfig, *spans: int, complete: bool = True) -> None:
    for span in spans:
        folder = Path(config.data.spans).parents[1] / f"span-{span}"
        folder.mkdir(parents=True, exist_ok=True)
        for split in ("train", "eval"):
            (folder / f"{split}-0.parquet").touch()
        if complete:
            (folder / "_SUCCESS").touch()


def record(
    config: RunConfig,
    first: int,
    last: int,
    *,
    failed: str | None = None,
    labelled: bool = True,
    refused: bool = False,
) -> Summary:
    """Keeps the record of a run, as the stream does at its end."""
    found = Summary(
        name=config.name,
        run_id="1",
        seed=0,
        first_span=first,
        last_span=last,
        carried=None if first < last else first - 1,
        finished=0.0,
        examples={},
        failed=failed,
        teacher=None,
        teacher_parameters=None,
        labels=LabelSummary(table="t", version=1, teacher="a", span=last) if labelled else None,
        labels_refused=refused,
        students=(),
        steps=(),
    )
    span_records.write(found, config.run_folder)
    return found


def pending(config: RunConfig) -> list[tuple[int, int, int | None, int]]:
    return [(p.first, p.last, p.carried, p.age) for p in stream.progress(config).pending]


def test_a_stream_starts_with_its_bootstrap_and_goes_on_span_by_span(config: RunConfig) -> None:
    arrive(config, 4, 5, 6, 7)
    assert pending(config) == [(4, 5, None, 0), (6, 6, 5, 1), (7, 7, 6, 2)]
    record(config, 4, 5)
    record(config, 6, 6)
    standing = stream.progress(config)
    assert standing.done == (4, 5, 6)
    assert pending(config) == [(7, 7, 6, 2)]


def test_logs_of_processed_spans_may_go(config: RunConfig) -> None:
    record(config, 4, 5)
    record(config, 6, 6)
    arrive(config, 6, 7)
    assert pending(config) == [(7, 7, 6, 2)]


def test_an_incomplete_span_is_not_begun(config: RunConfig) -> None:
    arrive(config, 0, 1, 2)
    arrive(config, 3, complete=False)
    assert pending(config) == [(0, 1, None, 0), (2, 2, 1, 1)]
    assert stream.progress(config).waiting is None


def test_a_bootstrap_waits_for_all_its_spans(config: RunConfig) -> None:
    arrive(config, 0, 2)
    standing = stream.progress(config)
    assert standing.pending == ()
    assert standing.waiting == "the bootstrap needs 2 spans: span 1 is missing"
    with pytest.raises(DataError, match="span 1 is missing"):
        list(stream.run(config))


def test_a_gap_stops_the_stream_before_it(config: RunConfig) -> None:
    arrive(config, 0, 1, 2, 4)
    standing = stream.progress(config)
    assert [str(part) for part in standing.pending] == ["0..1", "2"]
    assert standing.waiting == "span 3 is missing, although there are later ones"


@pytest.mark.parametrize(
    ("how", "expected"),
    [
        ({}, "done"),
        # One student failed: the next run tries it again, and goes on in any case.
        ({"failed": "a student"}, "partial"),
        ({"failed": "the logs", "labelled": False}, "failed"),
        # No student would ever come back to a span that nobody labelled ...
        ({"failed": "the labeler", "labelled": False}, "failed"),
        # ... but one whose labels were refused is left out on purpose.
        ({"failed": "the labels", "labelled": False, "refused": True}, "partial"),
    ],
)
def test_the_state_of_a_later_span(config: RunConfig, how: Any, expected: str) -> None:
    arrive(config, 0, 1, 2, 3)
    record(config, 0, 1)
    assert span_records.state(record(config, 2, 2, **how)) == expected
    standing = stream.progress(config)
    last = [str(part) for part in standing.pending]
    assert last == {"done": ["3"], "partial": ["2", "3"], "failed": ["2", "3"]}[expected]
    assert standing.failed == (2 if expected == "failed" else None)
    assert standing.partial == ((2,) if expected == "partial" else ())


def test_a_bootstrap_without_labels_is_done_again(config: RunConfig) -> None:
    arrive(config, 0, 1, 2)
    made = record(config, 0, 1, failed="the teacher was refused", labelled=False)
    assert span_records.state(made) == "failed"
    assert pending(config) == [(0, 1, None, 0), (2, 2, 1, 1)]
    made = record(config, 0, 1, failed="a student")
    assert span_records.state(made) == "partial"
    assert pending(config) == [(0, 1, None, 0), (2, 2, 1, 1)]


def test_a_failure_long_ago_is_left_to_those_who_catch_up(config: RunConfig) -> None:
    arrive(config, 0, 1, 2, 3, 4)
    record(config, 0, 1)
    record(config, 2, 2, failed="a student")
    record(config, 3, 3)
    assert pending(config) == [(4, 4, 3, 3)]


class Processed:
    """Stands for the runs of a stream: notes them, and keeps their records."""

    def __init__(self, config: RunConfig, *outcomes: dict[str, Any]) -> None:
        self.spans: list[str] = []
        self._config, self._outcomes = config, iter(outcomes)

    def __call__(self, config: RunConfig, spans: Spans, **_: Any) -> Done:
        self.spans.append(str(spans))
        made = record(config, spans.first, spans.last, **next(self._outcomes, {}))
        return Done(made, None if made.failed is None else RuntimeError(made.failed))


def test_a_run_goes_on_after_a_failed_student_and_ends_at_a_failed_span(
    config: RunConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    arrive(config, *range(6))
    partial, broken = {"failed": "a student"}, {"failed": "the logs", "labelled": False}
    processed = Processed(config, {}, partial, {}, broken)
    monkeypatch.setattr(stream, "process", processed)
    assert len(list(stream.run(config))) == 4
    assert processed.spans == ["0..1", "2", "3", "4"]
    # Mended: it is begun with the one that failed.
    list(stream.run(config))
    assert processed.spans[4:] == ["4", "5"]


def test_chosen_spans_are_run_again(config: RunConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    arrive(config, *range(6))
    processed = Processed(config)
    monkeypatch.setattr(stream, "process", processed)
    list(stream.run(config, spans=(0, 3)))
    assert processed.spans == ["0..1", "2", "3"]
    list(stream.run(config, spans=(2, 4)))
    assert processed.spans[3:] == ["2", "3", "4"]
    with pytest.raises(ConfigError, match="an older model is pushed"):
        list(stream.run(config, spans=(2, 3)))
    with pytest.raises(ConfigError, match="span 6"):
        list(stream.run(config, spans=(5, 6)))


def test_chosen_spans_do_not_skip_any(config: RunConfig) -> None:
    arrive(config, *range(6))
    record(config, 0, 1)
    with pytest.raises(ConfigError, match="span 2 is not processed"):
        list(stream.run(config, spans=(3, 4)))


def test_a_watch_waits_processes_and_stops(
    config: RunConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    arrive(config, 0)
    processed = Processed(config, {}, {"failed": "a student"})
    monkeypatch.setattr(stream, "process", processed)
    waited: list[str] = []

    def waiting(reason: str) -> None:
        waited.append(reason)
        arrive(config, len(waited))

    def stop() -> bool:
        return len(processed.spans) == 3

    list(stream.watch(config, poll_seconds=0, stop=stop, waiting=waiting))
    assert processed.spans == ["0..1", "2", "3"]
    assert waited[0] == "the bootstrap needs 2 spans: span 1 is missing"
    # The partial span is not run over and over while the next one is waited for.
    assert waited[1:] == ["the next span", "the next span"]


def test_a_watch_ends_at_a_span_that_stops_the_stream(
    config: RunConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    arrive(config, 0, 1, 2, 3)
    processed = Processed(config, {}, {"failed": "the logs", "labelled": False})
    monkeypatch.setattr(stream, "process", processed)
    assert len(list(stream.watch(config, poll_seconds=0))) == 2


def test_students_wait_for_labels(config: RunConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    arrive(config, 0, 1, 2, 3)
    labelled: set[int] = set()
    monkeypatch.setattr(stream, "_labelled", lambda config: labelled)
    assert stream.progress(config, students_only=True).waiting == "span 1 is not labelled"
    assert list(stream.run(config, students_only=True)) == []
    # A part of its labels is not enough; those of a teacher's bootstrap bear its last span.
    labelled.update((0, 2))
    assert stream.progress(config, students_only=True).waiting == "span 1 is not labelled"
    labelled.remove(0)
    labelled.add(1)
    standing = stream.progress(config, students_only=True)
    assert [str(part) for part in standing.pending] == ["0..1", "2"]
    assert standing.waiting == "span 3 is not labelled"


def test_what_stored_features_depend_on_is_pinned(config: RunConfig) -> None:
    arrive(config, 0, 1, 2)
    content = yaml.safe_load(config.to_yaml())
    other = content | {"features": content["features"] | {"numeric": [{"name": "other"}]}}
    # What failed has left nothing that depends on it.
    record(config, 0, 1, failed="the teacher was refused", labelled=False)
    (config.run_folder / stream.PINNED).write_text(config.to_yaml())
    assert stream.progress(RunConfig.model_validate(other)).pending
    record(config, 0, 1)
    assert pending(config) == [(2, 2, 1, 1)]
    for section, key, value in (
        ("data", "shard_rows", 7),
        ("stream", "bootstrap", 3),
        ("features", "numeric", [{"name": "other"}]),
    ):
        changed = content | {section: content[section] | {key: value}}
        with pytest.raises(ConfigError, match=section):
            stream.progress(RunConfig.model_validate(changed))
    loss = [content["tasks"][0] | {"weight": 2.0}, *content["tasks"][1:]]
    with pytest.raises(ConfigError, match="tasks"):
        stream.progress(RunConfig.model_validate(content | {"tasks": loss}))
    drift = content["data"] | {"validation": {"drift": 0.9}}
    for harmless in ({"stream": content["stream"] | {"epochs": 3}}, {"data": drift}):
        assert stream.progress(RunConfig.model_validate(content | harmless)).pending


def test_a_stream_and_a_batch_do_not_share_a_folder(config: RunConfig) -> None:
    arrive(config, 0, 1)
    config.run_folder.mkdir(parents=True)
    (config.run_folder / "metadata.sqlite").touch()
    with pytest.raises(ConfigError, match="a batch was run"):
        stream.progress(config)
    (config.run_folder / stream.PINNED).write_text(config.to_yaml())
    with pytest.raises(ConfigError, match="the run folder of a stream"):
        session.run(config.model_copy(update={"stream": None}))


@pytest.fixture
def stop() -> Iterator[stopping.Stop]:
    with stopping.on_signals() as found:
        yield found


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_signal_asks_and_the_second_ends(
    stop: stopping.Stop, number: signal.Signals, capsys: pytest.CaptureFixture[str]
) -> None:
    assert not stop()
    signal.raise_signal(number)
    assert stop()
    assert "Stopping" in capsys.readouterr().err
    with pytest.raises(SystemExit) as caught:
        signal.raise_signal(number)
    assert caught.value.code == 128 + number
