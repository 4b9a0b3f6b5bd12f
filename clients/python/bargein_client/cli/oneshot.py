"""`bargein send`: one message, its answer, an exit code."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Callable
from contextlib import suppress

import msgspec

import bargein_protocol as bp

from ..event_reader import EventStream
from ..events import SessionEvent
from ..turn import ClientTurn
from .notices import Notices, connected
from .screen import PlainScreen
from .terminal import escape_json
from .view import TurnView

EXIT_CODES: dict[bp.TurnStatus, int] = {"completed": 0, "failed": 1, "interrupted": 130}

_encode = msgspec.json.Encoder().encode


async def send_once(url: str, text: str, *, token: str | None, as_json: bool) -> int:
    """Send one message and print the answer.

    Ctrl-C interrupts the answer, a second Ctrl-C leaves.

    Returns:
        0 when the turn completed, 1 when it failed, 130 when it was interrupted.

    Raises:
        BargeinError: There is no turn, or its end is unknown.
    """
    async with connected(url, token) as session:
        stream = session.events()
        turn = session.send(text)
        breaker = Breaker(turn)
        with on_sigint(breaker.press):
            if as_json:
                await _print_events(stream, turn)
            else:
                await _show(stream, turn)
        ended = await turn.ended()
    return EXIT_CODES[ended.status]


class Breaker:
    """Handler of Ctrl-C: interrupt the turn; leave when pressed again."""

    def __init__(self, turn: ClientTurn) -> None:
        self._turn = turn
        self._main = asyncio.current_task()
        self._interrupting: asyncio.Task[bp.InterruptResult] | None = None

    def press(self) -> None:
        """Handle Ctrl-C."""
        if self._interrupting is None:
            self._interrupting = asyncio.create_task(self._turn.interrupt())
            self._interrupting.add_done_callback(_retrieve)
        elif self._main is not None:
            self._main.cancel()


class on_sigint:  # noqa: N801  # reads as a statement
    """Call a function on Ctrl-C in place of a KeyboardInterrupt.

    Platforms without signal handlers in the event loop keep the KeyboardInterrupt.
    """

    def __init__(self, act: Callable[[], None]) -> None:
        self._act = act

    def __enter__(self) -> None:
        with suppress(NotImplementedError):
            asyncio.get_running_loop().add_signal_handler(signal.SIGINT, self._act)

    def __exit__(self, *exc_info: object) -> None:
        with suppress(NotImplementedError):
            asyncio.get_running_loop().remove_signal_handler(signal.SIGINT)


async def _show(stream: EventStream, turn: ClientTurn) -> None:
    screen = PlainScreen()
    view = TurnView(screen)
    notices = asyncio.create_task(Notices(screen).follow(stream))
    try:
        async for event in turn:
            view.show(event)
    finally:
        screen.end_line()
        notices.cancel()
        await asyncio.wait([notices])


async def _print_events(stream: EventStream, turn: ClientTurn) -> None:
    async for event in stream:
        sys.stdout.write(escape_json(_encode(event).decode()) + "\n")
        sys.stdout.flush()
        if _settles(event, turn):
            return


def _settles(event: SessionEvent, turn: ClientTurn) -> bool:
    if isinstance(event, bp.TurnEnded):
        return event.turn_id == turn.id
    if isinstance(event, bp.InputRejected):
        return event.input_id == turn.input_id
    return isinstance(event, bp.ErrorEvent) and event.ref_id == turn.input_id


def _retrieve(task: asyncio.Task[bp.InterruptResult]) -> None:
    """Retrieve the exception of a failed interrupt; asyncio would log it."""
    if not task.cancelled():
        task.exception()
