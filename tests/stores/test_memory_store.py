"""The model of a store that other tests use passes the suite of the interface."""

from __future__ import annotations

from typing import Any

import pytest

from memory_store import MemoryStore
from store_suite import *  # noqa: F403  # the tests
from store_suite import MakeStore


@pytest.fixture
def make_store() -> MakeStore:
    """Return stores of the same dictionaries."""
    data: dict[Any, Any] = {}
    return lambda: MemoryStore(data)
