"""The sections of the run config about streams and the teacher labels of their spans."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from tfx_distill.schema.sections import (
    Engine,
    NonNegative,
    OnBreach,
    Positive,
    PositiveFloat,
    Section,
    on_a_file_system,
)


class StreamConfig(Section):
    """Spans as a stream: the first `bootstrap` spans together, then a run for each later span.

    Each later span is trained on `epochs` times, starting from the `newest` model or from the
    newest `blessed` one. A span is complete, and processed, when every folder that holds its files
    also holds `success_file`; None takes a span as soon as it has files.
    """

    bootstrap: Positive = 2
    epochs: Positive = 1
    warm_start: Literal["newest", "blessed"] = "newest"
    success_file: str | None = "_SUCCESS"


Share = Annotated[float, Field(ge=0, le=1)]


class LabelWatch(Section):
    """Limits on the quality of the teacher labels of a span; None does not limit.

    `max_staleness_hours`: mean event time of the labelled examples minus the teacher's watermark.
    `calibration`: bounds of (mean teacher label / mean hard label) of binary tasks.
    `min_agreement`: smallest correlation with the labels that the teacher before gave the same
    examples. `max_shift`: largest difference of the two teachers' mean labels on them, in standard
    deviations. A breach warns, or fails: then the labels are not committed.
    """

    max_staleness_hours: PositiveFloat | None = None
    calibration: tuple[PositiveFloat, PositiveFloat] | None = (0.8, 1.25)
    min_agreement: Share | None = 0.8
    max_shift: NonNegative | None = 0.5
    on_breach: OnBreach = "warn"

    @model_validator(mode="after")
    def _bounds_in_order(self) -> LabelWatch:
        if self.calibration is not None and self.calibration[0] > self.calibration[1]:
            raise ValueError("'calibration' is [LOW, HIGH]")
        return self


def _folder_or_bucket(value: str) -> str:
    if not value.startswith("s3:"):
        return on_a_file_system(value)
    # Other characters would have to be escaped, which readers of Delta tables do differently.
    if not re.fullmatch(r"s3://[a-z0-9][a-z0-9.-]+(/[A-Za-z0-9_=][A-Za-z0-9._=-]*)+/?", value):
        raise ValueError(
            "must be a folder, or s3://BUCKET/PREFIX with letters, digits, '.', '_', '=' and '-'"
        )
    return value


class LabelsConfig(Section):
    """The shared label table and how its labels come about.

    `table`, a folder or an `s3://` URL, defaults to `<run folder>/labels`. On a stream, `order`
    says whether a span is labelled by a teacher that has not trained on it, or by one that has.
    With `cross_fit`, the examples that the first teacher trained on are labelled by as many
    teachers, each trained without the queries that it labels. `keep_spans` is how many spans keep
    their labels. `engine` does the labelling.
    """

    table: Annotated[str, AfterValidator(_folder_or_bucket)] | None = None
    engine: Engine = "beam"
    min_coverage: Share = 0.99
    order: Literal["score_then_train", "train_then_score"] = "score_then_train"
    cross_fit: Annotated[int, Field(ge=2)] | None = None
    keep_spans: Positive | None = None
    watch: LabelWatch = LabelWatch()
