"""Forwarding: a WebSocket that another process serves.

The asked process has authenticated the client. The owner runs its own application with the same scope: its
answer to the handshake comes back first, then messages go both ways until either side closes. A client that
does not read slows the owner down.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress

import msgspec
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from bargein_protocol.errors import RESTART

from .channel import Channel
from .forwarding import FORWARDED, Headers, ResponseStart, scope_of
from .letters import BadLetter, Forward, Kind, content_of, encoded, letter

SWITCHING = 101
"""HTTP status of an accepted handshake."""

FORWARDED_BODY = "bargein.forwarded_body"
"""Key in `scope["extensions"]` of what came with the request, which is no part of a WebSocket's handshake."""

DENIAL = "websocket.http.response"
"""ASGI extension of servers that refuse a handshake with a whole response."""

_PROTOCOL = b"sec-websocket-protocol"

_start = msgspec.msgpack.Decoder(ResponseStart)
_close = msgspec.msgpack.Decoder(tuple[int, str])


# --- the process that was asked ------------------------------------------------------------------


async def relay_websocket(channel: Channel, scope: Scope, receive: Receive, send: Send) -> None:
    """Serve a client through a channel, from its handshake on.

    Args:
        channel: The channel to the owner, which has answered `mine`.
        scope: The client's handshake, of which nothing was received yet.
        receive: Returns the client's messages (ASGI).
        send: Sends messages to the client (ASGI).

    Raises:
        OSError: The owner is gone before it answered the handshake.
        BadLetter: The owner is of another version.
    """
    await receive()  # websocket.connect
    kind, payload, _ = await channel.receive()
    start = content_of(_start, kind, payload, Kind.START)
    if start.status != SWITCHING:
        await _deny(channel, start, scope, send)
        return
    subprotocol = next((value.decode("latin-1") for name, value in start.headers if name == _PROTOCOL), None)
    headers = [(name, value) for name, value in start.headers if name != _PROTOCOL]
    await send({"type": "websocket.accept", "subprotocol": subprotocol, "headers": headers})
    down = asyncio.create_task(_relay_down(channel, send))
    up = asyncio.create_task(_relay_up(channel, receive))
    try:
        await asyncio.wait({down, up}, return_when=asyncio.FIRST_COMPLETED)
        if not up.done() and not down.cancelled() and down.exception() is not None:
            with suppress(OSError, RuntimeError):
                await send({"type": "websocket.close", "code": RESTART.number, "reason": RESTART.reason})
    finally:
        for task in (down, up):
            task.cancel()
        await asyncio.wait({down, up})


async def _deny(channel: Channel, start: ResponseStart, scope: Scope, send: Send) -> None:
    whole = DENIAL in scope.get("extensions", {})
    if whole:
        await send({"type": f"{DENIAL}.start", "status": start.status, "headers": start.headers})
    else:
        await send({"type": "websocket.close"})
    while True:
        kind, body, _ = await channel.receive()
        if kind != Kind.BODY:
            raise BadLetter(f"expected a part of a response, got kind {kind}")
        if whole:
            await send({"type": f"{DENIAL}.body", "body": body, "more_body": bool(body)})
        if not body:
            return


async def _relay_down(channel: Channel, send: Send) -> None:
    """Send the owner's messages until it closes the connection."""
    while True:
        kind, payload, _ = await channel.receive()
        if kind == Kind.TEXT:
            await send({"type": "websocket.send", "text": payload.decode()})
        elif kind == Kind.BINARY:
            await send({"type": "websocket.send", "bytes": payload})
        else:
            code, reason = content_of(_close, kind, payload, Kind.CLOSE)
            await send({"type": "websocket.close", "code": code, "reason": reason})
            return


async def _relay_up(channel: Channel, receive: Receive) -> None:
    """Pass the client's messages on until it is gone."""
    while True:
        message = await receive()
        if message["type"] == "websocket.disconnect":
            gone = (message.get("code") or 1006, message.get("reason") or "")
            await channel.send(encoded(Kind.CLOSE, gone))
            return
        await channel.send(_message(message))


# --- the owner -----------------------------------------------------------------------------------


class ForwardedWebSocket:
    """A WebSocket that another process has forwarded, as an ASGI connection.

    Args:
        channel: The channel to that process, which has had its answer.
        request: The request.
    """

    def __init__(self, channel: Channel, request: Forward) -> None:
        self._channel = channel
        self._request = request
        self._connected = False
        self._accepted = False

    @property
    def scope(self) -> Scope:
        """The scope, which names the client."""
        request = self._request
        offered = b",".join(value for name, value in request.headers if name == _PROTOCOL).decode("latin-1")
        return {
            **scope_of(request, "2.4"),
            "type": "websocket",
            "subprotocols": [item.strip() for item in offered.split(",") if item.strip()],
            "extensions": {FORWARDED: request.client, FORWARDED_BODY: request.body, DENIAL: {}},
        }

    async def run(self, app: ASGIApp) -> None:
        """Let an application serve it."""
        await app(self.scope, self.receive, self.send)

    async def receive(self) -> Message:
        """Return the next message of the client, in the end its close."""
        if not self._connected:
            self._connected = True
            return {"type": "websocket.connect"}
        try:
            kind, payload, _ = await self._channel.receive()
        except OSError:
            return {"type": "websocket.disconnect", "code": 1006, "reason": ""}
        if kind == Kind.TEXT:
            return {"type": "websocket.receive", "text": payload.decode()}
        if kind == Kind.BINARY:
            return {"type": "websocket.receive", "bytes": payload}
        code, reason = content_of(_close, kind, payload, Kind.CLOSE)
        return {"type": "websocket.disconnect", "code": code, "reason": reason}

    async def send(self, message: Message) -> None:
        """Send the answer to the handshake, a message, or the close.

        Raises:
            OSError: The other process is gone.
        """
        kind = message["type"]
        if kind == "websocket.send":
            await self._channel.send(_message(message))
        elif kind == "websocket.accept":
            self._accepted = True
            headers: Headers = [(bytes(name), bytes(value)) for name, value in message.get("headers") or ()]
            if message.get("subprotocol"):
                headers.append((_PROTOCOL, message["subprotocol"].encode("latin-1")))
            await self._channel.send(encoded(Kind.START, ResponseStart(SWITCHING, headers)))
        elif kind == "websocket.close" and self._accepted:
            closed = (message.get("code") or 1000, message.get("reason") or "")
            await self._channel.send(encoded(Kind.CLOSE, closed))
        elif kind == "websocket.close":
            await self._channel.send(encoded(Kind.START, ResponseStart(403, [])) + letter(Kind.BODY))
        elif kind == f"{DENIAL}.start":
            headers = [(bytes(name), bytes(value)) for name, value in message.get("headers") or ()]
            await self._channel.send(encoded(Kind.START, ResponseStart(message["status"], headers)))
        elif kind == f"{DENIAL}.body":
            body = message.get("body", b"")
            parts = letter(Kind.BODY, body) if body else b""
            await self._channel.send(parts if message.get("more_body", False) else parts + letter(Kind.BODY))


def _message(message: Message) -> bytes:
    text = message.get("text")
    return letter(Kind.BINARY, message["bytes"]) if text is None else letter(Kind.TEXT, text.encode())
