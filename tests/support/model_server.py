"""A model's HTTP server under the control of a test.

It speaks HTTP/1.1 on a raw socket, because what matters is what happens to the socket: each request
is a `Call`, a test decides what it is answered and when, and `await call.gone()` says how its
connection ended. Nothing here sleeps or answers by itself unless a `script` is given.

    async with Upstream() as upstream:
        call = await upstream.call()      # the request has arrived
        call.open(); call.text("Hello")   # headers, a token
        assert await call.gone() == "eof" # the peer dropped it
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any, Literal, Self, cast

End = Literal["eof", "reset", "cut"]

WAIT_S = 5.0
"""How long a test waits for something that takes milliseconds; only a failure takes this long."""


class Call:
    """One request and the means to answer it, in writes that never wait.

    Attributes:
        path: The request's path.
        headers: Its headers, names in lower case.
        body: Its body, decoded from JSON; None when it has none.
        connection: Which connection it came on: 0, 1, 2, … in the order of their arrival.
    """

    def __init__(self, wire: _Wire, path: str, headers: dict[str, str], body: Any) -> None:
        self._wire = wire
        self.path = path
        self.headers = headers
        self.body = body
        self.connection = wire.number

    def open(self) -> None:
        """Send the headers of a stream."""
        self._write(
            b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
        )

    def event(self, data: Any, name: str | None = None) -> None:
        """Send one server-sent event: a string as it is, anything else as JSON."""
        text = data if isinstance(data, str) else json.dumps(data)
        named = "" if name is None else f"event: {name}\n"
        payload = f"{named}data: {text}\n\n".encode()
        self._write(f"{len(payload):x}\r\n".encode() + payload + b"\r\n")

    def comment(self, text: str = "keep-alive") -> None:
        """Send a comment, as servers do to keep a silent stream open."""
        payload = f": {text}\n\n".encode()
        self._write(f"{len(payload):x}\r\n".encode() + payload + b"\r\n")

    def delta(self, finish_reason: str | None = None, **delta: Any) -> None:
        """Send one chunk of a completion."""
        choice = {"index": 0, "delta": delta, "finish_reason": finish_reason}
        self.event(
            {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [choice]}
        )

    def text(self, text: str) -> None:
        """Send a token."""
        self.delta(content=text)

    def usage(self, input_tokens: int, output_tokens: int) -> None:
        """Send the chunk that counts tokens and has no choices."""
        usage = {
            "prompt_tokens": input_tokens,
            "completion_tokens": output_tokens,
            "total_tokens": input_tokens + output_tokens,
        }
        chunk = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": []}
        self.event({**chunk, "usage": usage})

    def finish(self, reason: str = "stop") -> None:
        """Send the finish reason and end the stream."""
        self.delta(finish_reason=reason)
        self.done()

    def done(self) -> None:
        """End the stream properly; the connection can be used again."""
        self.event("[DONE]")
        self.end()

    def end(self) -> None:
        """End the body."""
        self._write(b"0\r\n\r\n")

    def answer(self, *texts: str) -> None:
        """Send a whole completion."""
        self.open()
        for text in texts:
            self.text(text)
        self.finish()

    def reply(self, status: int, body: Any, **headers: str) -> None:
        """Answer with JSON instead of a stream; `retry_after` becomes a header."""
        payload = json.dumps(body).encode()
        lines = [
            f"HTTP/1.1 {status} Status",
            "Content-Type: application/json",
            f"Content-Length: {len(payload)}",
        ]
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
        self._write("\r\n".join(lines).encode() + b"\r\n\r\n" + payload)

    def begin(self, length: int) -> None:
        """Send the headers of a JSON answer whose body is withheld."""
        self._write(
            f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n".encode()
        )

    def cut(self) -> None:
        """Drop the connection where it stands."""
        self._wire.drop()

    def cut_after(self, size: int) -> None:
        """Drop the connection when `size` more bytes have been written."""
        self._wire.allowance = size

    @property
    def open_now(self) -> bool:
        """Whether the peer still holds the connection."""
        return not self._wire.gone.done()

    async def gone(self) -> End:
        """Wait for the connection's end: `eof` or `reset` by the peer, our `cut`."""
        return await asyncio.wait_for(asyncio.shield(self._wire.gone), WAIT_S)

    def _write(self, data: bytes) -> None:
        self._wire.write(data)


Script = Callable[[Call], None]


class Upstream:
    """The server. Without a script, the test answers each call.

    Attributes:
        url: The base URL for clients.
        calls: Every request so far.
        connections: How many connections were accepted so far.
    """

    def __init__(self, script: Script | None = None) -> None:
        self.url = ""
        self.calls: list[Call] = []
        self.connections = 0
        self._script = script
        self._waiting: asyncio.Queue[Call] = asyncio.Queue()
        self._wires: list[_Wire] = []
        self._server: asyncio.AbstractServer | None = None

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()
        server = await loop.create_server(lambda: _Wire(self), "127.0.0.1", 0)
        self._server = server
        self.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        assert self._server is not None
        self._server.close()
        for wire in self._wires:
            wire.drop()
            await wire.gone

    @property
    def open_connections(self) -> int:
        """How many connections are held by the peer at present."""
        return sum(not wire.gone.done() for wire in self._wires)

    async def call(self) -> Call:
        """Wait for the next request that this has not returned yet."""
        return await asyncio.wait_for(self._waiting.get(), WAIT_S)

    def forget(self) -> None:
        """Forget past requests and closed connections, for tests that count bytes."""
        self.calls.clear()
        self._waiting = asyncio.Queue()
        self._wires = [wire for wire in self._wires if not wire.gone.done()]

    def accepted(self, wire: _Wire) -> int:
        """Note a connection; returns its number."""
        self._wires.append(wire)
        self.connections += 1
        return self.connections - 1

    def received(self, call: Call) -> None:
        """Note a request."""
        self.calls.append(call)
        self._waiting.put_nowait(call)
        if self._script is not None:
            self._script(call)


class _Wire(asyncio.Protocol):
    def __init__(self, upstream: Upstream) -> None:
        self._upstream = upstream
        self._buffer = b""
        self._end: End = "eof"
        self._transport: asyncio.Transport | None = None
        self.allowance: int | None = None
        self.number = -1
        self.gone: asyncio.Future[End] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self.number = self._upstream.accepted(self)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        while (parsed := _parse(self._buffer)) is not None:
            path, headers, payload, self._buffer = parsed
            self._upstream.received(Call(self, path, headers, json.loads(payload) if payload else None))

    def connection_lost(self, exc: Exception | None) -> None:
        if exc is not None and self._end == "eof":
            self._end = "reset"
        if not self.gone.done():
            self.gone.set_result(self._end)

    def write(self, data: bytes) -> None:
        assert self._transport is not None
        if self.allowance is not None:
            data = data[: self.allowance]
            self.allowance -= len(data)
        self._transport.write(data)
        if self.allowance == 0:
            self._end = "cut"
            self._transport.close()

    def drop(self) -> None:
        assert self._transport is not None
        if not self.gone.done():
            self._end = "cut"
            self._transport.abort()


def _parse(buffer: bytes) -> tuple[str, dict[str, str], bytes, bytes] | None:
    """Return path, headers, body and rest; None while the request is partial."""
    head, separator, rest = buffer.partition(b"\r\n\r\n")
    if not separator:
        return None
    first, *lines = head.decode("latin-1").split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    length = int(headers.get("content-length", "0"))
    if len(rest) < length:
        return None
    return first.split(" ")[1], headers, rest[:length], rest[length:]
