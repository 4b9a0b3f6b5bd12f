"""Connection of a phone call: frames of Twilio to and from a session."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

import msgspec

from bargein_protocol import (
    Code,
    ServerEvent,
    SessionClose,
    SessionOpen,
    SessionUpdate,
)
from bargein_protocol.errors import BAD_FRAME, CLOSED, OVERLOADED, UNSUPPORTED

from ....core.principal import known_as
from ....guard.admission import Caller
from ....hosting.ports import Wire
from ....hosting.registry import SessionRegistry
from ..json_connection import JsonConnection, object_of
from .phone_call import AUDIO, PhoneCall, Start, Timer

MAX_VALUES = 1000
"""Maximum number of values in a message, keys included."""
CREDENTIAL = "token"
"""Parameter of the TwiML that holds a token or a ticket, where no signature proves the call."""


class TwilioConnection(JsonConnection):
    """A phone call, the driver of its session.

    Args:
        below: The socket, for text frames.
        registry: Registry of all sessions.
        caller: The client.
        signed: Whether Twilio's signature was checked.
    """

    kept = False
    binary = BAD_FRAME

    def __init__(self, below: Wire, registry: SessionRegistry, caller: Caller, signed: bool) -> None:
        self._call = PhoneCall(self)
        super().__init__(below, registry, caller, _RoomOfCall(below, self._call))
        self._signed = signed
        self._proving: asyncio.Task[None] | None = None

    def receive_message(self, frame: bytes) -> None:
        """Take a message of Twilio; one that is not of its form ends the call."""
        message = object_of(frame, MAX_VALUES)
        if message is None:
            self.close(BAD_FRAME)
            return
        try:
            self._call.receive(message)
        except msgspec.DecodeError:
            self.close(BAD_FRAME)

    def disconnected(self) -> None:
        """Record that the call is over: it cannot be resumed."""
        host, is_first = self._host, not self.lost.done()
        super().disconnected()
        self._call.end()
        if self._proving is not None and not self.caller.known:
            self._proving.cancel()
        if host is not None and is_first:
            host.act(host.core.receive, SessionClose())

    # --- the line of the call --------------------------------------------------------------------

    def after(self, seconds: float, callback: Callable[[], None]) -> Timer:
        """Call a function later."""
        return self._registry.loop.call_later(seconds, callback)

    def room(self) -> None:
        """Go on with output, because sound was played."""
        self.writable_again()

    def hang_up(self, *, is_full: bool = False) -> None:
        """End the call."""
        # Later: the caller may be in the middle of a step of the session.
        self._registry.loop.call_soon(self.close, OVERLOADED if is_full else CLOSED)

    def begin(self, start: Start) -> None:
        """Open the session, after the call has proven itself."""
        if self._signed:
            self.caller.known = True
            self.caller.principal = known_as(f"twilio:{start.call_sid}")
        if self.caller.known:
            self._open_call(start)
        else:
            proving = self._prove(start)
            self._proving = self._registry.loop.create_task(proving, name="authenticate call")

    async def _prove(self, start: Start) -> None:
        refused = await self.caller.refusal(start.parameters.get(CREDENTIAL))
        if refused is not None:
            self.close(refused)
        elif not self._closing:
            self._open_call(start)

    def _open_call(self, start: Start) -> None:
        if self._registry.ears is None:
            self.close(UNSUPPORTED)
            return
        self.take(SessionOpen(audio=AUDIO))
        parameters = {name: value for name, value in start.parameters.items() if name != CREDENTIAL}
        call = {"call_sid": start.call_sid, "account_sid": start.account_sid, "parameters": parameters}
        self.act(SessionUpdate(metadata={"twilio": call}))
        self._call.answer(start)

    def translate(self, event: ServerEvent) -> None:
        """Take an event of the session, in order."""
        self._call.take(event)


class _RoomOfCall:
    """Wire that takes no output while much sound waits at Twilio."""

    def __init__(self, below: Wire, call: PhoneCall) -> None:
        self._below = below
        self._call = call

    @property
    def writable(self) -> bool:
        """Whether output may be written."""
        return self._below.writable and self._call.has_room

    def write(self, frames: Sequence[bytes]) -> None:
        """Write frames."""
        self._below.write(frames)

    def close(self, code: Code) -> None:
        """Close the socket after everything that was written."""
        self._below.close(code)

    def abort(self) -> None:
        """Drop the socket."""
        self._below.abort()
