"""Fixtures of telemetry's tests."""

from __future__ import annotations

import pytest

from tracing import Tracing


@pytest.fixture
def tracing() -> Tracing:
    """Where the test's spans go."""
    return Tracing()
