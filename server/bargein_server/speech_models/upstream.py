"""Connection to a Realtime server, for one conversation. Internal."""

from __future__ import annotations

import asyncio
import base64
import secrets
from collections.abc import AsyncIterator, Sequence
from typing import Any

from msgspec import DecodeError, json
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidURI

RATE = 24_000
"""Rate of the PCM16 in both directions."""
CONNECT_S = 10.0
SILENCE_S = 20.0
"""Time without an event in the middle of a response after which the upstream has failed."""
SEND_S = 0.5
"""Time that a cancel has to be sent; then the connection is dropped."""
MAX_EVENT_BYTES = 4 * 1024 * 1024
MAX_WAITING = 4096
"""Events that may wait for the agent, which takes them as they are played."""
APPEND_BYTES = 2 * RATE // 5
"""Sound of one `append`: 200 ms."""

CUT = "cut_"
"""Beginning of the ids of events that cut a response."""

JsonMap = dict[str, Any]


class UpstreamFailed(Exception):  # named like the package's errors, without a suffix
    """The upstream cannot be reached, has failed, or has closed."""


class Upstream:
    """Connection of one conversation.

    Args:
        socket: The socket.

    Attributes:
        asked: Texts of the user's messages that the upstream has, oldest first.
        lost: Whether the connection cannot be used any more.
    """

    def __init__(self, socket: ClientConnection) -> None:
        self.asked: list[str] = []
        self.lost = False
        self._socket = socket
        self._responding = False
        self._events: asyncio.Queue[JsonMap | None] = asyncio.Queue(MAX_WAITING)
        self._reading = asyncio.get_running_loop().create_task(self._read(), name="read realtime upstream")

    @classmethod
    async def open(cls, url: str, api_key: str, session: JsonMap) -> Upstream:
        """Connect, and configure the session.

        Raises:
            UpstreamFailed: It cannot be reached, or it refused.
        """
        headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
        try:
            async with asyncio.timeout(CONNECT_S):
                socket = await connect(
                    url, additional_headers=headers, max_size=MAX_EVENT_BYTES, compression=None
                )
        except (OSError, TimeoutError, InvalidHandshake, InvalidURI) as error:
            raise UpstreamFailed(f"the model cannot be reached: {type(error).__name__}") from error
        upstream = cls(socket)
        try:
            await upstream.send({"type": "session.update", "session": session})
        except BaseException:
            upstream.abort()
            raise
        return upstream

    async def send(self, *events: JsonMap) -> None:
        """Send events.

        Raises:
            UpstreamFailed: The connection is lost.
        """
        try:
            for event in events:
                await self._socket.send(json.encode(event).decode())
        except ConnectionClosed as error:
            self.lost = True
            raise UpstreamFailed("the model closed the connection") from error

    async def add_text(self, role: str, text: str) -> None:
        """Add a message to the conversation."""
        kind = "output_text" if role == "assistant" else "input_text"
        item = {"type": "message", "role": role, "content": [{"type": kind, "text": text}]}
        await self.send({"type": "conversation.item.create", "item": item})
        if role == "user":
            self.asked.append(text)

    async def add_sound(self, pieces: Sequence[bytes], text: str) -> None:
        """Add speech to the conversation: PCM16 at `RATE`, and its text."""
        for piece in pieces:
            audio = base64.b64encode(piece).decode()
            await self.send({"type": "input_audio_buffer.append", "audio": audio})
        await self.send({"type": "input_audio_buffer.commit"})
        self.asked.append(text)

    async def respond(self, **options: Any) -> AsyncIterator[JsonMap]:
        """Ask for a response and yield its events up to `response.done`.

        Events of responses that were cancelled before are left out.

        Raises:
            UpstreamFailed: The upstream failed, fell silent, or refused.
        """
        metadata = {"bargein": secrets.token_hex(8)}
        self._responding = True
        await self.send({"type": "response.create", "response": {**options, "metadata": metadata}})
        response_id: object = None
        while True:
            event = await self._next()
            kind, response = event.get("type"), event.get("response")
            if kind == "error" and not _is_of_cut(event):
                raise UpstreamFailed(f"the model refused: {_code(event)}")
            if kind == "response.created" and isinstance(response, dict):
                # A server that echoes no metadata runs one response at a time.
                if (response.get("metadata") or metadata) == metadata:
                    response_id = response.get("id")
            elif response_id is None:
                continue
            elif kind == "response.done" and isinstance(response, dict) and response.get("id") == response_id:
                yield event
                return
            elif event.get("response_id") == response_id:
                yield event

    async def _next(self) -> JsonMap:
        try:
            async with asyncio.timeout(SILENCE_S):
                event = await self._events.get()
        except TimeoutError:
            self.lost = True
            raise UpstreamFailed(f"the model sent nothing for {SILENCE_S:g} s") from None
        if event is None:
            raise UpstreamFailed("the model closed the connection")
        return event

    async def cut(self, item_id: str | None, heard_ms: int) -> None:
        """Cancel the response and truncate it to the heard sound; never raises.

        A response that is complete at the upstream, although it still sounds, is only truncated.

        Args:
            item_id: The message that sounded; None without one.
            heard_ms: Its sound that was heard, in milliseconds.
        """
        events: list[JsonMap] = []
        if self._responding:
            events.append({"type": "response.cancel", "event_id": CUT + secrets.token_hex(8)})
        if item_id is not None:
            events.append(
                {
                    "type": "conversation.item.truncate",
                    "event_id": CUT + secrets.token_hex(8),
                    "item_id": item_id,
                    "content_index": 0,
                    "audio_end_ms": heard_ms,
                }
            )
        try:
            async with asyncio.timeout(SEND_S):
                await self.send(*events)
        except (UpstreamFailed, TimeoutError, OSError):
            self.abort()

    def forget(self) -> None:
        """Drop waiting events of earlier responses, but not the connection's end."""
        if None in self._drain():
            self._events.put_nowait(None)

    def _drain(self) -> list[JsonMap | None]:
        waiting = []
        while not self._events.empty():
            waiting.append(self._events.get_nowait())
        return waiting

    async def close(self) -> None:
        """Close the connection."""
        self.lost = True
        self._reading.cancel()
        await self._socket.close()

    def abort(self) -> None:
        """Drop the connection at once."""
        self.lost = True
        self._reading.cancel()
        self._socket.transport.abort()

    async def _read(self) -> None:
        try:
            async for text in self._socket:
                try:
                    event = json.decode(text, type=dict[str, Any])
                except (DecodeError, UnicodeError, RecursionError):
                    break
                if event.get("type") == "response.done":
                    self._responding = False
                await self._events.put(event)
        except (ConnectionClosed, OSError):
            pass
        finally:
            self.lost = True
            if self._events.full():
                self._drain()
            self._events.put_nowait(None)


def _is_of_cut(event: JsonMap) -> bool:
    """Return whether an error answers a cancel or truncation that is too late."""
    error = event.get("error")
    if not isinstance(error, dict):
        return False
    late = error.get("code") == "response_cancel_not_active"
    return late or str(error.get("event_id")).startswith(CUT)


def _code(event: JsonMap) -> str:
    """Return the code of an error, which has no text of users."""
    error = event.get("error")
    code = error.get("code") or error.get("type") if isinstance(error, dict) else None
    return str(code)[:80]
