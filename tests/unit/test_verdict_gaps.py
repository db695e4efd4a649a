"""What the gate is asked to judge and the evaluation lacks: the verdict says so."""

from __future__ import annotations

from judged_values import Values, click, resampled, verdict

MODELS = click(candidate=0.7, baseline=0.7, twin=0.7)
WHOLE: Values = {"": MODELS}
WITH_TV = WHOLE | {"device=tv": MODELS}
LOSS = {"max_regression": 0.03}


def test_a_slice_without_predictions_is_not_judged_but_named() -> None:
    found = verdict(LOSS, WITH_TV, resampled(WHOLE), slices=("device",))
    assert {check.slice for check in found.checks} == {""}
    assert [(n.slice, n.other, n.queries) for n in found.not_judged] == [
        ("device=tv", "baseline", 0),
        ("device=tv", "twin", 0),
    ]
    assert found.not_judged[0].sentence == (
        "auc of click on device=tv is not compared with the baseline: the stored predictions have "
        "no such slice, though there are metrics of it."
    )


def test_a_slice_without_metrics_is_not_judged_but_named() -> None:
    found = verdict(LOSS, WHOLE, resampled(WITH_TV), slices=("device",))
    assert {check.slice for check in found.checks} == {""}
    assert [(n.slice, n.other, n.queries) for n in found.not_judged] == [
        ("device=tv", "baseline", 500),
        ("device=tv", "twin", 500),
    ]
    assert found.not_judged[0].sentence == (
        "auc of click on device=tv of the candidate does not exist: the evaluation has no metrics "
        "of this slice."
    )


def test_a_column_without_a_value_is_not_judged_but_named() -> None:
    found = verdict(LOSS, WITH_TV, slices=("device", "country"))
    assert {check.slice for check in found.checks} == {"", "device=tv"}
    assert [(n.slice, n.other) for n in found.not_judged] == [
        ("country", "baseline"),
        ("country", "twin"),
    ]
    assert found.not_judged[1].sentence == (
        "auc of click on country is not compared with the twin: no example of the eval split has "
        "a value of it."
    )


def test_nothing_lacks_that_was_not_asked_for() -> None:
    # Limits are not of slices, this column was not configured, and the first needs no comparison.
    assert verdict({"min": 0.5}, WHOLE, slices=("device",)).not_judged == ()
    assert verdict(LOSS, WITH_TV, resampled(WHOLE), slices=()).not_judged == ()
    first = verdict(LOSS, WHOLE, slices=("device",), first="accept", in_service=False)
    assert first.not_judged == ()
