"""Our application under other ASGI servers, as processes, and probes of the limits that they keep.

async with running("hypercorn", folder, TIGHT) as server:
    kept = await LIMITS[TIGHT]["size of a message"](server)
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.typing import Subprotocol

from processes import environment, free_port
from raw_websocket import HEAD, frame
from waiting import WAIT_S

SERVICE = """
import asyncio, os
from bargein_server import Settings, create_app

SETTINGS = Settings({settings})

async def agent(turn):
    if turn.text == "flood":
        while True:
            yield "x" * 1000
    yield "hello"
    await asyncio.sleep(60)

app = create_app(agent, SETTINGS)
"""

RUN = """
import sys
from bargein_server import run
from service import SETTINGS, agent

run(agent, port=int(sys.argv[1]), settings=SETTINGS)
"""

COMMANDS = {
    "bargein-server": "serve.py {port}",
    "uvicorn + class": "-m uvicorn service:app --port {port} --ws bargein_server:BargeinProtocol",
    "uvicorn": "-m uvicorn service:app --port {port}",
    "gunicorn + uvicorn": "-m gunicorn service:app -k uvicorn_worker.UvicornWorker -b 127.0.0.1:{port}",
    "gunicorn": "-m gunicorn service:app -k asgi -b 127.0.0.1:{port} --graceful-timeout 2",
    "hypercorn": "-m hypercorn service:app --bind 127.0.0.1:{port} --workers 0",
    "daphne": "-m daphne service:app -p {port}",
    "granian": "-m granian service:app --interface asgi --port {port}",
}
"""Arguments of Python, by server."""

CLOSE = 0x88
"""First byte of a close frame."""

LIMIT, FRAGMENTS, CONNECTIONS = 4096, 16, 16
NO_PROXY = "192.0.2.1"
"""Proxy that servers trust: connections of a trusted address are not counted for it."""

SOON_S = 3.0
"""Time in which a limit of one second shows its effect; one that is not kept takes this long."""

TIGHT = (
    f"max_frame_bytes={LIMIT}, max_frame_fragments={FRAGMENTS}, max_messages_per_s=1000, "
    f"request_head_s=1, max_head_bytes=16384, request_body_s=1"
)
CROWDED = f"max_connections_per_address={CONNECTIONS}"
WIDE = (
    "max_messages_per_s=10**6, max_frames_per_s=10**9, max_bytes_per_s=10**9, "
    "max_pong_bytes=65536, max_in_flight_bytes=8192"
)
SHORT = "stalled_s=1, drain_s=0"


class OtherServer:
    """A server that listens.

    Attributes:
        port: Where it listens on 127.0.0.1.
        process: Its process.
    """

    def __init__(self, port: int, process: asyncio.subprocess.Process) -> None:
        self.port = port
        self.process = process


def cpu_s(server: OtherServer) -> float:
    """Return the processor time of a server with its workers."""
    ticks = 0
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):  # it may end meanwhile
            fields = path.read_text().rpartition(")")[2].split()
            if int(fields[2]) == server.process.pid:
                ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


@asynccontextmanager
async def running(name: str, folder: Path, settings: str) -> AsyncIterator[OtherServer]:
    """Run a server until the block ends."""
    (folder / "service.py").write_text(SERVICE.format(settings=settings))
    (folder / "serve.py").write_text(RUN)
    port = free_port()
    with (folder / "log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            sys.executable, *COMMANDS[name].format(port=port).split(),
            cwd=folder, env={**environment(), "FORWARDED_ALLOW_IPS": NO_PROXY},
            stdout=log, stderr=log, start_new_session=True,
        )  # fmt: skip
        try:
            await _answers(port, process, folder / "log")
            yield OtherServer(port, process)
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            await process.wait()


async def _answers(port: int, process: asyncio.subprocess.Process, log: Path) -> None:
    async with asyncio.timeout(3 * WAIT_S):
        while True:
            assert process.returncode is None, f"the server did not start: {log}"
            with suppress(OSError, asyncio.IncompleteReadError):
                async with tcp(port, b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n") as (reader, _):
                    assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200")
                    return
            await asyncio.sleep(0.05)


Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@asynccontextmanager
async def tcp(port: int, data: bytes = b"", receive_bytes: int = 0) -> AsyncIterator[Streams]:
    """Open a TCP connection and send the first bytes.

    Args:
        port: The port on 127.0.0.1.
        data: The bytes.
        receive_bytes: Size of the kernel's buffer for what the peer sends; 0 for the default.
    """
    sock = socket.socket()
    if receive_bytes:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
    sock.setblocking(False)
    try:
        await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", port))
        reader, writer = await asyncio.open_connection(sock=sock, limit=2**12)
    except BaseException:
        sock.close()
        raise
    try:
        writer.write(data)
        yield reader, writer
    finally:
        writer.transport.abort()


@asynccontextmanager
async def websocket(server: OtherServer, receive_bytes: int = 0) -> AsyncIterator[Streams]:
    """Open a WebSocket that answers nothing by itself."""
    async with tcp(server.port, f"{HEAD}\r\n".encode(), receive_bytes) as (reader, writer):
        async with asyncio.timeout(WAIT_S):
            assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 101")
        yield reader, writer


async def ended(reader: asyncio.StreamReader) -> bool:
    """Return whether the server ends the connection soon."""
    with suppress(TimeoutError):
        async with asyncio.timeout(SOON_S):
            with suppress(ConnectionError):
                while await reader.read(2**16):
                    pass
            return True
    return False


async def closed(reader: asyncio.StreamReader) -> bool:
    """Return whether the server soon ends a WebSocket or sends a close frame."""
    with suppress(TimeoutError):
        async with asyncio.timeout(SOON_S):
            with suppress(ConnectionError, asyncio.IncompleteReadError):
                while True:
                    first, size = await reader.readexactly(2)
                    if first == CLOSE:
                        return True
                    if size >= 126:
                        size = int.from_bytes(await reader.readexactly(2 if size == 126 else 8), "big")
                    await reader.readexactly(size)
            return True
    return False


# --- probes: each returns whether the server keeps the limit -------------------------------------------


async def frame_size(server: OtherServer) -> bool:
    """Messages have a largest size."""
    async with websocket(server) as (reader, writer):
        writer.write(frame(1, b" " * (LIMIT + 1)))
        return await closed(reader)


async def frame_size_in_advance(server: OtherServer) -> bool:
    """A large frame is refused at its head, before its payload is received."""
    async with websocket(server) as (reader, writer):
        writer.write(frame(1, b" " * (LIMIT + 1))[:8])
        return await closed(reader)


async def fragments(server: OtherServer) -> bool:
    """Messages have a largest number of fragments."""
    async with websocket(server) as (reader, writer):
        writer.write(frame(1, b" ", final=False) + frame(0, final=False) * 2 * FRAGMENTS)
        return await closed(reader)


async def compression(server: OtherServer) -> bool:
    """Messages are not compressed, so none is larger than what was received."""
    offer = "Sec-WebSocket-Extensions: permessage-deflate\r\n\r\n"
    async with tcp(server.port, f"{HEAD}{offer}".encode()) as (reader, _):
        async with asyncio.timeout(WAIT_S):
            head = await reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 101")
        return b"permessage-deflate" not in head.lower()


async def messages(server: OtherServer) -> bool:
    """Messages have a rate."""
    async with websocket(server) as (reader, writer):
        writer.write(frame(1, b"{}") * 5000)
        return await closed(reader)


async def frames(server: OtherServer) -> bool:
    """Frames of every kind have a rate."""
    async with websocket(server) as (reader, writer):
        writer.write(frame(9) * 20_000)
        return await closed(reader)


async def pongs(server: OtherServer) -> bool:
    """A peer that reads no pongs does not fill the memory: it is dropped, or not read any more."""
    async with websocket(server, receive_bytes=2048) as (_, writer):
        transport, data = writer.transport, frame(9, b"x" * 100) * 150_000  # more than the kernel's buffers
        transport.write(data)
        left, used, still_s = len(data), cpu_s(server), 0
        while left and still_s < 5 and not transport.is_closing():
            await asyncio.sleep(1)
            before, left = (left, used), transport.get_write_buffer_size()
            used = cpu_s(server)
            # A busy server may take seconds for the portion that it has read, and wait for a processor.
            still_s = still_s + 1 if left == before[0] and used - before[1] < 0.05 else 0
        assert server.process.returncode is None
        return left > 0 or transport.is_closing()


async def head_time(server: OtherServer) -> bool:
    """The head of a request has a time."""
    async with tcp(server.port, b"GET / HTTP/1.1\r\nHost: localhost\r\n") as (reader, _):
        return await ended(reader)


async def head_size(server: OtherServer) -> bool:
    """The head of a request has a largest size."""
    head = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n" + b"X: %s\r\n" % (b"x" * 4000) * 5
    async with tcp(server.port, head + b"\r\n") as (reader, _):
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            async with asyncio.timeout(WAIT_S):
                return not (await reader.readuntil(b"\r\n")).startswith(b"HTTP/1.1 200")
        return True


async def body_time(server: OtherServer) -> bool:
    """A body that the application waits for has a time."""
    head = b"POST /v1/turns HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    async with tcp(server.port, head + b"Content-Length: 9\r\n\r\n") as (reader, _):
        with suppress(TimeoutError):
            async with asyncio.timeout(SOON_S):
                return (await reader.readuntil(b"\r\n")).startswith(b"HTTP/1.1 408")
        return False


async def unread_body(server: OtherServer) -> bool:
    """A connection whose request has a body that nobody reads ends after the response."""
    head = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n"
    async with tcp(server.port, head) as (reader, writer):
        with suppress(asyncio.IncompleteReadError, ConnectionError, TimeoutError):
            async with asyncio.timeout(SOON_S):
                await reader.readuntil(b"\r\n\r\n")
        writer.write(b"x")  # many timers of servers end with it
        return await ended(reader)


async def connections(server: OtherServer) -> bool:
    """An address has a largest number of sessions' connections."""
    async with asyncio.TaskGroup() as group:
        done = asyncio.Event()

        async def hold() -> None:
            async with websocket(server):
                await done.wait()

        holders = [group.create_task(hold()) for _ in range(CONNECTIONS)]
        await asyncio.sleep(0.2)
        async with tcp(server.port, f"{HEAD}\r\n".encode()) as (reader, _):
            async with asyncio.timeout(WAIT_S):
                status = await reader.readuntil(b"\r\n")
        done.set()
    assert len(holders) == CONNECTIONS
    return not status.startswith(b"HTTP/1.1 101")


