"""Tickets and browser keys of one server at another one that shares its store."""

from __future__ import annotations

import asyncio
import json
import signal
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from bargein_server import (
    AccessRequest,
    BearerTokens,
    Output,
    Principal,
    Turn,
    issue_shared_ticket,
    issue_ticket,
)
from bargein_server.guard.admission import FAILURES_PER_S
from bargein_server.guard.limits import BURST_S
from bargein_server.stores.redis_address import RedisAddress
from bargein_server.stores.redis_link import Command
from bargein_server.stores.redis_store import RedisStore
from live_server import RawClient, Serving, WireKind, ask, serving
from modelled_store import ModelledLink
from realtime_client import talking
from redis_model import RedisModel
from sse_client import http
from valkey_process import ValkeyProcess, valkey
from waiting import until

TOKENS = BearerTokens({"secret-of-ann": "ann", "secret-of-bob": "bob"})
PATIENT_S = 5.0
"""Time to wait for a store that works, on a machine that is busy."""


async def whoami(turn: Turn) -> AsyncIterator[Output]:
    """Say who asks, and by which rules."""
    yield f"{turn.principal} {dict(turn.principal.claims) if turn.principal is not None else {}}"


async def nobody(request: AccessRequest) -> None:
    """Admit tickets alone; no ticket gets here."""
    assert request.credential is None


@asynccontextmanager
async def both(store: Any, wire: WireKind = "transport", **options: Any) -> AsyncIterator[list[Serving]]:
    """Run two servers with a store each, made by a function, or of one URL."""
    options = {"authenticator": TOKENS, "store_wait_s": PATIENT_S, **options}
    async with AsyncExitStack() as stack:
        yield [
            await stack.enter_async_context(
                serving(whoami, wire, store=store() if callable(store) else store, **options)
            )
            for _ in range(2)
        ]


@pytest.fixture
async def valkey_server(tmp_path: Path) -> AsyncIterator[ValkeyProcess]:
    """Return a Valkey server."""
    async with valkey(tmp_path / "valkey") as process:
        yield process


class Watched(ModelledLink):
    """Connection to a model that records the commands for tickets."""

    def __init__(self, model: RedisModel, commands: list[Command]) -> None:
        super().__init__(model)
        self._commands = commands

    async def call(self, commands: Sequence[Command]) -> list[Any]:
        """Return the answers."""
        self._commands += [each for each in commands if ":ticket:" in str(each[1:2])]
        return await super().call(commands)


def watched(model: RedisModel, commands: list[Command]) -> RedisStore:
    """Return a store on a model."""
    store = RedisStore(RedisAddress((("model", 1),)), 1000.0)
    store._writer = store._reader = Watched(model, commands)  # type: ignore[assignment]
    return store


async def ticket_of(server: Serving, token: str = "secret-of-ann") -> str:
    """Return a ticket, as a page asks for it."""
    status, _, body = await server.request("/v1/tickets", "POST", Authorization=f"Bearer {token}")
    assert status == 201
    return str(json.loads(body)["ticket"])


async def key_of(server: Serving) -> str:
    """Return a key of the Realtime door with a configuration of its session."""
    body = {"session": {"type": "realtime", "instructions": "Be brief."}}
    async with http(server) as client:
        token = {"Authorization": "Bearer secret-of-ann"}
        answer = await client.post("/v1/realtime/client_secrets", body, token)
    key = str(answer.json()["value"])
    assert key.startswith("ek_")
    return key


def stop_clock(server: Serving) -> None:
    """Stop the clock by which wrong credentials are forgiven."""
    now = asyncio.get_running_loop().time()
    server.app.state.admission._clock = lambda: now


def item(ticket: str) -> dict[str, Any]:
    """Return a browser's list of subprotocols."""
    return {"subprotocols": ["bargein.v1.json", f"bargein.ticket.{ticket}"]}


async def said(client: RawClient) -> str:
    """Ask something; return the answer."""
    await ask(client)
    return str((await client.until("turn.ended"))["heard"]["text"])


