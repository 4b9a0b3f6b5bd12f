"""Programs that misuse a server from one address, 127.0.0.2, until they are killed.

    python tests/support/attackers.py NAME PORT

`ATTACKS` has them by name. Those in `WITH_TOKEN` have a token of their own, the others have none.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import sys
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from contextlib import suppress
from typing import Any

TOKEN = "token-of-the-attacker"
ADDRESS = "127.0.0.2"
PATIENCE_S = 5.0

TEXT, BINARY, CONTINUATION, PING, PONG = 1, 2, 0, 9, 10
MASK = bytes(4)
UPGRADE = (
    "GET /v1/session HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
)

_JSON = {"Content-Type": "application/json"}

Attack = Callable[[int], Coroutine[Any, Any, None]]


def frame(opcode: int, payload: bytes = b"", *, final: bool = True) -> bytes:
    """Return a masked frame (RFC 6455 section 5.2)."""
    size = len(payload)
    if size < 126:
        length = bytes([0x80 | size])
    elif size < 65536:
        length = bytes([0xFE]) + size.to_bytes(2, "big")
    else:
        length = bytes([0xFF]) + size.to_bytes(8, "big")
    return bytes([(0x80 if final else 0) | opcode]) + length + MASK + payload


def event(**fields: object) -> bytes:
    """Return the frame of a client event."""
    return frame(TEXT, json.dumps(fields).encode())


class Line:
    """A connection whose answers are read and dropped."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self.writer = writer

    async def __aenter__(self) -> Line:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.writer.transport.abort()

    async def send(self, data: bytes) -> None:
        """Write bytes and read what has arrived; raise when the server has closed."""
        self.writer.write(data)
        async with asyncio.timeout(PATIENCE_S):
            await self.writer.drain()
        if self._reader.at_eof():
            raise ConnectionError("closed by the server")

    async def until(self, end: bytes) -> bytes:
        """Read up to a mark."""
        async with asyncio.timeout(PATIENCE_S):
            return await self._reader.readuntil(end)

    async def closed(self) -> None:
        """Read until the server closes."""
        with suppress(OSError):
            while await self._reader.read(2**16):
                pass

    def drop_answers(self) -> asyncio.Task[None]:
        """Read everything in the background."""
        return asyncio.create_task(self.closed())


async def connect(port: int) -> Line:
    """Open a TCP connection."""
    async with asyncio.timeout(PATIENCE_S):
        return Line(*await asyncio.open_connection("127.0.0.1", port, local_addr=(ADDRESS, 0)))


async def upgrade(port: int, protocol: str = "bargein.v1.json") -> Line:
    """Open a WebSocket."""
    line = await connect(port)
    await line.send(f"{UPGRADE}Sec-WebSocket-Protocol: {protocol}\r\n\r\n".encode())
    if b" 101 " not in await line.until(b"\r\n\r\n"):
        line.writer.transport.abort()
        raise ConnectionError("refused")
    return line


async def open_session(port: int) -> Line:
    """Open a session with the attacker's token."""
    line = await upgrade(port)
    await line.send(event(type="session.open", auth=TOKEN))
    await line.until(b'"session.opened"')
    return line


def request(method: str, path: str, body: bytes = b"", headers: Mapping[str, str] | None = None) -> bytes:
    """Return an HTTP request."""
    lines = [f"{method} {path} HTTP/1.1", "Host: localhost", f"Content-Length: {len(body)}"]
    lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
    return "\r\n".join([*lines, "", ""]).encode() + body


async def again(work: Callable[[], Awaitable[None]]) -> None:
    """Do it again whenever it ends."""
    while True:
        with suppress(
            OSError, EOFError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError
        ):
            await work()
        await asyncio.sleep(0.005)


async def crowd(count: int, work: Callable[[], Awaitable[None]]) -> None:
    """Do it with many connections at a time, again and again."""
    await asyncio.gather(*(again(work) for _ in range(count)))


def flood(*frames: bytes, lines: int = 20, protocol: str = "bargein.v1.json") -> Attack:
    """Send the same frames over and over, with the answers dropped."""

    async def attack(port: int) -> None:
        async def work() -> None:
            async with await upgrade(port, protocol) as line:
                answers = line.drop_answers()
                while not answers.done():
                    await line.send(b"".join(frames))

        await crowd(lines, work)

    return attack


def hold(start: bytes, lines: int) -> Attack:
    """Send the beginning of something and wait."""

    async def attack(port: int) -> None:
        async def work() -> None:
            async with await connect(port) as line:
                await line.send(start)
                await line.closed()

        await crowd(lines, work)

    return attack


