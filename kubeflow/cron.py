"""The times of a schedule: five fields of Unix."""

from __future__ import annotations

import re

from tfx_distill.schema.errors import ConfigError

_FIELDS = {
    "MINUTE": range(60),
    "HOUR": range(24),
    "DAY": range(1, 32),
    "MONTH": range(1, 13),
    "WEEKDAY": range(7),
}
_NAMES = {
    "MONTH": ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"],
    "WEEKDAY": ["sun", "mon", "tue", "wed", "thu", "fri", "sat"],
}
_PART = re.compile(r"(?:\*|(\w+)(?:-(\w+))?)(?:/0*[1-9]\d*)?", re.ASCII)


def check(cron: str) -> None:
    """Makes sure that every field holds what it may.

    Raises:
      ConfigError: They are no five fields, or a field holds what it cannot.
    """
    fields = cron.split()
    if len(fields) != len(_FIELDS):
        raise _refusal(repr(cron), " ".join(_FIELDS))
    for field, (name, allowed) in zip(fields, _FIELDS.items(), strict=True):
        if not all(_fits(part, name, allowed) for part in field.split(",")):
            raise _refusal(
                f"{field!r} as {name} of {cron!r}",
                f"*, or numbers from {allowed[0]} to {allowed[-1]}"
                + (f", or names such as {_NAMES[name][1]}" if name in _NAMES else "")
                + ", as in '1,3', '2-5' (the lower one first), '*/2'",
            )


def _fits(part: str, name: str, allowed: range) -> bool:
    found = _PART.fullmatch(part)
    if found is None:
        return False
    numbers = [_number(end, name, allowed) for end in found.groups() if end is not None]
    return all(number in allowed for number in numbers) and numbers == sorted(numbers)


def _number(text: str, name: str, allowed: range) -> int:
    if text.isdecimal():
        return int(text)
    names = _NAMES.get(name, [])
    return allowed[names.index(text.lower())] if text.lower() in names else -1


def _refusal(got: str, expected: str) -> ConfigError:
    return ConfigError(
        "--cron",
        got=got,
        expected=expected,
        fix="Write for example '0 * * * *', which is every hour, or '30 6 * * *', every day "
        "at 6:30 (UTC).",
    )
