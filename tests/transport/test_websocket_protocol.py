"""The names of uvicorn's and websockets' classes that our protocol classes rest on."""

from __future__ import annotations

import inspect
from typing import Any

import pytest
from uvicorn.config import Config
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from uvicorn.server import ServerState
from websockets.server import ServerProtocol

from bargein_server.transport.websocket_protocol import BargeinProtocol

METHODS = {
    WebSocketsSansIOProtocol: [
        "connection_made", "connection_lost", "data_received", "pause_writing", "resume_writing", "run_asgi",
        "send_receive_event_to_app", "handle_cont", "handle_ping", "handle_parser_exception",
        "keepalive_timeout",
    ],
    H11Protocol: [
        "connection_made", "connection_lost", "data_received", "handle_websocket_upgrade",
        "on_response_complete",
    ],
    ServerProtocol: ["recv_frame", "send_close", "fail", "data_to_send", "events_received"],
}  # fmt: skip
FIELDS = [
    "frames", "curr_msg_data_type", "queue", "conn", "close_sent", "close_timer", "close_timeout",
    "transport", "app", "handshake_initiated", "read_paused", "disconnected", "loop", "logger",
]  # fmt: skip


@pytest.mark.parametrize(("owner", "name"), [(owner, name) for owner in METHODS for name in METHODS[owner]])
def test_the_method_is_there(owner: type, name: str) -> None:
    """Says which one is missing after an upgrade."""
    assert inspect.isfunction(getattr(owner, name, None)), f"{owner.__name__} has no {name}()"


async def test_the_fields_are_there() -> None:
    """As they are right after a connection's start."""

    async def app(scope: Any, receive: Any, send: Any) -> None: ...

    config = Config(app, ws=BargeinProtocol)
    config.load()
    protocol = BargeinProtocol(config, ServerState(), {})
    assert [name for name in FIELDS if not hasattr(protocol, name)] == []
    assert {"available_extensions", "current_size", "handshake_exc"} <= set(dir(protocol.conn))
