"""The errors that a user of tfx-distill can meet.

Each one states what was found, what was expected and what to do. The command line prints them
without a stack trace; everything else is a defect of ours and keeps its stack trace.
"""

from __future__ import annotations


class DistillError(Exception):
    """Base of all errors that the user can act on.

    Args:
      where: The file, column, row or config key at fault, as exactly as it is known.
      got: What was found there.
      expected: What should have been there.
      fix: What to do about it.
    """

    # Beam would replace an error raised in a step by a RuntimeError, unless it bears this mark.
    _tagged_with_step = True

    def __init__(self, where: str, *, got: str, expected: str, fix: str) -> None:
        self.where = where
        self.got = got
        self.expected = expected
        self.fix = fix
        super().__init__(f"{where}: got {got}; expected {expected}. {fix}")

    def __reduce__(self) -> tuple[object, ...]:
        # Beam and multiprocessing carry errors between processes by pickling them.
        return (_rebuild, (type(self), self.where, self.got, self.expected, self.fix))


def _rebuild(
    kind: type[DistillError], where: str, got: str, expected: str, fix: str
) -> DistillError:
    return kind(where, got=got, expected=expected, fix=fix)


class ConfigError(DistillError):
    """The run config cannot be used."""


class DataError(DistillError):
    """The logged examples cannot be used."""


class LabelError(DistillError):
    """The teacher labels cannot be written, or do not fit the examples."""


class LabelsRefused(LabelError):
    """The teacher labels break a limit of `labels.watch` that fails."""


class ModelError(DistillError):
    """A model cannot be used: not blessed, not finite, not loadable."""


class EnvironmentProblem(DistillError):
    """The machine or the installation stands in the way."""


def own_error(error: BaseException | None) -> DistillError | None:
    """Our own error behind what Beam or TFX made of it; None where there is none."""
    while error is not None:
        if isinstance(error, DistillError):
            return error
        error = error.__cause__ or error.__context__
    return None
