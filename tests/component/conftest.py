"""What the tests of several components start from, made once."""

from __future__ import annotations

import math
from typing import Any

import pytest
from small_examples import Prepared, materialize, prepare


@pytest.fixture(scope="session")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    """Ingested examples and their Transform graph."""
    return prepare(tmp_path_factory.mktemp("prepared"))


@pytest.fixture(scope="session")
def features(prepared: Prepared, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The feature table of the examples."""
    return materialize(prepared, tmp_path_factory.mktemp("materialized"))


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Locations of the examples and of three models for the ModelEvaluator."""
    from evaluated import ingest, logged, save

    root = tmp_path_factory.mktemp("world")
    return {
        "examples": ingest(root / "examples", logged()),
        "good": save(root / "good", 1.5),
        "poor": save(root / "poor", -0.2),
        "broken": save(root / "broken", math.nan),
    }
