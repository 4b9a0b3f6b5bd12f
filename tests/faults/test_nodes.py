"""Two servers that share a Valkey: sessions move, and their owners die, stand still, or lose the store."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from time import perf_counter

import pytest
from websockets.exceptions import ConnectionClosed

from live_server import RawClient
from processes import ServerProcess, server
from resuming_customer import AGENT, Customer
from valkey_process import ValkeyProcess, valkey

pytestmark = [pytest.mark.needs("valkey"), pytest.mark.same_everywhere]

LEASE_S = 1.5


class Nodes:
    """Two servers and their store.

    Attributes:
        store: The Valkey.
        one: A server.
        two: Another one.
    """

    store: ValkeyProcess
    one: ServerProcess
    two: ServerProcess

    def __init__(self, folder: Path, stack: AsyncExitStack) -> None:
        self._folder, self._stack = folder, stack

    async def server(self, port: int = 0) -> ServerProcess:
        """Start a server."""
        options = ("--store", self.store.url, "--lease-s", str(LEASE_S), "--max-client-share", "1")
        return await self._stack.enter_async_context(server("agents:talk", self._folder, *options, port=port))


@pytest.fixture
async def nodes(tmp_path: Path) -> AsyncIterator[Nodes]:
    """Return two running servers."""
    await asyncio.to_thread((tmp_path / "agents.py").write_text, AGENT)
    async with asyncio.timeout(100), AsyncExitStack() as stack:
        nodes = Nodes(tmp_path, stack)
        nodes.store = await stack.enter_async_context(valkey(tmp_path / "valkey"))
        nodes.one, nodes.two = await nodes.server(), await nodes.server()
        yield nodes


async def short(customer: Customer, client: RawClient, text: str) -> None:
    """Ask a short question and take its answer."""
    turn = await customer.ask(client, f"short {text}")
    await customer.until(client, "turn.ended", turn_id=turn)
    assert customer.turns[turn]["text"] == f"answer to short {text}"


async def long(customer: Customer, client: RawClient, words: int = 60) -> str:
    """Ask a long question and take a part of the answer; return its turn."""
    turn = await customer.ask(client, "long")
    while customer.turns.get(turn, {}).get("text", "").count("long") < words:
        await customer.until(client, "text.delta")
    return turn


async def drained(customer: Customer, client: RawClient) -> tuple[int, str]:
    """Take everything until the connection ends; return the code and the reason."""
    with suppress(ConnectionClosed):
        await customer.until(client, "nothing")
    return await client.closed()


async def comes_again(customer: Customer, port: int, within_s: float) -> RawClient:
    """Connect until the session is resumed, as a client does that is asked to come again."""
    async with asyncio.timeout(within_s):
        while True:
            opened = customer.opened
            try:
                return await customer.come(port)
            except ConnectionClosed as closed:
                if closed.rcvd is None or closed.rcvd.code not in (1012, 1013):
                    raise
                customer.opened = opened
                await asyncio.sleep(0.05)


async def test_a_session_moves_to_the_node_that_its_client_comes_to(nodes: Nodes) -> None:
    """Its owner lives: nothing is missing, so an up-to-date client gets an empty replay."""
    ann = Customer("ann")
    client = await ann.come(nodes.one.port)
    await short(ann, client, "one")
    began = perf_counter()
    moved = await ann.come(nodes.two.port)
    assert perf_counter() - began < 1.0
    assert (await drained(ann, client))[0] == 4409  # the newest connection wins, wherever it comes
    await short(ann, moved, "two")
    await moved.socket.close()
    back = await ann.come(nodes.one.port)
    await short(ann, back, "three")
    assert (ann.fresh, ann.snapshots) == (1, 0)


async def test_a_killed_owner_is_noticed_at_once(nodes: Nodes) -> None:
    """Its port refuses, so nobody waits for its lease."""
    ann = Customer("ann")
    client = await ann.come(nodes.one.port)
    await short(ann, client, "one")
    turn = await long(ann, client)
    await nodes.one.kill()
    await drained(ann, client)
    began = perf_counter()
    client = await ann.come(nodes.two.port)
    assert perf_counter() - began < 0.5
    assert ann.turns[turn]["end"] == ("failed", "node_lost")
    assert ann.turns[turn]["taken_back"] <= 5 * 80
    await short(ann, client, "two")
    assert ann.fresh == 1


async def test_an_owner_that_stands_still_loses_its_sessions(nodes: Nodes) -> None:
    """After its lease; when it goes on, its connections are closed with 1012, and nothing is written."""
    ann, bob = Customer("ann"), Customer("bob")
    line, quiet = await ann.come(nodes.one.port), await bob.come(nodes.one.port)
    turn = await long(ann, line)
    await short(bob, quiet, "one")
    nodes.one.process.send_signal(signal.SIGSTOP)
    began = perf_counter()
    client = await comes_again(ann, nodes.two.port, LEASE_S + 4)
    assert perf_counter() - began < LEASE_S + 1.5
    assert ann.turns[turn]["end"] == ("failed", "node_lost")
    await short(ann, client, "two")
    nodes.one.process.send_signal(signal.SIGCONT)
    with suppress(ConnectionClosed):
        while True:  # what was in the buffers, and at most one flush
            await line.receive()
    assert (await line.closed())[0] == 1012
    await short(bob, quiet, "two")  # nobody has taken it
    await short(ann, client, "three")
    assert (ann.fresh, bob.fresh) == (1, 1)


async def test_a_node_asks_the_store_before_it_refuses_a_client(nodes: Nodes) -> None:
    """It stood still, does not yet know that it has lost the session, and would find the cursor too new."""
    ann = Customer("ann")
    line = await ann.come(nodes.one.port)
    await short(ann, line, "one")
    nodes.one.process.send_signal(signal.SIGSTOP)
    client = await comes_again(ann, nodes.two.port, LEASE_S + 4)
    await short(ann, client, "two")
    await client.socket.close()
    nodes.one.process.send_signal(signal.SIGCONT)
    client = await comes_again(ann, nodes.one.port, 5)
    await short(ann, client, "three")
    assert ann.fresh == 1


async def test_a_session_whose_turn_runs_moves_after_it(nodes: Nodes) -> None:
    """Its client is asked to come again meanwhile."""
    ann = Customer("ann")
    line = await ann.come(nodes.one.port)
    turn = await long(ann, line)
    opened = ann.opened
    with pytest.raises(ConnectionClosed) as closed:
        await ann.come(nodes.two.port)
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 1013
    ann.opened = opened
    await line.send({"type": "interrupt", "id": "x1", "turn_id": turn})
    await ann.until(line, "turn.ended", turn_id=turn)
    client = await ann.come(nodes.two.port)
    await short(ann, client, "two")
    assert (ann.fresh, ann.snapshots) == (1, 0)


async def test_an_owner_refuses_a_wrong_token(nodes: Nodes) -> None:
    """The session stays where it is, and the client gets a fresh one."""
    ann, eve = Customer("ann"), Customer("eve")
    line = await ann.come(nodes.one.port)
    await short(ann, line, "one")
    eve.opened = {**ann.opened, "token": "guessed"}
    with pytest.raises(AssertionError, match="unknown_session"):
        await eve.come(nodes.two.port)
    await short(ann, line, "two")


async def test_a_deploy_moves_every_session(nodes: Nodes) -> None:
    """SIGTERM: turns end, sessions are released, and clients resume with an empty replay."""
    customers = [Customer(f"c{number}") for number in range(10)]
    lines = [await each.come(nodes.one.port) for each in customers]
    for each, line in zip(customers, lines, strict=True):
        await short(each, line, "one")
    nodes.one.process.send_signal(signal.SIGTERM)

    async def move(customer: Customer, line: RawClient) -> None:
        await customer.until(line, "goaway")
        client = await comes_again(customer, nodes.two.port, 10)
        await short(customer, client, "two")

    await asyncio.gather(*map(move, customers, lines))
    assert [(each.fresh, each.snapshots) for each in customers] == [(1, 0)] * 10
    async with asyncio.timeout(10):
        await nodes.one.process.wait()


async def test_a_store_that_is_away_silences_nobody(nodes: Nodes) -> None:
    """Turns speak, inputs are accepted, interrupts are answered; later everything is in the store again."""
    ann = Customer("ann")
    line = await ann.come(nodes.one.port)
    turn = await long(ann, line)
    await nodes.store.kill()
    await ann.until(line, "text.delta")
    began = perf_counter()
    await line.send({"type": "interrupt", "id": "x1", "turn_id": turn})
    await ann.until(line, "turn.ended", turn_id=turn)
    assert perf_counter() - began < 0.2
    began = perf_counter()
    await short(ann, line, "while the store is away")
    assert perf_counter() - began < 1.0
    await short(ann, line, "again")
    with pytest.raises(ConnectionClosed) as closed:
        await twin_of(ann).come(nodes.two.port)
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 1013
    await nodes.store.start()
    await asyncio.sleep(3)  # the interval in which a store that is away is tried again, and young
    turn = await long(ann, line)
    await nodes.one.kill()
    await drained(ann, line)
    client = await comes_again(ann, nodes.two.port, 5)
    assert ann.turns[turn]["end"] == ("failed", "node_lost")
    await short(ann, client, "two")
    assert ann.fresh == 1


def twin_of(customer: Customer) -> Customer:
    """Return another client with the same session."""
    other = Customer(customer.name)
    other.opened, other.seq = customer.opened, customer.seq
    return other


async def test_an_emptied_store_is_filled_again(nodes: Nodes) -> None:
    """Living owners write their sessions anew, those of idle ones too; then the owner dies."""
    ann, bob = Customer("ann"), Customer("bob")
    line, quiet = await ann.come(nodes.one.port), await bob.come(nodes.one.port)
    await short(bob, quiet, "one")
    turn = await long(ann, line)
    await nodes.store.do("FLUSHALL")
    came = await bob.come(nodes.two.port)  # in the young second
    await short(bob, came, "two")
    await ann.until(line, "text.delta")
    await asyncio.sleep(1)
    await nodes.one.kill()
    await drained(ann, line)
    client = await comes_again(ann, nodes.two.port, 5)
    assert ann.turns[turn]["end"] == ("failed", "node_lost")
    await short(ann, client, "two")
    assert (ann.fresh, bob.fresh) == (1, 1)


async def test_connections_that_the_store_drops_are_made_again(nodes: Nodes) -> None:
    """Every 0.2 s, while a turn speaks; then the owner dies."""
    ann = Customer("ann")
    line = await ann.come(nodes.one.port)
    await short(ann, line, "one")
    turn = await long(ann, line)
    for _ in range(8):
        await nodes.store.do("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
        for _ in range(20):
            await ann.until(line, "text.delta")
    await asyncio.sleep(2)
    await nodes.one.kill()
    await drained(ann, line)
    client = await comes_again(ann, nodes.two.port, 5)
    assert ann.turns[turn]["end"] == ("failed", "node_lost")
    await short(ann, client, "two")
    assert ann.fresh == 1
