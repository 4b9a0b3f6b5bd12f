"""The cap on bytes that a client has not acknowledged."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import cast

import pytest

from bargein_server import Output, Turn
from bargein_server.transport.peer_limits import InFlight
from bargein_server.transport.websocket_protocol import BargeinProtocol
from live_server import ask, serving
from waiting import until

CAP = 8192
CHUNK = CAP // 4
PIECES = 3000


async def gushing(turn: Turn) -> AsyncIterator[Output]:
    """Yields faster than any line takes, and stays."""
    for _ in range(PIECES):
        yield "x" * 100
    await asyncio.Event().wait()


@pytest.fixture
async def pair() -> AsyncIterator[tuple[asyncio.Transport, socket.socket]]:
    """A transport, and the other end of its TCP connection, which reads only when asked to."""
    loop = asyncio.get_running_loop()
    accepted: asyncio.Future[asyncio.Transport] = loop.create_future()

    class Server(asyncio.Protocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            accepted.set_result(cast(asyncio.Transport, transport))

    server = await loop.create_server(Server, "127.0.0.1", 0)
    client = socket.create_connection(server.sockets[0].getsockname()[:2])
    client.setblocking(False)
    transport = await accepted
    yield transport, client
    transport.abort()
    client.close()
    server.close()
    await server.wait_closed()


def fill(transport: asyncio.Transport) -> None:
    """Write until the peer's window is closed and the transport holds some."""
    while transport.get_write_buffer_size() == 0:
        transport.write(bytes(65536))


async def test_what_the_peer_acknowledged_is_not_in_flight(
    pair: tuple[asyncio.Transport, socket.socket],
) -> None:
    """Bytes that arrived do not count."""
    transport, client = pair
    in_flight = InFlight(transport, CAP, lambda: None)
    transport.write(b"x" * 1000)
    await until(lambda: in_flight.unacknowledged == 0)
    assert len(client.recv(2000)) == 1000


@pytest.mark.parametrize("over", [0, 1])
async def test_output_waits_from_the_cap_on(pair: tuple[asyncio.Transport, socket.socket], over: int) -> None:
    """At the cap it waits, below it does not."""
    transport, _ = pair
    fill(transport)
    waiting = InFlight(transport, CAP, lambda: None).unacknowledged
    capped = InFlight(transport, waiting + over, lambda: None)
    assert capped.full is (over == 0)
    capped.stop()


async def test_room_is_reported_once_when_the_peer_has_read(
    pair: tuple[asyncio.Transport, socket.socket],
) -> None:
    """The connection goes on by itself."""
    transport, client = pair
    reported: list[int] = []
    in_flight = InFlight(transport, CAP, lambda: reported.append(in_flight.unacknowledged))
    fill(transport)
    assert in_flight.full
    assert in_flight.full

    def read() -> bool:
        with suppress(BlockingIOError):
            client.recv(1 << 20)
        return bool(reported)

    await until(read)
    assert reported[0] < CAP
    assert len(reported) == 1


async def test_a_client_that_does_not_read_holds_a_gushing_agent_at_the_cap() -> None:
    """Nothing is lost when it reads again: the whole answer arrives."""
    yielded = 0

    async def counted(turn: Turn) -> AsyncIterator[Output]:
        nonlocal yielded
        async for chunk in gushing(turn):
            yielded += 1
            yield chunk

    async with serving(counted, max_in_flight_bytes=CAP) as server, server.connect() as client:
        client.socket.transport.pause_reading()
        await client.send({"type": "input.text", "id": "i1", "text": "hello"})
        [protocol] = server.server.server_state.connections
        assert isinstance(protocol, BargeinProtocol)
        in_flight = protocol.in_flight
        assert in_flight is not None
        await until(lambda: in_flight.unacknowledged >= CAP, "a full line")
        for _ in range(100):
            await asyncio.sleep(0)
            assert in_flight.unacknowledged < CAP + 2 * CHUNK
        assert yielded < PIECES

        client.socket.transport.resume_reading()
        arrived = 0
        while arrived < PIECES * 100:
            arrived += len((await client.receive()).get("text", ""))
            assert in_flight.unacknowledged < CAP + 2 * CHUNK


async def test_sockets_that_are_not_named_tcp_have_no_delay() -> None:
    """As uvicorn makes them for its workers."""
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    async with serving(gushing, listener=listener) as server, server.connect() as client:
        await ask(client)
        [protocol] = server.server.server_state.connections
        assert isinstance(protocol, BargeinProtocol)
        accepted = protocol.transport.get_extra_info("socket")
        assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) != 0
