"""ASGI side of a WebSocket: scope, `receive` and `send` of an application.

Messages wait in a bounded queue until the application takes them; beyond the bound the peer is not
read, so that TCP slows it down. `send` waits while the transport's buffer is above its mark.

A connection that is lost is reported to every `receive` that follows, with code 1006 when no close frame
came; `send` raises `ClientDisconnected`, an `OSError`, as the specification asks for.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from enum import Enum, auto
from typing import Any, Protocol

from starlette.types import ASGIApp, Message, Scope
from websockets.frames import CloseCode
from websockets.http11 import Response

from bargein_protocol.errors import INVALID_DATA

from .handshake import RawHeaders, complete, denial

# The name under which uvicorn logs, so that its configuration covers this as well.
log = logging.getLogger("uvicorn.error")

MAX_QUEUED_BYTES = 64 * 1024
"""Bytes of messages that may wait for the application; then the peer is not read."""


class ClientDisconnected(OSError):
    """The peer is gone, and a message cannot be sent to it."""


class Socket(Protocol):
    """WebSocket connection below an application."""

    def accept(self, response: Response) -> None:
        """Send the response that ends the opening handshake."""
        ...

    def deny(self, response: Response) -> None:
        """Send a response in place of a handshake and close the connection."""
        ...

    def send(self, data: bytes, text: bool) -> None:
        """Send a message."""
        ...

    def close(self, code: int, reason: str) -> None:
        """Start the closing handshake, unless it was started."""
        ...

    def fail(self, code: int, reason: str) -> None:
        """Close without waiting for the peer's answer."""
        ...

    def read_on(self) -> None:
        """Read the peer again, because the session is no longer full."""
        ...


class _State(Enum):
    CONNECTING = auto()
    """The handshake has no answer."""
    DENYING = auto()
    """A part of an HTTP response was given."""
    OPEN = auto()
    CLOSED = auto()
    """The application closed or denied; nothing more may be sent."""
    DETACHED = auto()
    """A connection has taken the socket over."""


