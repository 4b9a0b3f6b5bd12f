"""The options of the listening socket, as accepted sockets inherit them."""

from __future__ import annotations

import socket

import pytest

from bargein_server.hosting.ports import HIGH_WATER
from bargein_server.serving.server import NOTSENT_BYTES, listening_socket
from bargein_server.transport.websocket_protocol import BargeinProtocol
from live_server import ask, echo, serving


async def test_accepted_sockets_have_the_options() -> None:
    """No delay, little unsent, a bound on silence, and a small buffer above them; on both loops."""
    async with serving(echo, stalled_s=7) as server, server.connect() as client:
        await ask(client)
        [protocol] = server.server.server_state.connections
        assert isinstance(protocol, BargeinProtocol)
        accepted = protocol.transport.get_extra_info("socket")

        def option(name: str) -> int:
            return int(accepted.getsockopt(socket.IPPROTO_TCP, getattr(socket, name)))

        assert option("TCP_NODELAY") != 0
        assert option("TCP_NOTSENT_LOWAT") == NOTSENT_BYTES
        assert option("TCP_USER_TIMEOUT") == 7000
        assert protocol.transport.get_write_buffer_limits()[1] == HIGH_WATER


def test_a_name_and_a_free_port() -> None:
    """`localhost` and port 0."""
    with listening_socket("localhost", 0, 1.0) as listener:
        assert listener.getsockname()[1] > 0


def test_a_taken_port_is_an_error_and_leaves_no_socket() -> None:
    """Warnings are errors, so a socket that is left open would fail this test."""
    with listening_socket("127.0.0.1", 0, 1.0) as first:
        first.listen()
        with pytest.raises(OSError, match="in use"):
            listening_socket("127.0.0.1", first.getsockname()[1], 1.0)
