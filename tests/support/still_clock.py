"""A clock that stands still while bytes are read, so that a slow machine does not defer them."""

from __future__ import annotations

import pytest

from bargein_server.transport import sockets, websocket_protocol


@pytest.fixture(autouse=True)
def reads_take_no_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stop the clock by which an address uses its slice; a test may set another."""
    for module in (sockets, websocket_protocol):
        monkeypatch.setattr(module, "perf_counter", float)
