"""A turn in the application's hands."""

from __future__ import annotations

import asyncio
from typing import Protocol

from msgspec import structs

from bargein_protocol import (
    InputAccepted,
    InputId,
    InputQueued,
    InterruptResult,
    Played,
    Seq,
    TurnEnded,
    TurnId,
    TurnState,
)

from .answers import rejected
from .delivery import Delivery
from .errors import BargeinError
from .event_reader import EventReader, shared_result
from .events import TurnEventOrSnapshot
from .outbox import Outcome
from .tracked_turn import TrackedTurn


class TurnSession(Protocol):
    """The parts of a session that its turns use."""

    async def _interrupt(
        self, tracked: TrackedTurn, reason: str | None, played: Played | None, force: bool
    ) -> InterruptResult: ...

    def _hold(self, tracked: TrackedTurn) -> None: ...

    def _resume(self, tracked: TrackedTurn) -> None: ...

    def _report_playback(self, tracked: TrackedTurn, played: Played) -> None: ...


class ClientTurn:
    """The answer to one input; made by `ClientSession.send`.

    Iterate the turn for its events; the last one is its `TurnEnded`. Events wait in a bounded buffer, so
    iterating late loses nothing. A buffer that runs full yields a `TurnSnapshot` with the whole state in
    place of the events. One task iterates at a time; a second loop continues where the first one stopped.

    Every method may be called from any task of the event loop. Cancelling any of them is safe: a request
    that was made stays made, and no event is lost.
    """

    def __init__(self, session: TurnSession, tracked: TrackedTurn) -> None:
        loop = asyncio.get_running_loop()
        self._session = session
        self._tracked = tracked
        self._reader = EventReader(tracked.inbox)
        self._end_taken = False
        self._answer: asyncio.Future[InputAccepted | InputQueued | BargeinError] = loop.create_future()
        self._end: asyncio.Future[TurnEnded | BargeinError] = loop.create_future()

    def __repr__(self) -> str:
        state = self.end.status if self.end else "running" if self.id else "not accepted"
        return f"<ClientTurn {self.id or self.input_id} {state}>"

    @property
    def id(self) -> TurnId | None:
        """Id given by the server; None until the input is accepted or queued."""
        return self._tracked.turn_id

    @property
    def input_id(self) -> InputId:
        """Id of the input."""
        assert self._tracked.input_id is not None
        return self._tracked.input_id

    @property
    def input(self) -> str | None:
        """Text of the input."""
        return self._tracked.input_text

    @property
    def text(self) -> str:
        """Text of the main lane so far.

        After an interrupt it may be a little longer than the delivered text; `end.heard` is decisive.
        """
        return self._tracked.text

    @property
    def state(self) -> TurnState:
        """All events so far, folded into plain data; a copy."""
        return self._tracked.fold.folded()

    @property
    def end(self) -> TurnEnded | None:
        """The `TurnEnded` event; None while the turn runs."""
        return self._tracked.ended

    @property
    def delivery(self) -> Delivery:
        """Whether the turn's output is delivered, withheld or dropped now."""
        return self._tracked.delivery

    async def accepted(self) -> InputAccepted | InputQueued:
        """Wait until the server has accepted or queued the input.

        Raises:
            InputRejected: The server refused the input; the turn will never run.
            SessionClosed: The session is over.
        """
        return await shared_result(self._answer)

    async def ended(self) -> TurnEnded:
        """Wait for the end and return it; the turn need not be iterated.

        Raises:
            InputRejected: There is no turn.
            SessionClosed: The session is over, and the end of the turn is unknown.
        """
        return await shared_result(self._end)

    def __aiter__(self) -> ClientTurn:
        return self

    async def __anext__(self) -> TurnEventOrSnapshot:
        if self._end_taken:
            raise StopAsyncIteration
        event = await self._reader.next()
        if event is None:
            raise StopAsyncIteration
        self._end_taken = isinstance(event, TurnEnded)
        return event  # type: ignore[return-value]  # the inbox of a turn holds no other kinds

    async def interrupt(
        self, *, reason: str | None = None, played: Played | None = None, force: bool = False
    ) -> InterruptResult:
        """End the turn now.

        Delivery of the turn's output stops immediately: waiting and future output is delivered only if
        the server defers the interrupt. An interrupt is possible before the input is accepted, and while
        the connection is down: then it is part of the first frame on the next one.

        Args:
            reason: Appears as `TurnEnded.reason`; `client` when None.
            played: Output that the user has received. None: the events read by iterating this turn,
                unless the turn has audio or `report_playback` was called; then the reports so far.
            force: Whether to end a section that the agent marked as uninterruptible, too.

        Returns:
            The outcome: `interrupted`, `already_ended`, `deferred` (the interrupt takes effect later) or
            `unknown_turn`; and `heard` if the turn is over.

        Raises:
            InputRejected: There is no turn.
            InterruptRefused: The server refused the interrupt, or lost the session and the turn with it.
            TooManyPending: Too many requests wait for an answer; nothing was sent.
            SessionClosed: The session is over.
        """
        if self._tracked.over and self.id is None:
            await self.accepted()  # raises the reason why there is no turn
        result = await self._session._interrupt(self._tracked, reason, played, force)
        if result.outcome != "interrupted" or result.heard is not None:
            return result
        # The end of the turn is in the same write of the server as the result.
        return structs.replace(result, heard=(await self.ended()).heard)

    async def hold(self) -> None:
        """Pause the output without ending the turn.

        Returns when the request is on its way.

        For a suspected barge-in: `interrupt` confirms it, `resume` takes it back. The server resumes
        automatically after about 2 s. Without a connection the call has no effect.
        """
        await self.accepted()
        self._session._hold(self._tracked)

    async def resume(self) -> None:
        """Resume a held turn exactly where it stopped."""
        await self.accepted()
        self._session._resume(self._tracked)

    def report_playback(
        self, *, seq: int | None = None, audio_ms: int | None = None, chars: int | None = None
    ) -> None:
        """Report how much of the turn the user has received.

        Reports after the end of the turn count, too.

        Args:
            seq: Number of the last event of the turn that was wholly rendered or played.
            audio_ms: Milliseconds of the turn's audio that were played, from its start.
            chars: Characters of the turn's own text that were shown or read aloud.
        """
        played = Played(seq=None if seq is None else Seq(seq), audio_ms=audio_ms, chars=chars)
        self._session._report_playback(self._tracked, played)

    def _accept(self, event: InputAccepted | InputQueued) -> None:
        if not self._answer.done():
            self._answer.set_result(event)

    def _finish(self, end: TurnEnded | BargeinError) -> None:
        """Set the results of a turn that ended or whose end stays unknown."""
        if isinstance(end, BargeinError):
            self._reader.close(end)
        if not self._answer.done():
            # An end without an answer comes from a snapshot; the answer is settled before it.
            self._answer.set_result(end if isinstance(end, BargeinError) else _accepted(end, self.input_id))
        if not self._end.done():
            self._end.set_result(end)


