"""`bargein chat`: the conversation, and its form for lines from a pipe."""

from __future__ import annotations

import asyncio
import sys
from collections import deque
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from bargein_protocol import Attachment

from ..errors import BargeinError, InputRejected, RequestRefused, SessionClosed, TooLarge, TooManyPending
from ..session import ClientSession
from ..turn import ClientTurn
from .consent import REFUSED_EXIT_CODE, Consent, Policy
from .files import check_number, read_file
from .lines import read_lines
from .notices import Notices, connected
from .oneshot import on_sigint, print_event
from .screen import PlainScreen, Screen
from .view import TurnView
from .words import refused

LEAVE_WITHIN_S = 2.0
MAX_TURNS = 1000
"""Number of turns that can be taken back."""

HELP = (
    "/yes and /no  answer a question about a tool",
    "/again  answer my last message again",
    "/edit TEXT  put TEXT in the place of my last message",
    "/attach FILE  add a file, such as an image, to my next message",
    "/undo  take my last message and its answer back",
    "/quit  leave",
    "Enter or Ctrl-C interrupts an answer, Ctrl-C twice leaves",
)


class _Sent(NamedTuple):
    """A message, with its files, which `/again` sends again."""

    turn: ClientTurn
    files: Sequence[Attachment]


class Chat:
    """A conversation with one agent.

    Args:
        session: The session with the agent.
        screen: Output.
        leave: Called when the user wants to leave.
        policy: Answer to tool calls that wait for this client.
        as_json: Whether `run` prints every event as a line of JSON; the screen then gets no notices.
        prefill: Puts text into the prompt for the user to change; None without such a prompt.

    Attributes:
        refused: Whether a line was refused, by the server or before it was sent.
        consent: The tool calls that wait for this client.
    """

    def __init__(
        self,
        session: ClientSession,
        screen: Screen,
        leave: Callable[[], None],
        *,
        policy: Policy = "ask",
        as_json: bool = False,
        prefill: Callable[[str], None] | None = None,
    ) -> None:
        self.refused = False
        self.consent = Consent(session, screen, policy)
        self._as_json = as_json
        self._prefill = prefill
        self._sent: deque[_Sent] = deque(maxlen=MAX_TURNS)
        self._files: list[Attachment] = []
        self._session = session
        self._screen = screen
        self._leave = leave
        self._loop = asyncio.get_running_loop()
        self._pressed_at = float("-inf")
        self._tasks: set[asyncio.Task[None]] = set()
        self._shown: asyncio.Task[None] | None = None
        self._rewinding: asyncio.Task[None] | None = None
        self._view: TurnView | None = None

    async def run(self) -> None:
        """Show notices, or print events, until the session is over.

        Raises the reason unless the session was closed on purpose.
        """
        stream = self._session.events()
        if self._as_json:
            with suppress(SessionClosed):
                async for event in stream:
                    print_event(event)
        else:
            await Notices(self._screen).follow(stream)
        await self._session.closed()

    @property
    def busy(self) -> bool:
        """Whether a turn is running or waiting."""
        return self._shown is not None and not self._shown.done()

    def send(self, text: str) -> None:
        """Send a line of the user, which interrupts a running turn."""
        text = text.strip()
        if not text:
            return
        try:
            if self.consent.answer(text):
                return
        except BargeinError as error:
            self._screen.line("mark", str(error))
            return
        word, _, rest = text.partition(" ")
        if word == "/help":
            for line in HELP:
                self._screen.line("note", line)
        elif word == "/quit":
            self._leave()
        elif word in ("/yes", "/no", "/result"):
            self._screen.line("mark", "no tool waits for an answer")
        elif word in ("/again", "/edit", "/undo"):
            self._take_back(word, rest.strip())
        elif word == "/attach":
            self._attach(rest.strip())
        else:
            files, self._files = self._files, []
            self._ask(text, files)

    def _attach(self, name: str) -> None:
        try:
            if not Path(name).expanduser().is_file():  # a pipe could stop the conversation
                raise BargeinError(f"there is no file {name}" if name else "expected a file: /attach FILE")
            check_number(len(self._files) + 1)
            file = read_file(name)
        except BargeinError as error:
            self.refused = True
            self._screen.line("mark", str(error))
            return
        self._files.append(file)
        self._screen.line("note", f"{file.name} ({file.media_type}) goes with your next message")

    def _ask(self, text: str, files: Sequence[Attachment]) -> None:
        if self.busy and self._view is not None:
            self._view.cut()
        self._screen.gap()
        self._pressed_at = float("-inf")  # the next press stops this turn
        self._screen.line("user", f"> {text}")
        try:
            turn = self._session.send(text, on_busy="interrupt", attachments=files)
        except (SessionClosed, TooLarge, TooManyPending) as error:
            self.refused = True
            self._screen.line("mark", str(error))
            return
        self._sent.append(_Sent(turn, files))
        self._shown = self._spawn(self._show(turn, text, files, self._shown))

    def _take_back(self, word: str, text: str) -> None:
        """Rewind the last turn, and ask again for it."""
        turn, files = self._sent[-1] if self._sent else (None, ())
        if turn is None or turn.input is None:
            self._screen.line("mark", "there is no message to take back")
        elif word == "/edit" and not text and self._prefill is not None:
            self._prefill(f"/edit {turn.input}")
        elif word == "/edit" and not text:
            self._screen.line("mark", "expected the new message: /edit TEXT")
        else:
            if self.busy and self._view is not None:
                self._view.cut()
            again = {"/again": turn.input, "/edit": text}.get(word)
            self._rewinding = self._spawn(self._rewind(turn, again, files))

    async def _rewind(self, turn: ClientTurn, again: str | None, files: Sequence[Attachment]) -> None:
        try:
            turn_id = (await turn.accepted()).turn_id
            rewound = await self._session.rewind(turn_id)
        except InputRejected:
            rewound = None  # there is no turn that would have to be dropped
        except RequestRefused as error:
            self.refused = True
            self._screen.line("mark", refused(error))
            return
        except BargeinError as error:
            self._screen.line("mark", str(error))
            return
        gone = {turn.id, *(rewound.turns if rewound is not None else ())}
        left = [kept for kept in self._sent if kept.turn.id not in gone]
        self._sent.clear()
        self._sent.extend(left)
        if again is None:
            self._screen.line("note", f"taken back: {turn.input}")
        else:
            self._ask(again, files)

    def press_break(self) -> None:
        """Handle Ctrl-C: stop a running turn, or leave when pressed again soon.

        Without a running turn the first one does not leave either, because the answer may have ended
        just before the key was pressed.
        """
        now = self._loop.time()
        again = now - self._pressed_at < LEAVE_WITHIN_S
        self._pressed_at = now
        turn = self._session.current
        if again:
            self._leave()
        elif not self.busy or turn is None:
            self._screen.line("note", "Ctrl-C again leaves")
        else:
            if self._view is not None:
                self._view.cut()
            self._spawn(self._interrupt(turn))

    async def idle(self) -> None:
        """Wait until every turn has been shown to its end."""
        if self._rewinding is not None:
            await asyncio.wait([self._rewinding])
        while self._shown is not None and not self._shown.done():
            await asyncio.wait([self._shown])

    async def stop(self) -> None:
        """Stop showing."""
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)

    async def _show(
        self, turn: ClientTurn, text: str, files: Sequence[Attachment], before: asyncio.Task[None] | None
    ) -> None:
        if before is not None:
            if self._session.state.name == "open":
                self._screen.status("waiting")  # the server may take long to end the turn before
            await asyncio.wait([before])
        self._view = TurnView(self._screen)
        self._screen.status("waiting")
        try:
            try:
                await turn.accepted()
            except InputRejected as error:
                if error.code != "session_lost":
                    raise
                # A lost session applies nothing of an unanswered request, so it may be sent again.
                turn = self._session.send(text, on_busy="interrupt", attachments=files)
                self._sent.append(_Sent(turn, files))
            async for event in turn:
                if not self._as_json:
                    self._view.show(event)
                self.consent.take(event)
        except RequestRefused as error:
            self.refused = True
            self._screen.line("mark", refused(error))
        except BargeinError:
            self._screen.end_line()  # the session is over; `run` raises the reason
        finally:
            self._screen.status(None)

    async def _interrupt(self, turn: ClientTurn) -> None:
        try:
            await turn.interrupt()
        except BargeinError as error:
            self._screen.line("mark", str(error))

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task


