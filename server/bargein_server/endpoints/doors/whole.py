"""Whole responses: a turn is translated before the response begins."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from bargein_protocol import Code, InputId, Seq

from ...hosting.host import SessionHost
from ...transport.turn_stream import Translator, TurnStream, until_left
from ..call import Call


class _Ended:
    """A `Wire` that reports its end and drops the frames.

    Attributes:
        ended: Done when it was closed.
    """

    writable = True

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.ended = loop.create_future()

    def write(self, frames: Sequence[bytes]) -> None:
        """Drop the pieces: the translator has all that the response needs."""

    def close(self, code: Code) -> None:
        """Report the end."""
        if not self.ended.done():
            self.ended.set_result(None)

    def abort(self) -> None:
        """Report the end."""
        if not self.ended.done():
            self.ended.set_result(None)


async def collect(
    call: Call, host: SessionHost, input_id: InputId, after: Seq, translator: Translator
) -> bool:
    """Read a turn until its translation is complete.

    A client that leaves interrupts it.

    Returns:
        False when the client has left.
    """
    call.release_body()
    wire = _Ended(call.sessions.loop)
    turn_stream = TurnStream(wire, translator, call.sessions, call.caller, host, input_id, interrupts=True)
    turn_stream.start(after)
    leaving = asyncio.ensure_future(until_left(call.receive))
    try:
        await asyncio.wait([wire.ended, leaving], return_when=asyncio.FIRST_COMPLETED)
        return wire.ended.done()
    finally:
        leaving.cancel()
        turn_stream.disconnected()
