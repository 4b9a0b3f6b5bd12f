"""The same tests run over both wires."""

from __future__ import annotations

import pytest

from live_server import WireKind


@pytest.fixture(params=["transport", "asgi"])
def wire(request: pytest.FixtureRequest) -> WireKind:
    """How the server reaches the socket."""
    kind: WireKind = request.param
    return kind