def ask(data: bytes, lines: int = 20) -> Attack:
    """Send requests on connections that are kept alive, each after the answer to the one before."""

    async def attack(port: int) -> None:
        async def work() -> None:
            async with await connect(port) as line:
                while True:
                    await line.send(data)
                    await line.until(b"\r\n\r\n")

        await crowd(lines, work)

    return attack


# --- without a token ---------------------------------------------------------------------------------


async def open_and_close(port: int) -> None:
    """Upgrade and leave."""

    async def work() -> None:
        async with await upgrade(port):
            pass

    await crowd(20, work)


async def never_open(port: int) -> None:
    """Upgrade and say nothing."""

    async def work() -> None:
        async with await upgrade(port) as line:
            await line.closed()

    await crowd(400, work)


async def wrong_credentials(port: int) -> None:
    """Open sessions with guessed tokens."""

    async def work() -> None:
        async with await upgrade(port) as line:
            await line.send(event(type="session.open", auth=os.urandom(8).hex()))
            await line.closed()

    await crowd(20, work)


async def guess_resumes(port: int) -> None:
    """Resume with guessed secrets."""

    async def work() -> None:
        async with await upgrade(port) as line:
            resume = {"session_id": os.urandom(4).hex(), "token": os.urandom(8).hex()}
            await line.send(event(type="session.open", resume=resume))
            await line.closed()

    await crowd(20, work)


async def tiny_chunks(port: int) -> None:
    """Post a body of chunks of one byte."""
    head = request("POST", "/v1/batch", b"", {"Transfer-Encoding": "chunked", **_JSON})
    chunks = b"1\r\nx\r\n" * 10_000

    async def work() -> None:
        async with await connect(port) as line:
            await line.send(head.replace(b"Content-Length: 0\r\n", b""))
            answers = line.drop_answers()
            while not answers.done():
                await line.send(chunks)

    await crowd(20, work)


async def random_bytes(port: int) -> None:
    """Send anything, before and after the handshake."""

    async def work() -> None:
        async with await (upgrade(port) if os.urandom(1)[0] & 1 else connect(port)) as line:
            answers = line.drop_answers()
            while not answers.done():
                await line.send(os.urandom(4096))

    await crowd(20, work)


def forwarded() -> Attack:
    """Claim a new address with each request."""
    numbers = itertools.count()

    async def attack(port: int) -> None:
        async def work() -> None:
            async with await connect(port) as line:
                while True:
                    claimed = f"10.{next(numbers) % 250}.1.2" + ", x" * 2000
                    await line.send(request("GET", "/healthz", b"", {"X-Forwarded-For": claimed}))
                    await line.until(b"\r\n\r\n")

        await crowd(20, work)

    return attack


def colliding() -> bytes:
    """Return a MessagePack frame whose map keys hash alike."""
    keys = b"".join(
        b"\x9f" + bytes(key) + b"\x00"
        for key in itertools.islice(itertools.product(b"\xff\xfe", repeat=15), 14_000)
    )
    value = b"\xde" + (14_000).to_bytes(2, "big") + keys
    fields = b"\xa4type\xacsession.open\xa8metadata\x81\xa1a"
    return frame(BINARY, b"\x82" + fields + value)


_MANY_LISTS = "[" + ",".join(["[]"] * 60_000) + "]"
_LISTS = frame(TEXT, b'{"type":"session.open","auth":"x","x":' + _MANY_LISTS.encode() + b"}")
_DEEP = frame(TEXT, b'{"type":"session.open","x":' + b"[" * 200_000)
_UNFINISHED = request("POST", "/v1/batch", b"[" * (4 * 2**20), _JSON)[:-1]
_TURN = b'{"text":"hello"}'
_WRONG = request("POST", "/v1/turns", _TURN, {"Authorization": "Bearer x", **_JSON})