async def refused(server: Serving, ticket: str) -> int:
    """Return the status with which a ticket of a handshake is refused."""
    with pytest.raises(InvalidStatus) as wrong:
        async with server.connect(**item(ticket)):
            pass
    return wrong.value.response.status_code


async def opened_with(server: Serving, ticket: str) -> str | int:
    """Show a ticket in the first frame; return the first event, or the code of the refusal."""
    async with server.connect() as client:
        await client.send({"type": "session.open", "auth": ticket})
        with suppress(ConnectionClosed):
            return str((await client.receive())["type"])
        return (await client.closed())[0]


@pytest.mark.needs("valkey")
@pytest.mark.parametrize("wire", ["transport", "asgi"])
async def test_a_ticket_of_one_server_is_valid_at_another(
    valkey_server: ValkeyProcess, wire: WireKind
) -> None:
    """In the handshake, in the first frame and over HTTP; once, wherever it is shown again."""
    async with both(valkey_server.url, wire) as (here, there), http(there) as client:
        ticket = await ticket_of(here)
        async with there.connect(**item(ticket)) as socket:
            assert await said(socket) == "ann {}"
        assert [await refused(server, ticket) for server in (there, here)] == [401, 401]
        ticket = await ticket_of(here, "secret-of-bob")
        async with there.connect() as socket:
            await socket.send({"type": "session.open", "auth": ticket})
            assert await said(socket) == "bob {}"
        assert [await opened_with(server, ticket) for server in (there, here)] == [4401, 4401]
        ticket = await ticket_of(here)
        async with client.stream("/v1/turns", {"text": "x", "auth": ticket}) as stream:
            assert (await stream.end())[-1]["heard"]["text"] == "ann {}"
        answer = await client.post("/v1/turns", {"text": "x", "auth": ticket})
        assert answer.status_code == 401
        assert await opened_with(here, await ticket_of(here)) == "session.opened"
        assert not await valkey_server.do("KEYS", "bargein:ticket:*")


@pytest.mark.needs("valkey")
async def test_claims_come_along(valkey_server: ValkeyProcess) -> None:
    """The ticket of a backend has them at every server; the authenticator is not asked about it."""
    async with both(valkey_server.url, authenticator=nobody) as (here, there):
        for first in (False, True):
            ticket = await issue_shared_ticket(here.app, Principal("ann", {"plan": "pro"}))
            async with there.connect(**({} if first else item(ticket))) as socket:
                if first:
                    await socket.send({"type": "session.open", "auth": ticket})
                assert await said(socket) == "ann {'plan': 'pro'}"
        with pytest.raises(ValueError, match="id of a principal is empty"):
            await issue_shared_ticket(here.app, "")
    async with both(valkey_server.url, authenticator=None) as (here, _):
        with pytest.raises(ValueError, match="without an authenticator"):
            await issue_shared_ticket(here.app, "ann")


@pytest.mark.needs("valkey")
async def test_a_ticket_is_for_one_of_those_who_show_it_at_once(valkey_server: ValkeyProcess) -> None:
    """At both servers, on the first frame and in the handshake."""
    async with both(valkey_server.url) as servers:
        ticket = await ticket_of(servers[0])

        async def enter(number: int) -> str | int:
            try:
                async with servers[number % 2].connect(**(item(ticket) if number % 3 else {})) as client:
                    await client.send({"type": "session.open", "auth": ticket})
                    with suppress(ConnectionClosed):
                        return str((await client.receive())["type"])
                    return (await client.closed())[0]
            except InvalidStatus as wrong:
                return wrong.response.status_code

        answers = await asyncio.gather(*(enter(number) for number in range(12)))
        assert [each for each in answers if each not in (401, 4401)] == ["session.opened"]