async def chat_lines(
    url: str, token: str | None, *, policy: Policy | None = None, as_json: bool = False
) -> int:
    """Answer the lines of standard input.

    At a terminal a line interrupts the running turn; from a pipe each line waits for the answer to the
    line before it.

    Args:
        url: URL of the server's socket.
        token: A credential.
        policy: Answer to tool calls that wait for this client; None asks at a terminal and refuses elsewhere.
        as_json: Whether to print events in place of the answers.

    Returns:
        The exit code: 130 after Ctrl-C, 1 when a line of a pipe was refused, 3 when tools were refused
        because there was no terminal to ask, else 0.
    """
    screen = PlainScreen()
    at_terminal = sys.stdin.isatty()
    async with connected(url, token) as session:
        left = asyncio.Event()
        chat = Chat(
            session,
            screen,
            left.set,
            policy=policy or ("ask" if at_terminal else "refuse"),
            as_json=as_json,
        )
        running = asyncio.create_task(chat.run())
        talking = asyncio.create_task(_talk(chat, wait=not at_terminal))
        leaving = asyncio.create_task(left.wait())
        with on_sigint(chat.press_break):
            try:
                await asyncio.wait([running, talking, leaving], return_when=asyncio.FIRST_COMPLETED)
                if as_json and talking.done() and not running.done():
                    await session.close()  # the stream of events ends behind the last one
                    await asyncio.wait([running])
            finally:
                for task in (running, talking, leaving):
                    if not task.done():
                        task.cancel()
                await chat.stop()
                await asyncio.wait([running, talking, leaving])
        if not running.cancelled():
            running.result()
        if left.is_set():
            return 130
        if chat.refused and not at_terminal:
            return 1
        return REFUSED_EXIT_CODE if chat.consent.refused else 0


async def _talk(chat: Chat, *, wait: bool) -> None:
    lines = read_lines()
    while (line := await lines.get()) is not None:
        chat.send(line)
        if wait:
            await chat.idle()
    await chat.idle()
