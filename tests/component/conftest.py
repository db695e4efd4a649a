"""What the tests of several components start from, made once."""

from __future__ import annotations

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
