"""The Resolvers of a stream: which teacher labels, what a model starts from and is trained on."""

from __future__ import annotations

from typing import Any

import pytest
from served_on_trial import Trials
from small_examples import made
from tfx.types.standard_artifacts import Examples, Model, ModelBlessing, TransformGraph

from tfx_distill.components import teacher_resolver, window_resolver
from tfx_distill.components.artifacts import TeacherLabels
from tfx_distill.components.baseline_resolver import BlessedBefore
from tfx_distill.components.span_resolver import OfSpans
from tfx_distill.components.teacher_resolver import BlessedTeacher, ModelById
from tfx_distill.components.window_resolver import TrainingWindow


@pytest.fixture(autouse=True)
def expired(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """Folders of labels that are no longer in their table."""
    gone: set[str] = set()
    for module in (window_resolver, teacher_resolver):
        monkeypatch.setattr(module, "is_readable", lambda uri: uri not in gone)
    return gone


def of_span(kind: type[Any], span: int, number: int) -> Any:
    """An artifact of a span; of a kind without that property, as a custom one."""
    item = made(kind, f"{kind.TYPE_NAME}/{number}", number)
    if "span" in (kind.PROPERTIES or {}):
        item.span = span
    else:
        item.set_int_custom_property("span", span)
    return item


def models(*spans_and_ids: tuple[int, int]) -> list[Any]:
    return [of_span(Model, span, number) for span, number in spans_and_ids]


def blessings(*models_and_verdicts: tuple[int, int]) -> list[Any]:
    out = []
    for place, (model, blessed) in enumerate(models_and_verdicts):
        blessing = made(ModelBlessing, f"blessing/{place}", 100 + place)
        blessing.set_int_custom_property("blessed", blessed)
        blessing.set_int_custom_property("current_model_id", model)
        out.append(blessing)
    return out


def ids(found: list[Any]) -> list[int]:
    return [item.id for item in found]


def window(
    span: int,
    stored: list[tuple[int, int]],
    trained: list[tuple[int, int]],
    labelled: list[tuple[int, int]] | None = None,
    judged: list[tuple[int, int]] | None = None,
    current: int = 99,
) -> tuple[list[int], list[int], list[int]]:
    """Ids of the chunks, the predecessor and the labels; `current` is this span's."""
    given: dict[str, list[Any]] = {
        "current_features": [of_span(Examples, span, current)],
        "features": [of_span(Examples, *item) for item in stored],
        "model": models(*trained),
    }
    if labelled is not None:
        given["current_labels"] = [of_span(TeacherLabels, span, current)]
        given["labels"] = [of_span(TeacherLabels, *item) for item in labelled]
    if judged is not None:
        given["model_blessing"] = blessings(*judged)
    found = TrainingWindow(span).resolve_artifacts(None, given)
    assert found.keys() == given.keys()
    return ids(found["features"]), ids(found["model"]), ids(found.get("labels", []))


@pytest.mark.parametrize(
    ("stored", "trained", "expected"),
    [
        # A stream that runs smoothly: this span alone, from the model of the one before.
        ([(1, 10), (2, 11)], [(1, 20), (2, 21)], ([99], [21])),
        # Training failed in span 2: both spans, in order, whatever the order in the store.
        ([(2, 11), (1, 10)], [(1, 20)], ([11, 99], [20])),
        # One that has just joined: everything.
        ([(1, 10), (2, 11)], [], ([10, 11, 99], [])),
        # A span that is run again does not start from its own or a later model.
        ([(1, 10), (2, 11), (3, 12), (4, 13)], [(2, 21), (3, 22), (4, 23)], ([99], [21])),
        # Of a span that was ingested or trained twice, the later one.
        ([(1, 10), (2, 11), (2, 14)], [(1, 20), (1, 24)], ([14, 99], [24])),
        # A model that does not say its span is no predecessor.
        ([(1, 10), (2, 11)], [(-1, 30), (2, 21)], ([99], [21])),
    ],
)
def test_a_model_is_trained_on_what_came_after_its_predecessor(
    stored: Any, trained: Any, expected: Any
) -> None:
    chunks, base, _ = window(3, stored, trained)
    assert (chunks, base) == expected


def test_chunks_without_labels_are_left_out() -> None:
    stored = [(1, 10), (2, 11), (3, 12)]
    chunks, base, labels = window(4, stored, [], labelled=[(1, 30), (3, 32)])
    assert (chunks, base, labels) == ([10, 12, 99], [], [30, 32, 99])


def test_chunks_whose_labels_have_expired_are_left_out(
    expired: set[str], caplog: pytest.LogCaptureFixture
) -> None:
    expired.add(f"{TeacherLabels.TYPE_NAME}/30")
    stored = [(1, 10), (2, 11)]
    chunks, _, labels = window(3, stored, [], labelled=[(1, 30), (2, 31)])
    assert (chunks, labels) == ([11, 99], [31, 99])
    assert "labels of span 1 have expired" in caplog.text


def test_labels_of_another_teacher_that_came_later_are_preferred() -> None:
    *_, labels = window(2, [(1, 10)], [], labelled=[(1, 30), (1, 40)])
    assert labels == [40, 99]


def test_a_predecessor_may_have_to_be_blessed() -> None:
    stored = [(1, 10), (2, 11)]
    trained = [(1, 20), (2, 21)]
    assert window(3, stored, trained, judged=[(20, 1), (21, 0)])[:2] == ([11, 99], [20])
    assert window(3, stored, trained, judged=[(20, 1), (21, 1)])[:2] == ([99], [21])


def teacher(
    span: int,
    own: bool,
    trained: list[tuple[int, int]],
    judged: list[tuple[int, int]],
    labelled: tuple[int, ...] = (1, 2, 3),
) -> tuple[list[int], list[int], list[int]]:
    given: dict[str, list[Any]] = {
        "model": models(*trained),
        "model_blessing": blessings(*judged),
        "labels": [of_span(TeacherLabels, number, 50 + number) for number in labelled],
    }
    if own:
        given["judged"] = blessings((trained[-1][1], 1))
    found = BlessedTeacher(span, own).resolve_artifacts(None, given)
    assert found.keys() == given.keys()
    return ids(found["model"]), ids(found["model_blessing"]), ids(found["labels"])


def test_the_newest_blessed_teacher_that_has_not_seen_the_span_labels_it() -> None:
    trained = [(1, 20), (2, 21), (3, 22)]
    assert teacher(3, False, trained, [(20, 1), (21, 1), (22, 1)]) == ([21], [101], [52])


def test_a_refused_teacher_does_not_label_and_the_last_blessed_one_goes_on() -> None:
    trained = [(1, 20), (2, 21)]
    assert teacher(3, False, trained, [(20, 1), (21, 0)])[0] == [20]
    assert teacher(3, False, trained, [(20, 0), (21, 0)])[:2] == ([], [])


def test_a_teacher_that_was_refused_later_does_not_label_any_more() -> None:
    trained = [(1, 20), (2, 21)]
    assert teacher(3, False, trained, [(20, 1), (21, 1), (21, 0)])[0] == [20]
    assert teacher(3, False, trained, [(20, 1), (21, 0), (21, 1)])[0] == [21]


def test_two_teachers_meet_on_the_labels_of_the_span_before_and_on_no_other(
    expired: set[str],
) -> None:
    assert teacher(3, False, [(1, 20)], [(20, 1)], labelled=(1,))[2] == []
    assert teacher(3, False, [(1, 20)], [(20, 1)], labelled=(1, 2))[2] == [52]
    expired.add(f"{TeacherLabels.TYPE_NAME}/52")
    assert teacher(3, False, [(1, 20)], [(20, 1)], labelled=(1, 2))[2] == []


def test_train_then_score_takes_the_teacher_of_the_span_itself() -> None:
    trained = [(1, 20), (2, 21), (3, 22)]
    assert teacher(3, True, trained, [(20, 1), (21, 1), (22, 1)])[0] == [22]
    assert teacher(3, True, trained, [(20, 1), (21, 1), (22, 0)])[0] == [21]


def test_a_teacher_can_be_named() -> None:
    given = {"model": models((1, 20), (2, 21)), "model_blessing": blessings((20, 1), (21, 0))}
    assert ids(ModelById(20).resolve_artifacts(None, given)["model_blessing"]) == [100]
    found = ModelById(21).resolve_artifacts(None, given)
    assert (ids(found["model"]), found["model_blessing"]) == ([21], [])
    assert ModelById(5).resolve_artifacts(None, given)["model"] == []


def test_artifacts_of_some_spans() -> None:
    stored = [of_span(Examples, span, number) for span, number in ((5, 1), (3, 2), (4, 3), (4, 4))]
    found = OfSpans(3, 4, False).resolve_artifacts(None, {"found": stored})
    assert ids(found["found"]) == [2, 4]
    assert ids(OfSpans(0, 9, True).resolve_artifacts(None, {"found": stored})["found"]) == [1]
    assert OfSpans(6, 9, True).resolve_artifacts(None, {"found": stored})["found"] == []


def test_a_refreshed_transform_graph_counts_only_in_later_spans() -> None:
    first = made(TransformGraph, "graph/1", 1)
    refreshed = of_span(TransformGraph, 6, 2)
    for span, expected in ((6, 1), (7, 2)):
        strategy = OfSpans(-1, span - 1, True)
        found = strategy.resolve_artifacts(None, {"found": [refreshed, first]})
        assert ids(found["found"]) == [expected]


def test_on_a_stream_the_baseline_is_of_an_earlier_span_whenever_it_was_trained() -> None:
    # Span 2 was run again (id 30) after span 3 had been pushed.
    trials = Trials([(20, 1), (30, 1), (22, 1)])
    given = {
        "candidate": models((3, 22)),
        "model": models((1, 20), (2, 30), (3, 22)),
        "model_blessing": blessings((20, 1), (30, 1), (22, 1)),
        "infra_blessing": trials.blessings,
    }
    assert ids(BlessedBefore(by_span=True).resolve_artifacts(trials, given)["model"]) == [30]
    assert ids(BlessedBefore().resolve_artifacts(trials, given)["model"]) == [20]
