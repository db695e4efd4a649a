"""The times of a schedule."""

from __future__ import annotations

import pytest

from tfx_distill.kubeflow import cron
from tfx_distill.schema.errors import ConfigError


@pytest.mark.parametrize(
    "times",
    ["* * * * *", "0 * * * *", "30 6 * * *", "*/15 0-6,22 1,31 jan-Mar mon", "59 23 31 12 6"],
)
def test_times_that_there_are_pass(times: str) -> None:
    cron.check(times)


@pytest.mark.parametrize(
    ("times", "field"),
    [
        ("60 * * * *", "MINUTE"),
        ("0 25 * * *", "HOUR"),
        ("* * 0 * *", "DAY"),
        ("* * * 13 *", "MONTH"),
        ("* * * * 7", "WEEKDAY"),
        ("* 5-2 * * *", "HOUR"),
        ("*/0 * * * *", "MINUTE"),
        ("jan * * * *", "MINUTE"),
        ("0 * * * ;", "WEEKDAY"),
        ("1, * * * *", "MINUTE"),
        ("٣ * * * *", "MINUTE"),
    ],
)
def test_the_field_that_cannot_be_is_named(times: str, field: str) -> None:
    with pytest.raises(ConfigError, match=f" as {field} of ") as refused:
        cron.check(times)
    assert refused.value.where == "--cron"


@pytest.mark.parametrize("times", ["", "@hourly", "0 0 * * * *", "* * *"])
def test_other_than_five_fields_are_refused(times: str) -> None:
    with pytest.raises(ConfigError, match="MINUTE HOUR DAY MONTH WEEKDAY"):
        cron.check(times)
