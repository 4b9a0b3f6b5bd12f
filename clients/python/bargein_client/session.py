"""Sessions that outlive connections."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, ParamSpec

import bargein_protocol as bp

from .answers import Answers, PendingAnswer
from .backoff import Backoff
from .channel import CLOSE_TIMEOUT_S, ConnectChannel
from .connection_state import OPEN, ConnectionState, final_state
from .core import ClientCore
from .environment import Environment
from .errors import BargeinError, ConnectError, ConnectionLost, SessionClosed, unless_normal
from .event_reader import EventStream, EventStreams, check_loop, shared_result
from .microphone import AudioInput, Microphone
from .phases import Phase
from .reconnector import Reconnector
from .tracked_turn import TrackedTurn
from .turn import ClientTurn, TurnHandles

P = ParamSpec("P")


class ClientSession:
    """A conversation with an agent; made by `connect`.

    Every method may be called from any task of the event loop of `connect`, and from no other loop or
    thread. Cancelling any of them is safe: a request that was made stays made, and no event is lost.
    """

    def __init__(
        self,
        url: str,
        connect_channel: ConnectChannel,
        core: ClientCore,
        environment: Environment,
        *,
        backoff: Backoff | None,
        give_up_after_s: float,
    ) -> None:
        self._loop = loop = asyncio.get_running_loop()
        self._url = url
        self._core = core
        self._new_id = environment.new_id
        self._reconnector = Reconnector(
            url,
            connect_channel,
            core,
            environment,
            backoff=backoff,
            give_up_after_s=give_up_after_s,
            settle=self._settle,
        )
        self._turns = TurnHandles(self)
        self._answers = Answers()
        self._streams = EventStreams()
        self._opened: asyncio.Future[BargeinError | None] = loop.create_future()
        self._over: asyncio.Future[BargeinError] = loop.create_future()
        self._runner: asyncio.Task[None] | None = None

    # --- for the application ---------------------------------------------------------------------

    @property
    def id(self) -> bp.SessionId | None:
        """Public id of the session; changes when the server loses the session."""
        return self._core.session_id

    @property
    def state(self) -> ConnectionState:
        """State of the connection."""
        if self._over.done():
            return final_state(self._over.result())
        return OPEN if self._core.phase is Phase.LIVE else self._reconnector.state

    @property
    def limits(self) -> bp.Limits | None:
        """Limits of the server, with the types of files that the agent takes."""
        return self._core.limits

    @property
    def history(self) -> list[bp.TurnState]:
        """Turns that had ended before `connect(resume=…)`, oldest first."""
        return self._core.turns.history

    @property
    def turns(self) -> list[ClientTurn]:
        """The turns that have not ended, in the order of their inputs."""
        return [self._turns.of(turn) for turn in self._core.turns.open if turn.input_id is not None]

    @property
    def current(self) -> ClientTurn | None:
        """The turn that runs or will run next; None when there is none."""
        tracked = self._core.turns.current
        return None if tracked is None or tracked.input_id is None else self._turns.of(tracked)

    def send(
        self,
        text: str,
        *,
        on_busy: bp.OnBusy | None = None,
        metadata: dict[str, Any] | None = None,
        attachments: Sequence[bp.Attachment] = (),
    ) -> ClientTurn:
        """Ask for a turn and return it immediately.

        The call does not wait for the server. The turn may be iterated and interrupted immediately.
        `await turn.accepted()` waits until the server has accepted or queued the input. While the
        connection is down, the input waits for the next one.

        Args:
            text: The user's words, at most 65,536 characters.
            on_busy: Effect on a running turn: `interrupt` it, `queue` behind it, or `reject` this input.
                None uses the server's default, which is `interrupt`.
            metadata: Application data for the agent.
            attachments: Files, at most eight; their types are in `limits.attachments`, others are refused.

        Raises:
            TooManyPending: Too many requests wait for an answer; nothing was sent.
            TooLarge: The input exceeds the server's limits; nothing was sent.
            TypeError: The metadata cannot be encoded as JSON; nothing was sent.
            SessionClosed: The session is over.
            RuntimeError: This is not the event loop of `connect`.
        """
        self._refuse_closed()
        files, input_id = list(attachments) or None, bp.InputId(self._new_id())
        event = bp.InputText(id=input_id, text=text, on_busy=on_busy, metadata=metadata, attachments=files)
        turn = self._turns.of(self._core.send_input(event))
        self._reconnector.flush()
        return turn

    @property
    def audio(self) -> bp.SessionAudio | None:
        """Audio that the server grants on this connection; None without any."""
        return self._core.audio.granted

    @property
    def microphone(self) -> Microphone:
        """Input audio of the session."""
        return Microphone(self)

    async def interrupt(
        self, *, reason: str | None = None, played: bp.Played | None = None, force: bool = False
    ) -> bp.InterruptResult | None:
        """Interrupt the current turn (`ClientTurn.interrupt`); None without one."""
        turn = self.current
        return await turn.interrupt(reason=reason, played=played, force=force) if turn is not None else None

    def rewind(self, turn_id: bp.TurnId) -> PendingAnswer[bp.SessionRewound]:
        """Drop a turn and all later ones from the conversation.

        Those that have not ended are interrupted. The request is sent immediately, so an input that is
        sent next stands in their place: the same text regenerates an answer, another one edits the message.

        Returns:
            An awaitable, which need not be awaited, of the event with the dropped turns. The event is in
            `events()` too.

        Raises:
            RewindRefused: When it is awaited: the turn is unknown or was dropped before, or an
                uninterruptible section protects one of the turns. Nothing was dropped.
            TooManyPending: Too many requests wait for an answer; nothing was sent.
            SessionClosed: The session is over.
        """
        self._refuse_closed()
        event = bp.SessionRewind(id=bp.RewindId(self._new_id()), turn_id=turn_id)
        self._core.rewind(event)
        answer = PendingAnswer(self._answers.to_rewind(event.id))
        self._reconnector.flush()
        return answer

    def send_tool_output(self, call_id: str, output: Any = None, *, error: str | None = None) -> None:
        """Send the result of a tool that runs in the client.

        Args:
            call_id: The call, from a `ToolRunning` event with `runs_in="client"`.
            output: The result; any JSON value.
            error: Reason of a failure, in place of an output.

        Raises:
            TooLarge: The event exceeds the server's limits; nothing was sent.
            TooManyPending: Too many events wait for the connection; nothing was sent.
            TypeError: The output cannot be encoded as JSON; nothing was sent.
            SessionClosed: The session is over.
        """
        answer = bp.ToolOutput(call_id=bp.CallId(call_id), output=output, error=error)
        self._do(self._core.answer_tool, answer)

    def send_tool_decision(self, call_id: str, *, allow: bool) -> None:
        """Allow or deny a tool call that waits for consent (`ToolConfirm`).

        Raises:
            TooManyPending: Too many events wait for the connection; nothing was sent.
            SessionClosed: The session is over.
        """
        self._do(self._core.answer_tool, bp.ToolDecision(call_id=bp.CallId(call_id), allow=allow))

    def update(self, metadata: dict[str, Any]) -> None:
        """Merge parameters for the agent into the session; None removes a key.

        If the server loses the session, the fresh one gets the parameters too.

        Raises:
            TooLarge: The event exceeds the server's limits; nothing was sent.
            TooManyPending: Too many events wait for the connection; nothing was sent.
            TypeError: The metadata cannot be encoded as JSON; nothing was sent.
            SessionClosed: The session is over.
        """
        self._do(self._core.update, metadata)

    def events(self) -> EventStream:
        """Return a stream of all events from now on, until the session is over.

        Events of turns that this client interrupted are left out. A stream that is read too slowly loses
        its oldest events and reports their number in an `EventsDropped`.
        """
        check_loop(self._loop)
        return self._streams.open(self._core.subscribe())

    async def closed(self) -> None:
        """Wait until the session is over.

        Returns if one of the two sides closed the session on purpose.

        Raises:
            SessionReplaced: A newer connection has taken the session over.
            AccessDenied: The server denies access to this client.
            ConnectionLost: The connection could not be restored.
        """
        check_loop(self._loop)
        error = unless_normal(await asyncio.shield(self._over))
        if error is not None:
            raise error.with_traceback(None)

    def resume_state(self) -> bp.Resume | None:
        """Return the state for `connect(resume=…)` in another program.

        It holds a secret. The conversation is replayed from its beginning. Requests without an answer are
        not part of it. None when the session is over.
        """
        over = self._over.done() or self._reconnector.closing
        return None if over else self._core.opening.resume_from(bp.NO_SEQ)

    async def leave(self) -> None:
        """Close the connection, and leave the session on the server.

        `connect(resume=…)` goes on with it: take `resume_state()` before. A running turn goes on for as long
        as the server waits for an absent client. Requests that were made are sent before, if there is a
        connection.
        """
        if self._runner is None:
            return
        check_loop(self._loop)
        self._reconnector.closing = True
        try:
            async with asyncio.timeout(CLOSE_TIMEOUT_S):
                await self._reconnector.drained()
        except TimeoutError:
            pass  # the network is too slow for them
        finally:
            await self._stop(self._runner)

    async def close(self) -> None:
        """End the session for good.

        A running turn is interrupted, and the session cannot be resumed. While the connection is down, the
        server cannot be notified; it ends a running turn after a while.
        """
        if self._runner is None:
            return
        check_loop(self._loop)
        if not self._reconnector.closing:
            self._reconnector.closing = True
            self._core.close_session()
            self._reconnector.flush()
        try:
            if self._core.phase is not Phase.OFFLINE:
                await asyncio.wait([self._over], timeout=CLOSE_TIMEOUT_S)
        finally:
            await self._stop(self._runner)

    # --- for the microphone ----------------------------------------------------------------------

    @property
    def _audio(self) -> AudioInput:
        return self._core.audio

    def _send_sound(self, sound: bytes) -> bool:
        self._refuse_closed()
        taken = self._core.audio.send(sound)
        self._reconnector.flush()
        return taken

    def _clear_sound(self) -> None:
        self._do(self._core.audio.clear)

    def _commit(self) -> ClientTurn:
        self._refuse_closed()
        turn = self._turns.of(self._core.send_input(bp.InputCommit(id=bp.InputId(self._new_id()))))
        self._reconnector.flush()
        return turn

    def _is_delivered(self, turn_id: bp.TurnId) -> bool:
        """Return whether a turn's output is delivered now; from any thread."""
        tracked = self._core.turns.by_id(turn_id)
        return tracked is None or tracked.delivery.is_delivered

    def _report_played(self, turn_id: bp.TurnId, played: bp.Played) -> None:
        """Report playback of a turn that may have ended."""
        tracked = self._core.turns.by_id(turn_id)
        if tracked is not None:
            self._report_playback(tracked, played)
        else:
            self._do(self._core._report, turn_id, played)

    # --- for turns -------------------------------------------------------------------------------

    async def _interrupt(
        self, tracked: TrackedTurn, reason: str | None, played: bp.Played | None, force: bool
    ) -> bp.InterruptResult:
        self._refuse_closed()
        event = bp.Interrupt(id=bp.InterruptId(self._new_id()), reason=reason, played=played, force=force)
        self._core.interrupt(event, tracked)
        answer = self._answers.to_interrupt(event.id)
        self._reconnector.flush()
        return await shared_result(answer)

    def _hold(self, tracked: TrackedTurn) -> None:
        self._do(self._core.hold, tracked)

    def _resume(self, tracked: TrackedTurn) -> None:
        self._do(self._core.resume, tracked)

    def _report_playback(self, tracked: TrackedTurn, played: bp.Played) -> None:
        self._do(self._core.playback, tracked, played)

    def _do(self, act: Callable[P, None], *args: P.args, **kwargs: P.kwargs) -> None:
        """Call the core and send the resulting events."""
        self._refuse_closed()
        act(*args, **kwargs)
        self._reconnector.flush()

    def _refuse_closed(self) -> None:
        check_loop(self._loop)
        if self._over.done():
            raise self._over.result().with_traceback(None)
        if self._reconnector.closing:
            raise SessionClosed("the session is being closed")

    # --- the connection --------------------------------------------------------------------------

    async def _open(self) -> None:
        self._runner = asyncio.create_task(self._run(), name="bargein-session")
        try:
            await shared_result(self._opened)
        except BaseException:
            await self._stop(self._runner)
            raise

    async def _stop(self, runner: asyncio.Task[None]) -> None:
        runner.cancel()
        await asyncio.wait([runner])

    async def _run(self) -> None:
        error: BargeinError = SessionClosed()
        try:
            error = await self._reconnector.run()
        except Exception as unforeseen:  # a defect here, or in a library: not a session that was closed
            why = f"the client failed: {unforeseen!r}"
            error = ConnectError(self._url, why) if self.limits is None else ConnectionLost(why)
            error.__cause__ = unforeseen
        finally:
            self._finish(error)

    # --- answers ---------------------------------------------------------------------------------

    def _settle(self) -> None:
        """Set the results of answered requests and ended turns."""
        if not self._opened.done() and self._core.phase is Phase.LIVE:
            self._opened.set_result(None)
        for request_id, outcome in self._core.outcomes():
            if not self._answers.settle(request_id, outcome):
                self._turns.settle(request_id, outcome)

    def _finish(self, error: BargeinError) -> None:
        """End everything that waits, because the session is over."""
        self._core.detach()
        if not self._opened.done():
            self._opened.set_result(error)
        self._over.set_result(error)
        self._turns.finish(error)
        self._answers.finish(error)
        self._streams.close(unless_normal(error))
