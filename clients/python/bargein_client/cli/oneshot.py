"""`bargein send`: one message, its answer, an exit code."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress

import msgspec

import bargein_protocol as bp

from ..errors import BargeinError
from ..event_reader import EventStream
from ..events import SessionEvent
from ..turn import ClientTurn
from .consent import REFUSED_EXIT_CODE, Consent, Policy
from .conversation import NEW, Choice, connected
from .files import read_files
from .lines import read_lines
from .notices import Notices
from .screen import PlainScreen
from .terminal import escape_json, is_colourful
from .view import TurnView

EXIT_CODES: dict[bp.TurnStatus, int] = {"completed": 0, "failed": 1, "interrupted": 130}

_encode = msgspec.json.Encoder().encode


async def send_once(
    url: str,
    text: str,
    *,
    token: str | None,
    as_json: bool,
    policy: Policy = "refuse",
    files: Sequence[str] = (),
    choice: Choice = NEW,
) -> int:
    """Send one message and print the answer.

    Ctrl-C interrupts the answer, a second Ctrl-C leaves.

    Args:
        url: URL of the server's socket.
        text: The message; `-` for standard input.
        token: A credential.
        as_json: Whether to print events in place of the answer.
        policy: Answer to tool calls that wait for this client.
        files: Names of files that go with the message.
        choice: The conversation.

    Returns:
        0 when the turn completed, 1 when it failed, 3 when it completed but tools were refused because there
        was no terminal to ask, 130 when it was interrupted.

    Raises:
        BargeinError: There is no turn, or its end is unknown; or a file cannot be read.
    """
    attachments = await read_files(files)
    if text == "-":
        text = await asyncio.to_thread(_read_message)
    async with connected(url, token, choice) as talk:
        session = talk.session
        stream = session.events()
        turn = session.send(text, attachments=attachments)
        breaker = Breaker(turn)
        screen = terminal_screen()
        consent = Consent(session, screen, policy, commands=False)
        answers = Answers(consent)
        with on_sigint(breaker.press):
            try:
                if as_json:
                    await _print_events(stream, turn, answers)
                else:
                    await _show(stream, turn, screen, answers)
            finally:
                await answers.stop()
        ended = await turn.ended()
    code = EXIT_CODES[ended.status]
    return REFUSED_EXIT_CODE if code == 0 and consent.refused else code


def terminal_screen() -> PlainScreen:
    """Return a screen, with Markdown where terminal and packages can."""
    if is_colourful(sys.stdout):
        with suppress(ModuleNotFoundError):
            from .rich_screen import RichScreen

            return RichScreen()
    return PlainScreen()


def _read_message() -> str:
    """Return standard input without the newline at its end."""
    text = sys.stdin.buffer.read().decode("utf-8-sig", "replace").removesuffix("\n").removesuffix("\r")
    if not text.strip():
        raise BargeinError("standard input is empty: expected a message")
    return text


class Answers:
    """Answers to questions about tools, by the user or standard input.

    Args:
        consent: The questions.
    """

    def __init__(self, consent: Consent) -> None:
        self._consent = consent
        self._reading: asyncio.Task[None] | None = None

    def take(self, event: SessionEvent) -> None:
        """Answer or ask about the tool call of an event."""
        self._consent.take(event)
        if self._consent.asked and self._reading is None:
            self._reading = asyncio.create_task(self._read())

    async def stop(self) -> None:
        """Stop reading."""
        if self._reading is not None:
            self._reading.cancel()
            await asyncio.wait([self._reading])

    async def _read(self) -> None:
        lines = read_lines()
        while (line := await lines.get()) is not None:
            with suppress(BargeinError):  # the session is over, and its end is reported
                if not self._consent.answer(line):
                    self._consent.repeat()
        self._consent.give_up()


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


async def _show(stream: EventStream, turn: ClientTurn, screen: PlainScreen, answers: Answers) -> None:
    view = TurnView(screen)
    notices = asyncio.create_task(Notices(screen).follow(stream))
    try:
        async for event in turn:
            view.show(event)
            answers.take(event)
    finally:
        screen.end_line()
        notices.cancel()
        await asyncio.wait([notices])


async def _print_events(stream: EventStream, turn: ClientTurn, answers: Answers) -> None:
    async for event in stream:
        print_event(event)
        answers.take(event)
        if _settles(event, turn):
            return


def print_event(event: SessionEvent) -> None:
    """Write an event as a line of JSON."""
    sys.stdout.write(escape_json(_encode(event).decode()) + "\n")
    sys.stdout.flush()


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