WITHOUT_TOKEN: dict[str, Attack] = {
    "pings": flood(frame(PING) * 10_000),
    "pings with a payload": flood(frame(PING, b"x" * 125) * 1_000),
    "unasked pongs": flood(frame(PONG) * 10_000),
    "fragments of a byte": flood(
        frame(TEXT, b"x", final=False), frame(CONTINUATION, b"x", final=False) * 10_000
    ),
    "empty fragments": flood(frame(TEXT, final=False), frame(CONTINUATION, final=False) * 10_000),
    "empty messages": flood(frame(TEXT) * 10_000),
    "keys that collide": flood(colliding(), protocol="bargein.v1.msgpack"),
    "deep nesting": flood(_DEEP),
    "many small values": flood(_LISTS),
    "frames too large": flood(frame(TEXT, b"x" * 2**20)),
    "open and close": open_and_close,
    "never open": never_open,
    "wrong credentials": wrong_credentials,
    "guessed resumes": guess_resumes,
    "random bytes": random_bytes,
    "half a head": hold(UPGRADE.encode(), 900),
    "silence": hold(b"", 900),
    "a body that never comes": hold(request("GET", "/healthz", b"x" * 100)[:-100], 300),
    "unfinished uploads": hold(_UNFINISHED, 100),
    "chunks of a byte": tiny_chunks,
    "wrong bearers": ask(_WRONG),
    "claimed addresses": forwarded(),
    "probes": ask(request("GET", "/healthz")),
}


# --- with a token ------------------------------------------------------------------------------------


def session_flood(*frames: bytes, lines: int = 20) -> Attack:
    """Send the same frames over and over inside sessions."""

    async def attack(port: int) -> None:
        async def work() -> None:
            async with await open_session(port) as line:
                answers = line.drop_answers()
                while not answers.done():
                    await line.send(b"".join(frames))

        await crowd(lines, work)

    return attack


async def inputs(port: int) -> None:
    """Ask as fast as possible, each time with a new id and metadata."""

    async def work() -> None:
        async with await open_session(port) as line:
            answers = line.drop_answers()
            for number in itertools.count():
                if answers.done():
                    return
                lists: list[object] = [[]] * 5_000
                asked = event(
                    type="input.text", id=f"in_{number}", text="hello", on_busy="queue", metadata={"a": lists}
                )
                await line.send(asked)

    await crowd(20, work)


async def leave_sessions(port: int) -> None:
    """Open sessions and lose their connections."""

    async def work() -> None:
        async with await open_session(port):
            pass

    await crowd(20, work)


async def deaf_clients(port: int) -> None:
    """Make the agent talk, and do not read."""

    async def work() -> None:
        async with await open_session(port) as line:
            line.writer.transport.pause_reading()  # type: ignore[attr-defined]
            await line.send(event(type="input.text", id="in_1", text="gush"))
            await asyncio.sleep(PATIENCE_S)

    await crowd(100, work)


async def deaf_followers(port: int) -> None:
    """Follow a session by many streams that nobody reads."""
    turn = request("POST", "/v1/turns", _TURN, BEARER)

    async def work() -> None:
        async with await connect(port) as line:
            await line.send(turn)
            await line.until(b"\r\n\r\n")
            line.writer.transport.pause_reading()  # type: ignore[attr-defined]
            await asyncio.sleep(PATIENCE_S)

    await crowd(100, work)


_LARGE_UPDATE = event(type="session.update", metadata={"floats": [1.5] * 8_000, "integers": [10**300] * 100})
_SMALL_UPDATE = event(type="session.update", metadata={"a": 1})
_KEYS = {f"key {number}": number for number in range(1000)}
BEARER = {"Authorization": f"Bearer {TOKEN}", **_JSON}

WITH_TOKEN: dict[str, Attack] = {
    "interrupts": session_flood(event(type="interrupt", id="x_1") * 100),
    "pings of the protocol": session_flood(event(type="ping", id="p") * 100),
    "updates": session_flood(event(type="session.update", metadata=_KEYS)),
    "small updates of large metadata": session_flood(_LARGE_UPDATE, *[_SMALL_UPDATE] * 500),
    "playback": session_flood(event(type="playback", turn_id="t_1", chars=1) * 100),
    "tool results": session_flood(event(type="tool.output", call_id="c", output="x" * 1000) * 100),
    "inputs": inputs,
    "sessions": leave_sessions,
    "turns over HTTP": ask(request("POST", "/v1/turns", _TURN, BEARER), 50),
    "tickets": ask(request("POST", "/v1/tickets", b"", BEARER)),
    "batches": ask(
        request("POST", "/v1/batch", json.dumps({"inputs": [{"text": "x"}] * 100}).encode(), BEARER)
    ),
    "deaf clients": deaf_clients,
    "deaf followers": deaf_followers,
}

ATTACKS = {**WITHOUT_TOKEN, **WITH_TOKEN}


if __name__ == "__main__":
    with suppress(KeyboardInterrupt):
        asyncio.run(ATTACKS[sys.argv[1]](int(sys.argv[2])))
