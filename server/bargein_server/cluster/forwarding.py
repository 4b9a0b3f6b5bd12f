"""Forwarding: a request over HTTP that another process answers.

The asked process has checked rates and credentials, and read the body. The owner runs its own application
with the same scope and sends the response back, part by part; a client that does not read slows it down.
"""

from __future__ import annotations

import asyncio
import socket
from contextlib import suppress
from typing import Any

import msgspec
from msgspec import Struct
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from bargein_protocol import SessionId

from .channel import Channel
from .letters import BadLetter, Client, Forward, Kind, encoded, letter

SEND_BYTES = 8 * 1024
"""Buffer of the kernel for a response: an interrupt cannot purge what is in it."""

FORWARDED = "bargein.forwarded"
"""Key in `scope["extensions"]` of the client, whom the asked process has authenticated."""

Headers = list[tuple[bytes, bytes]]


class ResponseStart(Struct, frozen=True, array_like=True):
    """Start of a response.

    Args:
        status: The HTTP status.
        headers: The headers.
    """

    status: int
    headers: Headers


_start = msgspec.msgpack.Decoder(ResponseStart)


def forward_of(scope: Scope, client: Client, session_id: SessionId, body: bytes) -> Forward:
    """Return the request for a scope.

    Args:
        scope: The scope, as the endpoint got it.
        client: The client.
        session_id: The session that the request is about.
        body: The whole body.
    """
    return Forward(
        session_id, client, scope.get("method", "GET"), scope["scheme"], scope["path"],
        scope.get("raw_path") or b"", scope["query_string"], scope.get("root_path", ""),
        list(scope["headers"]), _address(scope.get("client")), _address(scope.get("server")), body,
        scope["type"] == "websocket",
    )  # fmt: skip


def scope_of(request: Forward, spec_version: str) -> Scope:
    """Return the scope of a forwarded request, without its kind."""
    return {
        "asgi": {"version": "3.0", "spec_version": spec_version},
        "http_version": "1.1",
        "scheme": request.scheme,
        "path": request.path,
        "raw_path": request.raw_path,
        "query_string": request.query,
        "root_path": request.root_path,
        "headers": request.headers,
        "client": request.peer,
        "server": request.server,
        "state": {},
    }


def _address(found: Any) -> tuple[str, int | None] | None:
    return (str(found[0]), found[1]) if found else None


async def relay_response(channel: Channel, receive: Receive, send: Send) -> None:
    """Send the client a channel's response; end both when one is gone.

    Raises:
        OSError: The other process is gone before the response was complete.
    """
    answering = asyncio.create_task(_relay(channel, send))
    leaving = asyncio.create_task(_until_left(receive))
    try:
        await asyncio.wait({answering, leaving}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        leaving.cancel()
        if not answering.done():
            answering.cancel()
        await asyncio.wait({answering, leaving})
    if not answering.cancelled():
        answering.result()


async def _relay(channel: Channel, send: Send) -> None:
    while True:
        kind, payload, _ = await channel.receive()
        if kind == Kind.START:
            try:
                start = _start.decode(payload)
            except msgspec.MsgspecError:
                raise BadLetter("expected the start of a response") from None
            await send({"type": "http.response.start", "status": start.status, "headers": start.headers})
        elif kind == Kind.BODY:
            await send({"type": "http.response.body", "body": payload, "more_body": bool(payload)})
            if not payload:
                return
        else:
            raise BadLetter(f"expected a part of a response, got kind {kind}")


async def _until_left(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


class ForwardedRequest:
    """A request that another process has forwarded, as an ASGI connection.

    Args:
        channel: The channel to that process, which has had its answer.
        request: The request.
    """

    def __init__(self, channel: Channel, request: Forward) -> None:
        self._channel = channel
        self._request = request
        self._read = False
        self._left = asyncio.get_running_loop().create_task(self._until_left())
        with suppress(OSError):
            channel.sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BYTES)

    @property
    def scope(self) -> Scope:
        """The scope, which names the client."""
        return {
            **scope_of(self._request, "2.3"),
            "type": "http",
            "method": self._request.method,
            "extensions": {FORWARDED: self._request.client},
        }

    async def run(self, app: ASGIApp) -> None:
        """Let an application answer."""
        try:
            await app(self.scope, self.receive, self.send)
        finally:
            self._left.cancel()
            await asyncio.wait([self._left])

    async def receive(self) -> Message:
        """Return the body, and then the end of the client."""
        if not self._read:
            self._read = True
            return {"type": "http.request", "body": self._request.body, "more_body": False}
        await asyncio.wait([self._left])
        return {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        """Send a part of the response.

        Raises:
            OSError: The other process is gone, or its client.
        """
        if message["type"] == "http.response.start":
            headers = [(bytes(name), bytes(value)) for name, value in message.get("headers", ())]
            await self._channel.send(encoded(Kind.START, ResponseStart(message["status"], headers)))
        elif message["type"] == "http.response.body":
            body = message.get("body", b"")
            parts = letter(Kind.BODY, body) if body else b""
            if not message.get("more_body", False):
                parts += letter(Kind.BODY)
            await self._channel.send(parts)

    async def _until_left(self) -> None:
        with suppress(OSError, BadLetter):
            while True:
                await self._channel.receive()