class AsgiSession:
    """Run of an application for one WebSocket.

    Args:
        app: The application.
        scope: Its connection scope.
        response: The response that accepts the handshake.
        default_headers: Headers that the server adds to it.
        socket: The connection.
        max_queue: Messages that may wait for the application.
    """

    def __init__(
        self, app: ASGIApp, scope: Scope, response: Response, default_headers: RawHeaders,
        socket: Socket, max_queue: int,
    ) -> None:  # fmt: skip
        self._app = app
        self._scope = scope
        self._response = response
        self._default_headers = default_headers
        self._socket = socket
        self._max_queue = max_queue
        self._state = _State.CONNECTING
        self._denial: tuple[int, RawHeaders, list[bytes]] = (0, (), [])
        self._messages: deque[Message] = deque([{"type": "websocket.connect"}])
        self._bytes = 0
        self._full = False
        self._disconnect: Message | None = None
        self._arrived = asyncio.Event()
        self._writable = asyncio.Event()
        self._writable.set()

    @property
    def connecting(self) -> bool:
        """Whether the handshake has no answer yet."""
        return self._state in (_State.CONNECTING, _State.DENYING)

    @property
    def full(self) -> bool:
        """Whether the peer must not be read: too much waits for the application."""
        return self._full

    # --- the socket's side -----------------------------------------------------------------------

    def receive_message(self, data: bytes, text: bool) -> None:
        """Queue a message for the application."""
        if self._disconnect is not None:
            return
        message: Message = {"type": "websocket.receive", "bytes": data}
        if text:
            try:
                message = {"type": "websocket.receive", "text": data.decode()}
            except UnicodeDecodeError:
                self._socket.fail(INVALID_DATA.number, INVALID_DATA.reason)
                return
        self._messages.append(message)
        self._bytes += len(data)
        self._full = len(self._messages) >= self._max_queue or self._bytes >= MAX_QUEUED_BYTES
        self._arrived.set()

    def disconnect(self, code: int, reason: str) -> None:
        """Record the end of the connection; the first one counts."""
        if self._disconnect is None:
            self._disconnect = {"type": "websocket.disconnect", "code": code, "reason": reason}
            self._arrived.set()
            self._writable.set()

    def pause_writing(self) -> None:
        """Let `send` wait."""
        if self._disconnect is None:
            self._writable.clear()

    def resume_writing(self) -> None:
        """Let `send` continue."""
        self._writable.set()

    def detach(self) -> list[tuple[bytes, bool]]:
        """Detach the application; return the messages that it did not take."""
        self._state = _State.DETACHED
        waiting = [message for message in self._messages if message["type"] == "websocket.receive"]
        self._messages.clear()
        return [
            (message["text"].encode(), True) if "text" in message else (message["bytes"], False)
            for message in waiting
        ]

    async def run(self) -> None:
        """Run the application to its end, then end a connection that it left open."""
        failed = True
        try:
            result: Any = await self._app(self._scope, self.receive, self.send)  # type: ignore[func-returns-value]
            failed = False
            if result is not None:
                log.error("ASGI callable should return None, but returned '%s'.", result)
        except ClientDisconnected:
            failed = False
        except (Exception, SystemExit, KeyboardInterrupt):
            # The boundary to the application: its failure ends this connection and nothing else.
            log.exception("Exception in ASGI application")
        finally:
            self._finish(failed)

    def _finish(self, failed: bool) -> None:
        if self.connecting:
            if self._disconnect is None:
                if not failed:
                    log.error("ASGI callable returned without completing handshake.")
                self._socket.deny(denial(500, (), b"Internal Server Error"))
        elif self._state is _State.OPEN or failed:
            self._socket.close(CloseCode.INTERNAL_ERROR if failed else CloseCode.NORMAL_CLOSURE, "")
        if self._state is not _State.DETACHED:
            self._state = _State.CLOSED

    # --- the application's side ------------------------------------------------------------------

    async def receive(self) -> Message:
        """Return the next message; a disconnect is returned by every further call."""
        while not self._messages:
            if self._disconnect is not None:
                return self._disconnect
            self._arrived.clear()
            await self._arrived.wait()
        message = self._messages.popleft()
        if not self._messages:
            self._bytes = 0
            if self._full:
                self._full = False
                self._socket.read_on()
        return message

    async def send(self, message: Message) -> None:
        """Send a message as soon as the transport's buffer is below its mark.

        Cancelling it sends nothing.

        Raises:
            ClientDisconnected: The peer is gone.
            RuntimeError: The message is not allowed in this state.
        """
        await self._writable.wait()
        state, kind = self._state, message["type"]
        if self._disconnect is not None and state is not _State.CLOSED:
            raise ClientDisconnected
        if state is _State.CONNECTING and kind == "websocket.accept":
            self._accept(message)
        elif state is _State.CONNECTING and kind == "websocket.close":
            self._log(403)
            self._deny(denial(403, (), b""))
        elif state is _State.CONNECTING and kind == "websocket.http.response.start":
            if not 200 <= message["status"] < 600:
                raise RuntimeError(f"expected an HTTP status from 200 to 599, got {message['status']}")
            self._denial = (message["status"], message.get("headers", ()), [])
            self._state = _State.DENYING
        elif state is _State.DENYING and kind == "websocket.http.response.body":
            status, headers, parts = self._denial
            parts.append(message.get("body", b""))
            if not message.get("more_body", False):
                self._log(status)
                self._deny(denial(status, headers, b"".join(parts)))
        elif state is _State.OPEN and kind == "websocket.send":
            text, data = message.get("text"), message.get("bytes")
            if data is not None:
                self._socket.send(data, False)
            elif text is not None:
                self._socket.send(text.encode(), True)
        elif state is _State.OPEN and kind == "websocket.close":
            code, reason = message.get("code", CloseCode.NORMAL_CLOSURE), message.get("reason") or ""
            self._socket.close(code, reason)
            self._state = _State.CLOSED
            self.disconnect(code, reason)
        else:
            raise RuntimeError(f"ASGI message '{kind}' is not allowed while {state.name.lower()}")

    def _accept(self, message: Message) -> None:
        self._log("[accepted]")
        complete(
            self._response, message.get("subprotocol"), self._default_headers, message.get("headers", ())
        )
        self._state = _State.OPEN
        self._socket.accept(self._response)

    def _deny(self, response: Response) -> None:
        self._state = _State.CLOSED
        self.disconnect(CloseCode.ABNORMAL_CLOSURE, "")
        self._socket.deny(response)

    def _log(self, outcome: object) -> None:
        client = self._scope["client"]
        address = f"{client[0]}:{client[1]}" if client else ""
        log.info('%s - "WebSocket %s" %s', address, self._scope["path"], outcome)
