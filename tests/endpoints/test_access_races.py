"""Tickets and authenticators under pressure: used at once, slow, left alone, with any reason."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed

from bargein_server import AccessDenied, AccessRequest, BearerTokens, issue_ticket
from live_server import WireKind, echo, serving
from sse_client import http
from waiting import until


def bearer(token: str) -> dict[str, Any]:
    return {"additional_headers": {"Authorization": f"Bearer {token}"}}


# A close frame has room for 123 bytes, and a text of an author may hold half a character of another encoding.
LONG, BROKEN = "é" * 150, "the trial\udc80 has ended"


@pytest.mark.parametrize(("reason", "begin"), [(LONG, "éé"), (BROKEN, "the trial")], ids=["long", "broken"])
async def test_any_reason_of_a_denial_reaches_the_client(wire: WireKind, reason: str, begin: str) -> None:
    """As much of it as fits, with 403 or the code 4403, which end the client for good."""

    async def denies(request: AccessRequest) -> str | None:
        if request.credential is not None:
            raise AccessDenied(reason, detail=reason)
        return None

    async with serving(echo, wire, authenticator=denies) as server, http(server) as client:
        answer = await client.post("/v1/turns", {"text": "x", "auth": "eve-secret"})
        assert (answer.status_code, answer.json()["message"].startswith(begin)) == (403, True)
        async with server.connect() as socket:
            await socket.send({"type": "session.open", "auth": "eve-secret"})
            code, shown = await socket.closed()
            assert (code, shown.startswith(begin)) == (4403, True)


async def test_a_ticket_is_for_one_of_those_who_use_it_at_once(wire: WireKind) -> None:
    """Whichever connection is the first; the others are refused."""
    tokens = BearerTokens({"secret": "ann"})
    async with serving(echo, wire, authenticator=tokens) as server:
        ticket = issue_ticket(server.app, "ann")

        async def enter() -> str | int:
            async with server.connect() as socket:
                await socket.send({"type": "session.open", "auth": ticket})
                with suppress(ConnectionClosed):
                    return str((await socket.receive())["type"])
                return (await socket.closed())[0]

        answers = await asyncio.gather(*(enter() for _ in range(10)))
        assert sorted(answers, key=str) == [4401] * 9 + ["session.opened"]


async def test_clients_leave_while_a_slow_authenticator_checks_many(wire: WireKind) -> None:
    """The others come in, none waits for another one's check, and no check is left behind."""
    checking: set[str] = set()
    opened = asyncio.Event()

    async def slow(request: AccessRequest) -> str | None:
        credential = request.credential or ""
        checking.add(credential)
        try:
            await opened.wait()
            return credential
        finally:
            checking.discard(credential)

    async with serving(echo, wire, authenticator=slow, max_connections_per_address=200) as server:

        async def enter(name: str) -> str:
            async with server.connect(**bearer(name)) as socket:
                await socket.send({"type": "session.open"})
                return str((await socket.until("session.opened"))["type"])

        tasks = [asyncio.create_task(enter(f"user {n}")) for n in range(100)]
        await until(lambda: len(checking) == 100, "all checks at a time")
        for task in tasks[::3]:
            task.cancel()
        await until(lambda: len(checking) == 66, "the end of those whose clients left")
        opened.set()
        done = await asyncio.gather(*tasks, return_exceptions=True)
        assert done.count("session.opened") == 66
        assert not checking