@pytest.mark.needs("valkey")
@pytest.mark.parametrize("authenticator", [TOKENS, None], ids=["tokens", "open"])
async def test_a_key_with_its_session_is_valid_at_another_server(
    valkey_server: ValkeyProcess, authenticator: Any
) -> None:
    """The configuration that was asked for comes along, also without authentication; once."""
    async with both(valkey_server.url, doors=["realtime"], authenticator=authenticator) as (here, there):
        key = await key_of(here)
        async with talking(there, key) as talk:
            assert talk.events[0]["session"].get("instructions") == "Be brief."
        if authenticator is not None:
            for server in (there, here):
                with pytest.raises(InvalidStatus, match="401"):
                    async with talking(server, key):
                        pass
        else:
            async with talking(here, key) as talk:
                assert talk.events[0]["session"].get("instructions") != "Be brief."
        assert not await valkey_server.do("KEYS", "bargein:ticket:*")


@pytest.mark.needs("valkey")
async def test_a_key_of_a_server_without_authentication_is_no_ticket(valkey_server: ValkeyProcess) -> None:
    """It names nobody, so that a server with users refuses it."""
    async with both(valkey_server.url, doors=["realtime"], authenticator=None) as (open_one, _):
        key = (await key_of(open_one)).removeprefix("ek_")
        async with both(valkey_server.url) as (closed, _):
            assert await opened_with(closed, key) == 4401


@pytest.mark.needs("valkey")
@pytest.mark.parametrize("how", ["killed", "stopped"])
async def test_a_ticket_of_an_outage_is_valid_where_it_was_issued(
    valkey_server: ValkeyProcess, how: str
) -> None:
    """Once, and never at another server, which asks its client to come again; nor when the store is back."""
    wait_s = PATIENT_S if how == "killed" else 0.1
    async with both(valkey_server.url, store_wait_s=wait_s, doors=["realtime"]) as (here, there):
        if how == "killed":
            await valkey_server.kill()
        else:
            valkey_server.signal(signal.SIGSTOP)
        tickets = [await ticket_of(here) for _ in range(4)]
        key = await key_of(here)
        assert await refused(there, tickets[0]) == 503
        assert await opened_with(there, tickets[0]) == 1013
        async with here.connect(**item(tickets[0])) as socket:
            assert await said(socket) == "ann {}"
        assert await opened_with(here, tickets[1]) == "session.opened"
        async with talking(here, key) as talk:
            assert talk.events[0]["session"].get("instructions") == "Be brief."
        health = [server.sessions.keeper.health for server in (here, there)]  # type: ignore[union-attr]
        await until(lambda: not any(each.answers_in_time for each in health), "the end of the store")
        if how == "killed":
            await valkey_server.start()
        else:
            valkey_server.signal(signal.SIGCONT)
        await until(lambda: all(each.answers_in_time for each in health), "the store")
        assert [await refused(server, tickets[0]) for server in (here, there)] == [503, 503]
        assert await refused(there, tickets[2]) == 503
        assert await opened_with(here, tickets[2]) == "session.opened"
        if how == "killed":  # the other servers are impatient
            assert await opened_with(there, await ticket_of(here)) == "session.opened"


@pytest.mark.needs("valkey")
async def test_a_ticket_of_the_store_waits_for_it(valkey_server: ValkeyProcess) -> None:
    """While the store is away nobody can redeem it: 503, where 401 would end the client for good."""
    async with both(valkey_server.url) as (here, there):
        ticket = await ticket_of(here)
        await valkey_server.kill()
        assert [await refused(server, ticket) for server in (here, there)] == [503, 503]
        assert await opened_with(there, ticket) == 1013
        health = there.sessions.keeper.health  # type: ignore[union-attr]
        await until(lambda: not health.works, "the end of the store")
        await valkey_server.start()
        await until(lambda: health.answers_in_time, "the store")
        assert await opened_with(there, ticket) == "session.opened"
        assert await opened_with(there, ticket) == 4401


