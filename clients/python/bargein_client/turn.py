"""One turn, as an application holds it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from bargein_protocol import (
    CallId,
    InputAccepted,
    InputId,
    InputQueued,
    InterruptResult,
    Played,
    Seq,
    ToolDecision,
    ToolOutput,
    TurnEnded,
    TurnId,
    TurnState,
)

from .errors import BargeinError
from .events import TurnEventOrSnapshot
from .feed import Feed, settled
from .tracked import TrackedTurn

if TYPE_CHECKING:
    from .session import ClientSession


class ClientTurn:
    """The answer to one input. Made by `ClientSession.send` and `submit`, never by hand.

    Iterate it for its events; the last one is its `TurnEnded`. Nothing is lost by iterating late: events
    wait in a bounded buffer, and one that runs full gives a `TurnSnapshot` with the whole state in
    place of the events. One task iterates at a time; a second loop goes on where the first one stopped.

    Every method may be called from any task. Cancelling any of them is safe: what was asked of the
    server stays asked, and no event is lost.
    """

    def __init__(self, session: ClientSession, tracked: TrackedTurn) -> None:
        loop = asyncio.get_running_loop()
        self._session = session
        self._tracked = tracked
        self._feed = Feed(tracked.inbox)
        self._end_taken = False
        self._answer: asyncio.Future[InputAccepted | InputQueued | BargeinError] = loop.create_future()
        self._end: asyncio.Future[TurnEnded | BargeinError] = loop.create_future()

    def __repr__(self) -> str:
        state = self.ended.status if self.ended else "running" if self.id else "not accepted"
        return f"<ClientTurn {self.id or self.input_id} {state}>"

    @property
    def id(self) -> TurnId | None:
        """The server's name for the turn; None until the input is accepted or queued."""
        return self._tracked.turn_id

    @property
    def input_id(self) -> InputId:
        """The id of the input that asked for it."""
        assert self._tracked.input_id is not None
        return self._tracked.input_id

    @property
    def text(self) -> str:
        """The text of the turn's own voice so far.

        After an interrupt it may hold a little more than was delivered; `ended.heard` says what counts.
        """
        return str(self._tracked.fold.main_lane.text)

    @property
    def ended(self) -> TurnEnded | None:
        """Its end; None while it runs."""
        return self._tracked.ended

    def folded(self) -> TurnState:
        """Return everything it said and did so far as plain data."""
        return self._tracked.fold.folded()

    async def accepted(self) -> InputAccepted | InputQueued:
        """Wait until the server has taken the input.

        Raises:
            InputRejected: It did not; the turn will never run.
            SessionClosed: The session is over.
        """
        return await settled(self._answer)

    async def wait(self) -> TurnEnded:
        """Wait for the end and return it, whether or not anyone iterates the turn.

        Raises:
            InputRejected: There is no turn.
            SessionClosed: The session is over, and the turn's end will not be known.
        """
        return await settled(self._end)

    def __aiter__(self) -> ClientTurn:
        return self

    async def __anext__(self) -> TurnEventOrSnapshot:
        if self._end_taken:
            raise StopAsyncIteration
        event = await self._feed.next()
        if event is None:
            raise StopAsyncIteration
        self._end_taken = isinstance(event, TurnEnded)
        return event  # type: ignore[return-value]  # the inbox of a turn holds nothing else

    async def interrupt(
        self, reason: str | None = None, played: Played | None = None, force: bool = False
    ) -> InterruptResult:
        """End the turn now.

        Its output stops in this step: what was not read yet, and what still comes, is not delivered, unless
        the server answers that it must be heard. Works before the input is accepted, and
        while the line is down: then it is the first thing that is said on the next one.

        Args:
            reason: Appears in `TurnEnded.reason`; `client` when None.
            played: What the user has received. None: what was read by iterating this turn, unless
                the turn speaks or `playback` was called, then what was reported so far.
            force: Also end a section that the agent marked as uninterruptible.

        Returns:
            The server's answer: `interrupted`, `already_ended`, `deferred` (it takes effect later) or
            `unknown_turn`.

        Raises:
            InputRejected: There is no turn.
            InterruptRefused: The server could not take it, or lost the session and with it the turn.
            TooManyPending: Too many requests wait for an answer; nothing was sent.
            SessionClosed: The session is over.
        """
        if self._tracked.over and self.id is None:
            await self.accepted()  # raises what became of the input
        return await self._session._interrupt(self._tracked, reason, played, force)

    async def hold(self) -> None:
        """Stop the output at once without ending the turn; returns when the request is on its way.

        For a barge-in that is only suspected. `interrupt` makes it final, `resume` takes it back, and the
        server resumes by itself after about 2 s. Without a line it does nothing.
        """
        await self.accepted()
        self._session._do(self._session._core.hold, self._tracked)

    async def resume(self) -> None:
        """Let a held turn go on from the exact place; nothing of it is lost."""
        await self.accepted()
        self._session._do(self._session._core.resume, self._tracked)

    async def playback(
        self, *, seq: int | None = None, audio_ms: int | None = None, chars: int | None = None
    ) -> None:
        """Report what the user has received so far; also welcome after the end of the turn.

        Args:
            seq: The last event of the turn that was wholly rendered or played.
            audio_ms: Milliseconds of the turn's audio that left the loudspeaker, from its start.
            chars: Characters of the turn's own text that were shown or spoken.
        """
        played = Played(seq=None if seq is None else Seq(seq), audio_ms=audio_ms, chars=chars)
        self._session._do(self._session._core.playback, self._tracked, played)

    async def tool_output(self, call_id: str, output: Any = None, *, error: str | None = None) -> None:
        """Give the result of a tool that runs in the client, or say what went wrong with it."""
        event = ToolOutput(call_id=CallId(call_id), output=output, error=error)
        self._session._do(self._session._core.answer_tool, event)

    async def tool_decision(self, call_id: str, *, allow: bool) -> None:
        """Answer a `ToolConfirm`."""
        event = ToolDecision(call_id=CallId(call_id), allow=allow)
        self._session._do(self._session._core.answer_tool, event)

    def _accept(self, event: InputAccepted | InputQueued) -> None:
        if not self._answer.done():
            self._answer.set_result(event)

    def _finish(self, end: TurnEnded | BargeinError) -> None:
        """The turn has ended, or will never be heard of again."""
        if isinstance(end, BargeinError):
            self._feed.close(end)
        if not self._answer.done():
            # An end without an answer comes from a snapshot; the answer is settled before it.
            self._answer.set_result(end if isinstance(end, BargeinError) else _accepted(end, self.input_id))
        if not self._end.done():
            self._end.set_result(end)


def _accepted(ended: TurnEnded, input_id: InputId) -> InputAccepted:
    return InputAccepted(turn_id=ended.turn_id, input_id=input_id, duplicate=True)
