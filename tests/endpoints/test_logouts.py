"""`reauthenticate`: a login that ends also ends the connections that it opened."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from bargein_server import AccessRequest, Principal, create_app, reauthenticate
from live_server import WireKind, ask, counting, serving
from sse_client import http

Headers = dict[str, str]


class Logins:
    """Cookies of users, as an application keeps them."""

    def __init__(self) -> None:
        self.users = {"desk": "ann", "phone": "ann", "other": "bob"}

    async def __call__(self, request: AccessRequest) -> Principal | None:
        user = self.users.get(request.cookies.get("login", ""))
        return None if user is None else Principal(user)


def login(cookie: str) -> dict[str, Any]:
    return {"additional_headers": {"Cookie": f"login={cookie}"}}


async def test_a_login_that_ends_takes_its_connections_with_it(wire: WireKind) -> None:
    """Other logins of the user come again and resume; other users notice nothing."""
    logins = Logins()
    async with (
        serving(counting, wire, authenticator=logins) as server,
        server.connect(**login("desk")) as desk,
        server.connect(**login("phone")) as phone,
        server.connect(**login("other")) as other,
    ):
        turns = [await ask(socket) for socket in (desk, phone, other)]
        await phone.until("text.delta")
        del logins.users["desk"]
        assert reauthenticate(server.app, "ann") == 2
        assert (await desk.closed())[0] == (await phone.closed())[0] == 1012
        await other.until("text.delta", turn_id=turns[2])
        async with server.connect(**login("desk")) as refused:
            await refused.send({"type": "session.open"})
            assert (await refused.closed())[0] == 4401
        opened = next(frame for frame in phone.frames if frame["type"] == "session.opened")
        cursor = {"epoch": opened["epoch"], "seq": 0}
        resume = {"session_id": opened["session_id"], "token": opened["token"], "cursor": cursor}
        async with server.connect(**login("phone")) as again:
            await again.send({"type": "session.open", "resume": resume})
            assert (await again.receive())["resumed"]
            await again.until("text.delta", turn_id=turns[1])
            assert reauthenticate(server.app, "nobody") == 0


async def test_followers_and_event_streams_end_as_well(wire: WireKind) -> None:
    """A stream over HTTP has the same close code as its last block."""
    logins = Logins()
    cookie = {"Cookie": "login=desk"}
    async with serving(counting, wire, authenticator=logins) as server, http(server) as client:
        async with client.stream("/v1/turns", {"text": "x", "id": "i1"}, headers=cookie) as driver:
            opened = await driver.until("session.opened")
            path = f"/v1/sessions/{opened['session_id']}/events"
            token = {"Bargein-Session-Token": opened["token"], **cookie}
            async with client.stream(path, headers=token) as follower:
                await follower.until("text.delta")
                assert reauthenticate(server.app, "ann") == 2
                for stream in (driver, follower):
                    await stream.end()
                    assert stream.messages[-1].data["name"] == "restart"
        assert not server.sessions.streams


async def test_where_it_may_be_called() -> None:
    """Before the first client there is nothing to close; another thread is an error."""
    app = create_app(counting)
    assert reauthenticate(app, "ann") == 0
    async with serving(counting) as server, server.connect() as socket:
        await ask(socket)
        with pytest.raises(RuntimeError):
            await asyncio.to_thread(reauthenticate, server.app, "ann")
