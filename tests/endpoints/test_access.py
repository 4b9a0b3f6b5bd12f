"""Who may come in, over the whole line."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any
from urllib.parse import urlsplit

import pytest
from websockets.exceptions import InvalidStatus

from bargein_server import BearerTokens, Output, Turn
from live_server import Serving, WireKind, ask, echo, serving

TOKENS = BearerTokens({"ann-secret": "ann", "bob-secret": "bob"})


async def whoami(turn: Turn) -> AsyncIterator[Output]:
    """Says who speaks."""
    yield str(turn.principal)


def bearer(token: str) -> dict[str, Any]:
    return {"additional_headers": {"Authorization": f"Bearer {token}"}}


async def status_of(server: Serving, **options: Any) -> int:
    """Return the status that a handshake is refused with."""
    with pytest.raises(InvalidStatus) as refused:
        async with server.connect(**options):
            pass
    return refused.value.response.status_code


async def post(server: Serving, path: str, **headers: str) -> tuple[int, dict[str, Any]]:
    """Send a POST by hand."""
    reader, writer = await asyncio.open_connection("127.0.0.1", urlsplit(server.url).port)
    lines = [f"POST {path} HTTP/1.1", "Host: localhost", "Content-Length: 0", "Connection: close"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    writer.write("\r\n".join(lines).encode() + b"\r\n\r\n")
    head, _, body = (await reader.read()).partition(b"\r\n\r\n")
    writer.close()
    return int(head.split()[1]), json.loads(body)


async def answer(server: Serving, **options: Any) -> str:
    """Connect, ask, and return the answer."""
    async with server.connect(**options) as client:
        await ask(client)
        return str((await client.until("turn.ended"))["heard"]["text"])


async def test_a_bearer_token_in_the_header(wire: WireKind) -> None:
    """The agent sees the principal; a wrong token is 401 before the upgrade."""
    async with serving(whoami, wire, authenticator=TOKENS) as server:
        assert await answer(server, **bearer("ann-secret")) == "ann"
        assert await status_of(server, **bearer("wrong")) == 401


async def test_a_token_in_the_first_frame(wire: WireKind) -> None:
    """For those who cannot set headers; without one, or with a wrong one, the connection ends with 4401."""
    async with serving(whoami, wire, authenticator=TOKENS) as server:
        async with server.connect() as client:
            await client.send({"type": "session.open", "auth": "bob-secret"})
            await ask(client)
            assert (await client.until("turn.ended"))["heard"]["text"] == "bob"
        for first in (
            {"type": "session.open", "auth": "wrong"},
            {"type": "session.open"},
            {"type": "input.text", "id": "i", "text": "x"},
        ):
            async with server.connect() as client:
                await client.send(first)
                assert (await client.closed())[0] == 4401
        assert len(server.sessions) == 1


async def test_a_ticket_for_a_browser(wire: WireKind) -> None:
    """Asked for with a token, used as a subprotocol item or in the first frame, good once."""
    async with serving(whoami, wire, authenticator=TOKENS) as server:
        status, issued = await post(server, "/v1/tickets", Authorization="Bearer ann-secret")
        assert status == 201
        assert issued["expires_in_ms"] == 30_000
        offer = ["bargein.v1.json", f"bargein.ticket.{issued['ticket']}"]
        async with server.connect(subprotocols=offer) as client:
            assert client.socket.subprotocol == "bargein.v1.json"
            await ask(client)
            assert (await client.until("turn.ended"))["heard"]["text"] == "ann"
        assert await status_of(server, subprotocols=offer) == 401
        _, issued = await post(server, "/v1/tickets", Authorization="Bearer bob-secret")
        async with server.connect() as client:
            await client.send({"type": "session.open", "auth": issued["ticket"]})
            await ask(client)
            assert (await client.until("turn.ended"))["heard"]["text"] == "bob"


async def test_a_ticket_needs_a_token() -> None:
    """401 without one, with a wrong one, and where nobody is known."""
    async with serving(whoami, authenticator=TOKENS) as server:
        assert (await post(server, "/v1/tickets"))[0] == 401
        assert (await post(server, "/v1/tickets", Authorization="Bearer wrong"))[0] == 401
        assert (await post(server, "/v1/tickets", Authorization="Basic ann-secret"))[0] == 401
    async with serving(whoami) as server:
        assert (await post(server, "/v1/tickets", Authorization="Bearer ann-secret"))[0] == 401


async def test_a_session_is_resumed_only_by_its_principal(wire: WireKind) -> None:
    """A stolen resume token is worth nothing with another's credential."""
    async with serving(whoami, wire, authenticator=TOKENS) as server:
        async with server.connect(**bearer("ann-secret")) as ann:
            await ann.send({"type": "session.open"})
            opened = await ann.receive()
        resume = {
            "session_id": opened["session_id"],
            "token": opened["token"],
            "cursor": {"epoch": opened["epoch"], "seq": 0},
        }
        async with server.connect(**bearer("bob-secret")) as bob:
            await bob.send({"type": "session.open", "resume": resume})
            refused = await bob.receive()
            assert (refused["resumed"], refused.get("reason")) == (False, "unknown_session")
        async with server.connect(**bearer("ann-secret")) as ann:
            await ann.send({"type": "session.open", "resume": resume})
            assert (await ann.receive())["resumed"]


async def test_a_foreign_page_is_refused(wire: WireKind) -> None:
    """403 before the upgrade; the server's own pages and listed ones come in."""
    async with serving(echo, wire, origins=["https://app.example"]) as server:
        own = f"http://127.0.0.1:{server.port}"
        assert await status_of(server, origin="https://evil.example") == 403
        for origin in (own, "https://app.example", None):
            assert (await answer(server, origin=origin)).startswith("hello|")


async def test_connections_are_limited_as_a_whole_and_by_address(wire: WireKind) -> None:
    """At the limit they come in; one more gets 503, or 429, and who leaves makes room."""
    cases: list[tuple[dict[str, Any], int]] = [
        ({"max_connections": 2}, 503),
        ({"max_connections_per_address": 2}, 429),
    ]
    for limits, status in cases:
        async with serving(echo, wire, **limits) as server:
            async with AsyncExitStack() as stack:
                for _ in range(2):
                    await stack.enter_async_context(server.connect())
                assert await status_of(server) == status
            async with asyncio.timeout(10):
                while True:
                    try:
                        assert (await answer(server)).startswith("hello|")
                        break
                    except InvalidStatus:  # the server has not seen yet that they left
                        await asyncio.sleep(0)


async def test_sessions_are_limited_and_those_that_are_there_can_be_resumed(wire: WireKind) -> None:
    """One more than the limit is closed with 1013; a resume needs no room."""
    async with serving(echo, wire, max_sessions=1) as server:
        async with server.connect() as client:
            await client.send({"type": "session.open"})
            opened = await client.receive()
            async with server.connect() as other:
                await other.send({"type": "session.open"})
                assert (await other.closed())[0] == 1013
        resume = {
            "session_id": opened["session_id"],
            "token": opened["token"],
            "cursor": {"epoch": opened["epoch"], "seq": 0},
        }
        async with server.connect() as client:
            await client.send({"type": "session.open", "resume": resume})
            assert (await client.receive())["resumed"]