async def idle_connections(server: OtherServer) -> bool:
    """Connections count from the moment that they are accepted."""
    holders = [await asyncio.open_connection("127.0.0.1", server.port) for _ in range(3 * CONNECTIONS)]
    try:
        async with tcp(server.port, b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n") as (reader, _):
            async with asyncio.timeout(WAIT_S):
                return not (await reader.readuntil(b"\r\n")).startswith(b"HTTP/1.1 200")
    except (asyncio.IncompleteReadError, ConnectionError):
        return True
    finally:
        for _, writer in holders:
            writer.transport.abort()


async def stalled(server: OtherServer) -> bool:
    """A peer that answers no ping is dropped."""
    async with websocket(server) as (reader, writer):
        writer.write(frame(1, b'{"type":"session.open"}'))
        return await closed(reader)


async def in_flight(server: OtherServer) -> bool:
    """Output that is on its way when an interrupt arrives has a bound."""
    async with websocket(server, receive_bytes=2048) as (reader, writer):
        writer.write(frame(1, b'{"type":"input.text","id":"i","text":"flood"}'))
        await asyncio.sleep(0.5)
        writer.write(frame(1, b'{"type":"interrupt","id":"x"}'))
        stale = b""
        with suppress(TimeoutError):
            async with asyncio.timeout(WAIT_S):
                while b"interrupt.result" not in stale and len(stale) < 2**22:
                    stale += await reader.read(2**16)
        return b"interrupt.result" in stale[: 2**16]


async def refusal(server: OtherServer) -> bool:
    """A refused handshake has a status of its own."""
    other = Subprotocol("other")
    try:
        async with connect(f"ws://127.0.0.1:{server.port}/v1/session", subprotocols=[other], proxy=None):
            return False
    except InvalidStatus as refused:
        return refused.response.status_code == 400


async def shutdown(server: OtherServer) -> bool:
    """At SIGTERM each turn gets its `turn.ended`."""
    async with connect(f"ws://127.0.0.1:{server.port}/v1/session", proxy=None) as client:
        await client.send('{"type":"input.text","id":"i","text":"hello"}')
        async with asyncio.timeout(2 * WAIT_S):
            while "text.delta" not in str(await client.recv()):
                pass
            server.process.terminate()
            with suppress(ConnectionClosed):
                while True:
                    if "turn.ended" in str(await client.recv()):
                        return True
    return False


Probe = Callable[[OtherServer], Awaitable[bool]]

LIMITS: dict[str, dict[str, Probe]] = {
    TIGHT: {
        "size of a message": frame_size,
        "size of a message, before its payload": frame_size_in_advance,
        "fragments of a message": fragments,
        "no compression": compression,
        "rate of messages": messages,
        "rate of frames, such as pings": frames,
        "time of a head": head_time,
        "size of a head": head_size,
        "time of a body": body_time,
        "end after a body that is not read": unread_body,
        "status of a refused handshake": refusal,
    },
    CROWDED: {
        "connections per address": connections,
        "connections per address, before a request": idle_connections,
    },
    WIDE: {
        "pongs that are not read": pongs,
        "bytes in flight": in_flight,
    },
    SHORT: {
        "peers that answer no ping": stalled,
        "end of turns at SIGTERM": shutdown,
    },
}
"""Probes by settings; those of `TIGHT` may run at the same time."""
