"""One client of either server, which notes when frames come and no more."""

from __future__ import annotations

import asyncio
import json
from time import perf_counter

from loadgen.websocket import Line, connect

from .processes import FLOOR, LEAST, Broken, Served

_TOKEN, _END = b'{"type":"text.delta"', b'{"type":"turn.ended"'
_WRONG = b'{"type":"error"', b'{"type":"input.rejected"', b'{"type":"goaway"'
_HEAD = 200
"""Bytes of `turn.ended` in which its status is, before what was heard."""


class Client:
    """Starts turns and stops them.

    Args:
        server: Whose client.

    Attributes:
        tokens: How many came.
        first_token_at: When the first one of the last turn came.
        lost: Why it is of no use any more, None while it is.
    """

    def __init__(self, server: Served) -> None:
        self.tokens = 0
        self.first_token_at = 0.0
        self.lost: str | None = None
        self._floor = server.name in (FLOOR, LEAST)
        self._url = server.url
        self._turn = 0
        self._in_turn = False
        self._before = 0  # tokens that came before this turn
        self._ended_at = 0.0
        self._token_at = 0.0
        self._gaps: list[float] | None = None
        self._first: asyncio.Future[None] | None = None
        self._end: asyncio.Future[None] | None = None
        self._line: Line | None = None
        self._closing = False
        self._over: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def connect(self) -> None:
        """Open the line."""
        subprotocol = "" if self._floor else "bargein.v1.json"
        self._line = await connect(self._url, {}, subprotocol, self._take, self._gone)
        if not self._floor:
            self.say({"type": "session.open"})

    async def close(self) -> None:
        """End the session, and wait until the server closes the connection."""
        self._closing = True
        if self._line is None or self.lost is not None:
            return
        if self._floor:
            self._line.close()
        else:
            self.say({"type": "session.close"})
        await self._over

    def _take(self, frame: bytes, now: float) -> None:
        if frame.startswith(_TOKEN):
            self.tokens += 1
            if self._gaps is not None:
                self._gaps.append(now - self._token_at)
                self._token_at = now
            if self._first is not None:
                self.first_token_at = now
                self._first.set_result(None)
                self._first = None
        elif frame.startswith(_END):
            if b'"status":"failed"' in frame[:_HEAD]:
                self._lose(frame[:_HEAD].decode("utf-8", "replace"))
            elif self._end is not None:
                self._ended_at = now
                self._end.set_result(None)
                self._end = None
        elif frame.startswith(_WRONG) and not self._closing:
            self._lose(frame[:_HEAD].decode("utf-8", "replace"))

    def _gone(self, code: int) -> None:
        if not self._over.done():
            self._over.set_result(None)
        if not self._closing:
            self._lose(f"a line was lost with {code}")

    def _lose(self, why: str) -> None:
        self.lost = self.lost or why
        for waited in (self._first, self._end):
            if waited is not None and not waited.done():
                waited.set_exception(Broken(why))
        self._first = self._end = None

    async def turn(self, text: str) -> None:
        """Ask for a turn and wait for its end.

        Raises:
            Broken: There is none, as below.
        """
        ended = self._await_end()
        self._send(self._asking(text))
        await ended

    async def first_token(self, text: str) -> float:
        """Ask for a turn; returns the seconds to its first token."""
        self._first = first = asyncio.get_running_loop().create_future()
        asking = self._asking(text)
        asked = perf_counter()
        self._send(asking)
        await first
        self._in_turn = True
        return self.first_token_at - asked

    async def stop(self) -> float:
        """Interrupt the turn; returns the seconds to its end."""
        ended = self._await_end()
        stopping = (
            f"stop {self.tokens - self._before}".encode()
            if self._floor
            else _event("interrupt", f"x{self._turn}", input_id=f"i{self._turn}")
        )
        self._in_turn = False
        asked = perf_counter()
        self._send(stopping)
        await ended
        return self._ended_at - asked

    @property
    def in_turn(self) -> bool:
        """Whether a turn runs that has produced output."""
        return self._in_turn

    def watch(self, gaps: list[float] | None) -> None:
        """Add the seconds between tokens to these from now on; None ends that."""
        self._gaps, self._token_at = gaps, perf_counter()

    def _await_end(self) -> asyncio.Future[None]:
        self._end = ended = asyncio.get_running_loop().create_future()
        return ended

    def _asking(self, text: str) -> bytes:
        self._turn += 1
        self._before = self.tokens
        return text.encode() if self._floor else _event("input.text", f"i{self._turn}", text=text)

    def say(self, event: dict[str, str]) -> None:
        """Send an event.

        Raises:
            Broken: There is no line.
        """
        self._send(json.dumps(event).encode())

    def _send(self, frame: bytes) -> None:
        if self._line is None or self.lost is not None:
            raise Broken(self.lost or "not connected")
        self._line.send(frame, text=True)


def _event(kind: str, event_id: str, **fields: str) -> bytes:
    """Return an event that is encoded before its time is taken."""
    return json.dumps({"type": kind, "id": event_id, **fields}).encode()