def _accepted(ended: TurnEnded, input_id: InputId) -> InputAccepted:
    return InputAccepted(turn_id=ended.turn_id, input_id=input_id, duplicate=True)


class TurnHandles:
    """The handle of each turn that has not ended, by its input.

    Args:
        session: The session of the turns.
    """

    def __init__(self, session: TurnSession) -> None:
        self._session = session
        self._turns: dict[str, ClientTurn] = {}

    def of(self, tracked: TrackedTurn) -> ClientTurn:
        """Return the handle of a turn, also of one that speech asked for."""
        assert tracked.input_id is not None
        turn = self._turns.get(tracked.input_id)
        if turn is None:
            turn = self._turns[tracked.input_id] = ClientTurn(self._session, tracked)
            if tracked.turn_id is not None:
                turn._accept(InputAccepted(turn_id=tracked.turn_id, input_id=tracked.input_id))
        return turn

    def settle(self, input_id: str, outcome: Outcome) -> None:
        """Set the result of a turn whose input was answered, or that has ended."""
        turn = self._turns.get(input_id)
        if turn is None:
            return
        if isinstance(outcome, (InputAccepted, InputQueued)):
            turn._accept(outcome)
            return
        if isinstance(outcome, TurnEnded) and outcome.turn_id != turn.id:
            return  # another turn for which the server named the same input
        del self._turns[input_id]
        turn._finish(outcome if isinstance(outcome, TurnEnded) else rejected(outcome))

    def finish(self, error: BargeinError) -> None:
        """End all turns, because the session is over."""
        for turn in self._turns.values():
            turn._finish(error)
        self._turns.clear()
