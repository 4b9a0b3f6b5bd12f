"""The names of uvicorn, h11 and websockets that the server uses: all public, all there, and listed here."""

from __future__ import annotations

import ast
import importlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.server import ServerState
from websockets.server import ServerProtocol

import bargein_server

SOURCES = Path(bargein_server.__file__).parent

IMPORTED = {
    "h11": {"IDLE", "Request", "SEND_BODY", "SEND_RESPONSE"},
    "uvicorn": {"Config", "Server"},
    "uvicorn.config": {"Config"},
    "uvicorn.protocols.http.h11_impl": {"H11Protocol"},
    "uvicorn.server": {"ServerState"},
    "uvicorn.supervisors": {"ChangeReload"},
    "websockets.asyncio.client": {"ClientConnection", "connect"},
    "websockets.datastructures": {"Headers"},
    "websockets.exceptions": {"ConnectionClosed", "InvalidHandshake", "InvalidURI"},
    "websockets.extensions.permessage_deflate": {"ServerPerMessageDeflateFactory"},
    "websockets.frames": {"Close", "CloseCode", "Frame", "Opcode"},
    "websockets.http11": {"Request", "Response"},
    "websockets.protocol": {"SEND_EOF", "State"},
    "websockets.server": {"ServerProtocol"},
}
"""Modules of these packages, and what is used of them."""

USED = {
    ("transport/websocket_protocol.py", ("config", "_config")): {
        "asgi_version", "load", "loaded", "loaded_app", "root_path", "ws_max_queue", "ws_max_size",
        "ws_per_message_deflate", "ws_ping_interval", "ws_ping_timeout",
    },
    ("transport/websocket_protocol.py", ("_server", "server_state")): {
        "connections", "default_headers", "tasks",
    },
    ("transport/websocket_protocol.py", ("conn", "_conn")): {
        "accept", "close_exc", "data_to_send", "events_received", "fail", "receive_data", "receive_eof",
        "send_binary", "send_close", "send_ping", "send_response", "send_text", "state",
    },
    ("serving/http_protocol.py", ("super",)): {
        "connection_lost", "connection_made", "data_received", "eof_received", "handle_websocket_upgrade",
        "on_response_complete", "pause_writing", "resume_writing", "send_400_response",
        "timeout_keep_alive_handler",
    },
    ("serving/http_protocol.py", ("conn",)): {"our_state", "their_state", "trailing_data"},
    ("serving/server.py", ("super",)): {
        "__init__", "capture_signals", "handle_exit", "on_tick", "shutdown", "startup",
    },
}  # fmt: skip
"""Attributes by file and by the names of the objects."""


def imports() -> Iterator[tuple[str, str]]:
    """Yield what the server imports of these packages."""
    for file in SOURCES.rglob("*.py"):
        tree = ast.parse(file.read_text("utf-8"))
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
                if node.module.split(".")[0] in ("uvicorn", "websockets", "h11"):
                    yield from ((node.module, alias.name) for alias in node.names)
            elif isinstance(node, ast.Import):
                for alias in node.names:
                    if alias.name in ("uvicorn", "websockets", "h11"):
                        used = attributes(tree, (alias.name,)) or {"?"}
                        yield from ((alias.name, name) for name in used)


def attributes(tree: ast.AST, objects: tuple[str, ...]) -> set[str]:
    """Return the attributes that are used of variables, attributes or results with these names."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            owner: Any = node.value.func if isinstance(node.value, ast.Call) else node.value
            if getattr(owner, "id", getattr(owner, "attr", None)) in objects:
                found.add(node.attr)
    return found


def test_the_imports_are_those_of_the_list() -> None:
    """No name with an underscore among them, and each of them there."""
    used: dict[str, set[str]] = {}
    for module, name in imports():
        used.setdefault(module, set()).add(name)
    assert used == IMPORTED
    for module, names in IMPORTED.items():
        assert [name for name in names if not hasattr(importlib.import_module(module), name)] == []
        assert not any(part.startswith("_") for part in [*module.split("."), *names])


@pytest.mark.parametrize(
    ("where", "names"), [pytest.param(*used, id=f"{used[0][0]} {used[0][1][0]}") for used in USED.items()]
)
def test_the_attributes_are_those_of_the_list(where: tuple[str, tuple[str, ...]], names: set[str]) -> None:
    """As the source uses them."""
    file, objects = where
    assert attributes(ast.parse((SOURCES / file).read_text("utf-8")), objects) == names


async def test_the_attributes_are_there() -> None:
    """A failure says which one a new version has lost."""

    async def app(scope: Any, receive: Any, send: Any) -> None: ...

    config = uvicorn.Config(app, log_config=None)
    config.load()
    http = H11Protocol(config, ServerState(), {})
    parsed = ServerProtocol()
    owners: list[tuple[object, set[str]]] = [
        (config, USED["transport/websocket_protocol.py", ("config", "_config")]),
        (ServerState(), USED["transport/websocket_protocol.py", ("_server", "server_state")]),
        (parsed, USED["transport/websocket_protocol.py", ("conn", "_conn")] - {"close_exc"}),
        (http, USED["serving/http_protocol.py", ("super",)] | {"conn"}),
        (http.conn, USED["serving/http_protocol.py", ("conn",)]),
        (
            uvicorn.Server(config),
            USED["serving/server.py", ("super",)] | {"force_exit", "should_exit", "started"},
        ),
    ]
    for owner, names in owners:
        assert [name for name in names if not hasattr(owner, name)] == [], type(owner).__name__
    assert hasattr(ServerProtocol, "close_exc")
