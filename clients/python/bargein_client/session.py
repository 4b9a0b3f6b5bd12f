"""A session over connections that come and go: `connect` and `ClientSession`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any, ParamSpec
from weakref import WeakSet

import bargein_protocol as bp

from .backoff import Backoff
from .connection import CLOSE_TIMEOUT_S, Dial
from .core import ClientCore, Outcome
from .errors import BargeinError, InputRejected, InterruptRefused, SessionClosed
from .events import SessionEvent
from .feed import Feed, settled
from .inbox import Bounds
from .lifeline import Environment, Lifeline
from .phases import Phase
from .tracked import TrackedTurn
from .transports import CodecName, Dialer, Transport
from .turn import ClientTurn

P = ParamSpec("P")


@asynccontextmanager
async def connect(
    url: str,
    *,
    token: str | None = None,
    headers: Mapping[str, str] | None = None,
    reconnect: bool = True,
    backoff: Backoff | None = None,
    give_up_after_s: float = 300.0,
    client: bp.ClientInfo | None = None,
    bounds: Bounds | None = None,
    transport: Transport = "auto",
    codec: CodecName = "json",
    environment: Environment | None = None,
) -> AsyncIterator[ClientSession]:
    """Open a session and close it for good on the way out.

    Args:
        url: Such as `ws://localhost:8000/v1/session`. Proxies are taken from the environment, except
            for this machine's own addresses.
        token: A credential; it travels in the first frame, never in the URL.
        headers: Further headers of the handshake.
        reconnect: Whether to come back by itself when the line breaks.
        backoff: How long to wait before each attempt.
        give_up_after_s: How long to try in one outage, in seconds; the session is lost then.
        client: What this program calls itself, for the server's logs.
        bounds: How much may wait for one consumer that reads slowly.
        transport: `websocket`; `sse`: event streams over plain HTTP, which need `bargein[sse]`; `auto`:
            WebSockets, and event streams where a proxy lets no WebSocket through.
        codec: What frames on a WebSocket are written in; MessagePack carries audio a quarter smaller.
        environment: Where ids, chance and time come from.

    Raises:
        ConnectError: The first connection could not be made.
    """
    core = ClientCore(auth=token, client=client or bp.ClientInfo(name="bargein-python"), bounds=bounds)
    session = ClientSession(
        url,
        Dialer(url, headers or {}, transport, codec),
        core,
        environment or Environment(),
        backoff=(backoff or Backoff()) if reconnect else None,
        give_up_after_s=give_up_after_s,
    )
    await session._open()
    try:
        yield session
    finally:
        await session.close()


class EventStream:
    """Every event of a session from the moment it was asked for. One task iterates it at a time."""

    def __init__(self, feed: Feed) -> None:
        self._feed = feed

    def __aiter__(self) -> EventStream:
        return self

    async def __anext__(self) -> SessionEvent:
        event = await self._feed.next()
        if event is None:
            raise StopAsyncIteration
        return event


class ClientSession:
    """A conversation with an agent. Made by `connect`.

    Every method may be called from any task. Cancelling any of them is safe: what was asked of the
    server stays asked, and no event is lost.
    """

    def __init__(
        self,
        url: str,
        dial: Dial,
        core: ClientCore,
        environment: Environment,
        *,
        backoff: Backoff | None,
        give_up_after_s: float,
    ) -> None:
        loop = asyncio.get_running_loop()
        self._core = core
        self._new_id = environment.new_id
        self._lifeline = Lifeline(
            url,
            dial,
            core,
            environment,
            backoff=backoff,
            give_up_after_s=give_up_after_s,
            settle=self._settle,
        )
        self._turns: dict[str, ClientTurn] = {}
        self._interrupts: dict[str, asyncio.Future[bp.InterruptResult | BargeinError]] = {}
        self._feeds: WeakSet[Feed] = WeakSet()
        self._opened: asyncio.Future[BargeinError | None] = loop.create_future()
        self._over: asyncio.Future[BargeinError] = loop.create_future()
        self._runner: asyncio.Task[None] | None = None

    # --- for the application ---------------------------------------------------------------------

    @property
    def id(self) -> bp.SessionId | None:
        """The session's public name; another one after the server lost the session."""
        return self._core.session_id

    @property
    def connected(self) -> bool:
        """Whether there is a line now, and everything that was missed has been delivered."""
        return self._core.phase is Phase.LIVE

    @property
    def turns(self) -> list[ClientTurn]:
        """The turns that have not ended, in the order in which they were asked for."""
        return list(self._turns.values())

    def submit(
        self, text: str, *, on_busy: bp.OnBusy | None = None, metadata: dict[str, Any] | None = None
    ) -> ClientTurn:
        """Ask for a turn and return at once; see `send`. The turn may be interrupted right away."""
        self._refuse_closed()
        event = bp.InputText(id=bp.InputId(self._new_id()), text=text, on_busy=on_busy, metadata=metadata)
        turn = ClientTurn(self, self._core.send_input(event))
        self._turns[event.id] = turn
        self._lifeline.flush()
        return turn

    async def send(
        self, text: str, on_busy: bp.OnBusy | None = None, metadata: dict[str, Any] | None = None
    ) -> ClientTurn:
        """Ask for a turn and wait until the server has accepted or queued it.

        When cancelled, the input may have been sent; its turn is among `turns` until it ends.

        Args:
            text: What the user said, at most 65,536 characters.
            on_busy: What to do when a turn runs: `interrupt` it, `queue` behind it or `reject` this
                input. None leaves it to the server, whose default is `interrupt`.
            metadata: For the agent.

        Raises:
            InputRejected: The server said no, or lost the session before it answered.
            TooManyPending: Too many requests wait for an answer; nothing was sent.
            TooLarge: The server would not read it; nothing was sent.
            SessionClosed: The session is over.
        """
        turn = self.submit(text, on_busy=on_busy, metadata=metadata)
        await turn.accepted()
        return turn

    @property
    def current(self) -> ClientTurn | None:
        """The turn that runs or will run next; None when there is none."""
        tracked = self._core.turns.current()
        if tracked is None or tracked.input_id is None:
            return None
        return self._turns.get(tracked.input_id)

    async def interrupt(self, reason: str | None = None) -> bp.InterruptResult | None:
        """End the current turn, see `ClientTurn.interrupt`; None when there is none."""
        turn = self.current
        return None if turn is None else await turn.interrupt(reason)

    async def update(self, metadata: dict[str, Any]) -> None:
        """Merge parameters that the agent can read into the session; a None removes its key.

        They are kept and given to a fresh session as well when the server loses this one.
        """
        self._do(self._core.update, metadata)

    def events(self) -> EventStream:
        """Return a stream of everything that happens from now on, until the session is over.

        Events of turns that this client interrupted are left out. A stream that is read too slowly
        loses its oldest events and says so with an `EventsDropped`.
        """
        inbox = self._core.subscribe()
        feed = Feed(inbox)
        if self._over.done():
            feed.close(_unless_normal(self._over.result()))
        else:
            self._feeds.add(feed)
        return EventStream(feed)

    async def closed(self) -> None:
        """Wait until the session is over.

        Raises:
            SessionReplaced: A newer connection has taken the session over.
            AccessDenied: The server does not let this client in any more.
            ConnectionLost: The line could not be restored.
        """
        error = _unless_normal(await asyncio.shield(self._over))
        if error is not None:
            raise error.with_traceback(None)

    async def close(self) -> None:
        """End the session for good: its turn is interrupted, and nothing can be resumed.

        Without a line there is nobody to tell; the server then ends a turn that runs after a while.
        """
        if self._runner is None:
            return
        if not self._lifeline.closing:
            self._lifeline.closing = True
            self._core.close_session()
            self._lifeline.flush()
        try:
            if self._core.phase is not Phase.OFFLINE:
                await asyncio.wait([self._over], timeout=CLOSE_TIMEOUT_S)
        finally:
            self._runner.cancel()
            await asyncio.wait([self._runner])

    # --- for turns -------------------------------------------------------------------------------

    async def _interrupt(
        self, tracked: TrackedTurn, reason: str | None, played: bp.Played | None, force: bool
    ) -> bp.InterruptResult:
        self._refuse_closed()
        event = bp.Interrupt(id=bp.InterruptId(self._new_id()), reason=reason, played=played, force=force)
        self._core.interrupt(event, tracked)
        answer: asyncio.Future[bp.InterruptResult | BargeinError]
        answer = self._interrupts[event.id] = asyncio.get_running_loop().create_future()
        self._lifeline.flush()
        return await settled(answer)

    def _do(self, act: Callable[P, None], *args: P.args, **kwargs: P.kwargs) -> None:
        """Ask something of the core and send what comes of it."""
        self._refuse_closed()
        act(*args, **kwargs)
        self._lifeline.flush()

    def _refuse_closed(self) -> None:
        if self._over.done():
            raise self._over.result().with_traceback(None)
        if self._lifeline.closing:
            raise SessionClosed("the session is being closed")

    # --- the line --------------------------------------------------------------------------------

    async def _open(self) -> None:
        self._runner = asyncio.create_task(self._run(), name="bargein-session")
        try:
            await settled(self._opened)
        except BaseException:
            self._runner.cancel()
            await asyncio.wait([self._runner])
            raise

    async def _run(self) -> None:
        error: BargeinError = SessionClosed()
        try:
            error = await self._lifeline.run()
        finally:
            self._finish(error)

    # --- answers ---------------------------------------------------------------------------------

    def _settle(self) -> None:
        """Wake those who wait for an answer or for the end of a turn."""
        if not self._opened.done() and self._core.session_id is not None:
            self._opened.set_result(None)
        for request_id, outcome in self._core.outcomes():
            if request_id in self._interrupts:
                self._settle_interrupt(request_id, outcome)
            elif request_id in self._turns:
                self._settle_turn(request_id, outcome)

    def _settle_interrupt(self, request_id: str, outcome: Outcome) -> None:
        answer = self._interrupts.pop(request_id)
        if isinstance(outcome, bp.InterruptResult):
            answer.set_result(outcome)
        elif isinstance(outcome, bp.ErrorEvent):
            refused = InterruptRefused(outcome.code, outcome.message, retryable=outcome.retryable)
            answer.set_result(refused)

    def _settle_turn(self, input_id: str, outcome: Outcome) -> None:
        turn = self._turns[input_id]
        if isinstance(outcome, (bp.InputAccepted, bp.InputQueued)):
            turn._accept(outcome)
            return
        del self._turns[input_id]
        if isinstance(outcome, bp.TurnEnded):
            turn._finish(outcome)
        else:
            turn._finish(_rejected(outcome))

    def _finish(self, error: BargeinError) -> None:
        """The session is over: everyone who waits is told."""
        self._core.detach()
        if not self._opened.done():
            self._opened.set_result(error)
        self._over.set_result(error)
        for turn in self._turns.values():
            turn._finish(error)
        self._turns.clear()
        for answer in self._interrupts.values():
            answer.set_result(error)
        self._interrupts.clear()
        for feed in self._feeds:
            feed.close(_unless_normal(error))
        self._feeds.clear()


def _unless_normal(error: BargeinError) -> BargeinError | None:
    """Return None for a session that was closed on purpose, by either side."""
    return None if type(error) is SessionClosed else error


def _rejected(outcome: bp.InputRejected | bp.ErrorEvent | bp.InterruptResult) -> InputRejected:
    assert not isinstance(outcome, bp.InterruptResult)
    if isinstance(outcome, bp.ErrorEvent):
        return InputRejected(outcome.code, outcome.message, retryable=outcome.retryable)
    row = bp.code_named(outcome.code)
    return InputRejected(
        outcome.code,
        row.reason if row is not None else "the server refused the input",
        retryable=row is not None and row.action is bp.Action.RETRY,
        retry_after_ms=outcome.retry_after_ms,
    )
