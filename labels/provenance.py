"""Where a commit's labels come from, and when they need not be computed again."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass


@dataclass(frozen=True)
class Provenance:
    """What produced the labels of one commit; stored in the commit itself.

    Attributes:
      teacher_version: Name of the trained model, for people.
      teacher_fingerprint: Digest of the teacher's SavedModel bytes.
      examples_fingerprint: Digest of the labelled examples, all splits of the span together.
      transform_fingerprint: Digest of the Transform graph.
      config_hash: Digest of the part of the run config that shapes the labels.
      watermark: Newest event time the teacher has trained on, in seconds since the epoch; None if
        it is unknown.
    """

    teacher_version: str
    teacher_fingerprint: str
    examples_fingerprint: str
    transform_fingerprint: str
    config_hash: str
    watermark: int | None

    @property
    def key(self) -> str:
        """Content key, 64 hexadecimal digits: labels of equal keys are interchangeable."""
        parts = [self.teacher_fingerprint, self.examples_fingerprint, self.transform_fingerprint]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()