@pytest.mark.needs("valkey")
async def test_a_door_for_chats_takes_a_ticket_of_another_server(valkey_server: ValkeyProcess) -> None:
    """In the handshake, or in the header of a frame, also when several frames show it at once."""
    async with both(valkey_server.url, doors=["ai-sdk"]) as (here, there):
        url = f"ws://127.0.0.1:{there.port}/api/chat"
        for in_frame in (False, True):
            ticket = await ticket_of(here)
            offered: Any = None if in_frame else ["chat", f"bargein.ticket.{ticket}"]
            headers = {"authorization": f"Bearer {ticket}"} if in_frame else {}
            async with connect(url, subprotocols=offered, proxy=None) as socket:
                for name in ("a", "b", "c"):
                    said = [{"id": "m", "role": "user", "parts": [{"type": "text", "text": "hello"}]}]
                    frame = {"type": "send", "requestId": name, "id": name, "messages": said}
                    await socket.send(json.dumps({**frame, "headers": headers}))
                texts: dict[str, str] = {}
                while len(texts) < 3:
                    event = json.loads(await socket.recv())
                    assert event["type"] != "error", event
                    chunk = event.get("chunk", {})
                    if chunk.get("type") == "text-delta":
                        texts[event["requestId"]] = chunk["delta"]
                assert set(texts.values()) == {"ann {}"}


async def test_guesses_of_one_address_do_not_reach_the_store() -> None:
    """After too many wrong tickets it is not asked, in the handshake, the first frame or at a door."""
    commands: list[Command] = []
    model = RedisModel(time.time)
    async with both(lambda: watched(model, commands), doors=["realtime"]) as (here, there):
        good = await ticket_of(here)
        commands.clear()
        stop_clock(there)
        statuses = [await refused(there, f"shared.{number:043}") for number in range(4 * FAILURES_PER_S)]
        allowed = int(BURST_S * FAILURES_PER_S)
        assert statuses == [401] * allowed + [429] * (len(statuses) - allowed)
        assert len(commands) == 2 * allowed  # each one is read and deleted
        commands.clear()
        assert await refused(there, good) == 429
        assert await opened_with(there, good) == 1013
        with pytest.raises(InvalidStatus, match="429"):
            async with talking(there, f"ek_{good}"):
                pass
        assert not commands
        assert await opened_with(here, good) == "session.opened"


async def test_keys_that_no_server_issued_do_not_reach_the_store_either() -> None:
    """Without authentication any key is good, and has no configuration; the rate is the same."""
    commands: list[Command] = []
    model = RedisModel(time.time)
    store = lambda: watched(model, commands)  # noqa: E731
    async with both(store, doors=["realtime"], authenticator=None) as (_, there):
        stop_clock(there)
        for number in range(int(BURST_S * FAILURES_PER_S)):
            async with talking(there, f"ek_shared.{number:043}"):
                pass
        asked = len(commands)
        assert asked == 2 * BURST_S * FAILURES_PER_S  # each one is read and deleted
        with pytest.raises(InvalidStatus, match="429"):
            async with talking(there, f"ek_shared.{0:043}"):
                pass
        assert len(commands) == asked
        async with talking(there, "sk-any"):
            pass


async def test_other_credentials_do_not_go_to_the_store() -> None:
    """Tokens, wrong ones too, cost what they cost without a store; each wrong one counts once."""
    commands: list[Command] = []
    model = RedisModel(time.time)
    async with both(lambda: watched(model, commands)) as (here, _):
        assert await opened_with(here, "secret-of-ann") == "session.opened"
        codes = [await opened_with(here, "wrong") for _ in range(2 * FAILURES_PER_S)]
        assert codes == [4401] * 2 * FAILURES_PER_S
        assert await refused(here, "x" * 43) in (401, 429)
        assert not commands


async def test_a_ticket_of_a_backend_without_waiting_is_of_one_machine() -> None:
    """`issue_ticket` cannot wait for the store, so it does not use it."""
    commands: list[Command] = []
    model = RedisModel(time.time)
    async with both(lambda: watched(model, commands)) as (here, there):
        ticket = issue_ticket(here.app, "ann")
        assert await refused(there, ticket) == 401
        assert await opened_with(here, ticket) == "session.opened"
        assert not commands


async def test_without_a_shared_store_tickets_are_as_before() -> None:
    """No server asks another one."""
    async with serving(whoami, authenticator=TOKENS) as server:
        ticket = await issue_shared_ticket(server.app, "ann")
        assert "." not in ticket
        assert await opened_with(server, ticket) == "session.opened"
        assert await refused(server, f"shared.{ticket}") == 401
