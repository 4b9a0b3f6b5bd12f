"""The parts of a handshake that real sockets seldom show."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest
from websockets.datastructures import Headers
from websockets.http11 import Request

from bargein_server.transport.handshake import denial, websocket_scope


class Socket:
    """A socket with given names; None when the peer is gone."""

    def __init__(self, name: object) -> None:
        self._name = name

    def getpeername(self) -> object:
        if self._name is None:
            raise OSError("not connected")
        return self._name

    getsockname = getpeername


class Transport:
    """A transport that knows only what it is given."""

    def __init__(self, **known: object) -> None:
        self._known = known

    def get_extra_info(self, name: str, default: object = None) -> object:
        return self._known.get(name, default)


def scope(transport: Transport, headers: Headers | None = None) -> dict[str, Any]:
    request = Request("/v1/session", headers or Headers())
    return dict(websocket_scope(request, cast(asyncio.Transport, transport), "", "3.0", {}))


@pytest.mark.parametrize(
    ("known", "client", "server"),
    [
        ({"socket": Socket(("::1", 5, 0, 0))}, ("::1", 5), ("::1", 5)),
        ({"socket": Socket("/run/a.sock")}, None, ("/run/a.sock", None)),
        ({"socket": Socket("")}, None, None),
        ({"socket": Socket(None)}, None, None),
        ({"peername": ("10.0.0.1", 7), "sockname": ("10.0.0.2", 80)}, ("10.0.0.1", 7), ("10.0.0.2", 80)),
        ({}, None, None),
    ],
    ids=["IPv6", "UNIX", "unnamed UNIX", "gone", "no socket", "unknown"],
)
def test_addresses_of_all_kinds(
    known: dict[str, object], client: tuple[str, int] | None, server: tuple[str, int | None] | None
) -> None:
    """An address that cannot be had is None (ASGI, connection scope)."""
    found = scope(Transport(**known))
    assert (found["client"], found["server"]) == (client, server)


def test_bytes_of_headers_survive() -> None:
    """HTTP decodes them as Latin-1."""
    found = scope(Transport(), Headers([("X-Name", "caf\xe9")]))
    assert found["headers"] == [(b"x-name", b"caf\xe9")]


@pytest.mark.parametrize(("status", "phrase"), [(403, "Forbidden"), (599, "")])
def test_a_status_without_a_name(status: int, phrase: str) -> None:
    """It is sent without a phrase."""
    response = denial(status, [(b"Content-Type", b"text/x")], b"no")
    assert (response.status_code, response.reason_phrase) == (status, phrase)
    assert (response.headers["Content-Type"], response.headers["Content-Length"]) == ("text/x", "2")


@pytest.mark.parametrize("status", [204, 304])
def test_a_denial_without_content_has_no_length(status: int) -> None:
    """RFC 9110 section 8.6; the application's own is dropped as well."""
    response = denial(status, [(b"content-length", b"5")], b"hello")
    assert (response.body, "Content-Length" in response.headers) == (b"", False)


def test_a_denial_has_the_length_of_its_body() -> None:
    """Unless the application gives it."""
    assert denial(403, (), b"hello").headers["Content-Length"] == "5"
