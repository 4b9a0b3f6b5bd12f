"""Requests of an address that has used its slice of the event loop are read later, and as a whole."""

from __future__ import annotations

from typing import Any

import pytest

from bargein_server.transport.sockets import SLICE_S
from live_server import echo
from raw_websocket import HEAD, frame
from served_transport import Served, ServedTransport, served
from still_clock import reads_take_no_time
from waiting import until

__all__ = ["reads_take_no_time"]

PING = frame(1, b'{"type":"ping","id":"p"}')


def with_used_slice(server: Served) -> ServedTransport:
    """Return a connection of an address that has used its slice."""
    kind: Any = server._config.http_protocol_class
    transport = server.connect()
    kind.sockets.share(transport).charge(SLICE_S)
    return transport


@pytest.mark.parametrize("cut", [1, 40, len(HEAD) + 2])
async def test_a_deferred_handshake_is_answered_and_its_session_is_read(cut: int) -> None:
    """Whether the head came in one piece or not."""
    head = f"{HEAD}\r\n".encode()
    async with served(echo) as server:
        transport = with_used_slice(server)
        transport.receive(head[:cut])
        assert transport.is_paused()
        if head[cut:]:
            transport.receive(head[cut:])
        await until(lambda: b" 101 " in transport.output, "the end of the handshake")
        assert not transport.is_paused()
        transport.receive(PING)
        await until(lambda: b'"pong"' in transport.output, "the answer of the session")
        transport.close()
        await until(lambda: transport.lost, "the end of the connection")


async def test_a_deferred_request_is_answered() -> None:
    """And the next one on its connection as well."""
    request = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"
    async with served(echo) as server:
        transport = with_used_slice(server)
        for answers in (1, 2):
            transport.receive(request)
            await until(lambda n=answers: transport.output.count(b'"ok"') == n, "the answer")  # type: ignore[misc]
            assert not transport.is_paused()
        transport.close()
        await until(lambda: transport.lost, "the end of the connection")
