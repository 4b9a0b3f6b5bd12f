"""Servers of two versions of the records share a Valkey, as during an upgrade."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed

from bargein_server.core.records import VERSION
from live_server import RawClient
from processes import ServerProcess, server
from resuming_customer import AGENT, Customer
from valkey_process import ValkeyProcess, valkey

pytestmark = [pytest.mark.needs("valkey"), pytest.mark.same_everywhere]

LEASE_S = 1.5

NEWER = """
from bargein_server.stores import redis_rows
from agents import talk

redis_rows.VERSION += 1
"""


class Servers:
    """Servers of both versions, and their store."""

    def __init__(self, folder: Path, stack: AsyncExitStack, store: ValkeyProcess) -> None:
        self._folder, self._stack, self.store = folder, stack, store

    async def start(self, module: str, port: int = 0) -> ServerProcess:
        """Start a server: `agents` has the current version of the records, `newer` the next one."""
        options = (
            "--store", self.store.url, "--lease-s", str(LEASE_S), "--max-client-share", "1",
            "--drain-s", "0.5",
        )  # fmt: skip
        return await self._stack.enter_async_context(
            server(f"{module}:talk", self._folder, *options, port=port)
        )

    async def records(self, session_id: str) -> dict[str, Any]:
        """Return all that the store has of a session, except for the expiry."""
        keys = [f"bargein:{{{session_id}}}:{part}" for part in "mtawx"]
        return {key: await self.store.do("DUMP", key) for key in keys}

    async def turns(self, session_id: str) -> list[bytes]:
        """Return the ids of a session's turns, each with its record."""
        found = await self.store.do("HGETALL", f"bargein:{{{session_id}}}:t")
        return [part for pair in found.items() for part in pair]

    async def version(self, session_id: str) -> int:
        """Return the version of a session's records."""
        return int(await self.store.do("HGET", f"bargein:{{{session_id}}}:m", "v"))


@pytest.fixture
async def servers(tmp_path: Path) -> AsyncIterator[Servers]:
    """Return what starts servers of one store."""
    await asyncio.to_thread((tmp_path / "agents.py").write_text, AGENT)
    await asyncio.to_thread((tmp_path / "newer.py").write_text, NEWER)
    async with asyncio.timeout(100), AsyncExitStack() as stack:
        store = await stack.enter_async_context(valkey(tmp_path / "valkey"))
        yield Servers(tmp_path, stack, store)


async def short(customer: Customer, client: RawClient, text: str) -> None:
    """Ask a short question and take its answer."""
    turn = await customer.ask(client, f"short {text}")
    await customer.until(client, "turn.ended", turn_id=turn)
    assert customer.turns[turn]["text"] == f"answer to short {text}"


async def refused(customer: Customer, port: int) -> int:
    """Come to a server that cannot read the session; return the close code."""
    opened = customer.opened
    with pytest.raises(ConnectionClosed) as closed:
        await customer.come(port)
    customer.opened = opened
    assert closed.value.rcvd is not None
    return closed.value.rcvd.code


async def comes(customer: Customer, *ports: int) -> RawClient:
    """Come to one server after the other until the session is resumed."""
    async with asyncio.timeout(10):
        while True:
            for port in ports:
                opened = customer.opened
                try:
                    return await customer.come(port)
                except (ConnectionClosed, OSError):
                    customer.opened = opened
                    await asyncio.sleep(0.05)


async def test_a_session_follows_its_client_to_a_newer_server_only(servers: Servers) -> None:
    """It is written anew there, whole; the older server asks to come again, and changes nothing."""
    older, newer = await servers.start("agents"), await servers.start("newer")
    ann = Customer("ann")
    await short(ann, await ann.come(older.port), "one")
    session_id = ann.opened["session_id"]
    assert await servers.version(session_id) == VERSION
    [turn_id, record] = await servers.turns(session_id)
    await servers.store.do("HSET", f"bargein:{{{session_id}}}:t", turn_id, record + b" ")
    client = await ann.come(newer.port)
    assert await servers.version(session_id) == VERSION + 1
    assert await servers.turns(session_id) == [turn_id, record], "a part of the earlier version is left"
    await short(ann, client, "two")
    await client.socket.close()
    before = await servers.records(session_id)
    assert await refused(ann, older.port) == 1013
    await newer.kill()  # nobody owns it now
    assert await refused(ann, older.port) == 1013
    assert await servers.records(session_id) == before
    newer = await servers.start("newer")
    client = await ann.come(newer.port)
    await short(ann, client, "three")
    assert ann.fresh == 1


async def test_an_older_server_that_stood_still_destroys_nothing(servers: Servers) -> None:
    """The newer one has taken the session meanwhile: the older one's writes are refused."""
    older, newer = await servers.start("agents"), await servers.start("newer")
    ann = Customer("ann")
    line = await ann.come(older.port)
    await ann.ask(line, "long")
    await ann.until(line, "text.delta")
    older.process.send_signal(signal.SIGSTOP)
    client = await comes(ann, newer.port)
    await short(ann, client, "two")
    older.process.send_signal(signal.SIGCONT)
    with suppress(ConnectionClosed):
        while True:
            await line.receive()
    assert (await line.closed())[0] == 1012
    assert await servers.version(ann.opened["session_id"]) == VERSION + 1
    await short(ann, client, "three")
    assert ann.fresh == 1


async def test_a_rolling_upgrade_loses_nobody(servers: Servers) -> None:
    """Three servers, one after the other; clients come to any of them again and again."""
    nodes = [await servers.start("agents") for _ in range(3)]
    ports = [node.port for node in nodes]
    customers = [Customer(f"c{number}") for number in range(9)]
    lines = [await each.come(ports[number % 3]) for number, each in enumerate(customers)]
    for each, line in zip(customers, lines, strict=True):
        await short(each, line, "one")
    for number, node in enumerate(nodes):
        node.process.send_signal(signal.SIGTERM)
        await node.process.wait()
        await servers.start("newer", port=ports[number])
        for place, each in enumerate(customers):
            turned = ports[place % 3 :] + ports[: place % 3]
            lines[place] = await comes(each, *turned)
            await short(each, lines[place], f"after {number}")
    assert [each.fresh for each in customers] == [1] * 9
    for each in customers:
        assert await servers.version(each.opened["session_id"]) == VERSION + 1


async def test_a_downgrade_is_refused_and_destroys_nothing(servers: Servers) -> None:
    """The sessions of the newer servers wait for one."""
    newer = await servers.start("newer")
    ann = Customer("ann")
    await short(ann, await ann.come(newer.port), "one")
    session_id = ann.opened["session_id"]
    newer.process.send_signal(signal.SIGTERM)
    await newer.process.wait()
    older = await servers.start("agents")
    before = await servers.records(session_id)
    assert [await refused(ann, older.port) for _ in range(3)] == [1013] * 3
    bob = Customer("bob")
    await short(bob, await bob.come(older.port), "one")
    assert await servers.records(session_id) == before
    newer = await servers.start("newer")
    await short(ann, await ann.come(newer.port), "two")
    assert ann.fresh == 1
