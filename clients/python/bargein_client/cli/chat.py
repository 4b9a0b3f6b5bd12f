"""Conversation of `bargein chat`: the messages and commands of the user."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from bargein_protocol import Attachment, TurnId

from ..conversations import ConversationInput
from ..errors import BargeinError, InputRejected, RequestRefused, SessionClosed, TooLarge, TooManyPending
from ..session import ClientSession
from ..turn import ClientTurn
from .consent import Consent, Policy
from .files import check_number, read_file
from .history import show_history, show_input
from .notices import Notices
from .oneshot import print_event
from .other_turns import OtherTurns
from .screen import Screen
from .terminal import Kind
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
    """A message that can be taken back and sent again.

    Attributes:
        text: Its text.
        files: Its files.
        turn: Its turn; None for one that had ended before this conversation went on.
        turn_id: The id of such a turn.
        has_lost_files: Whether it had files that are not here.
    """

    text: str
    files: Sequence[Attachment] = ()
    turn: ClientTurn | None = None
    turn_id: TurnId | None = None
    has_lost_files: bool = False

    @property
    def id(self) -> TurnId | None:
        """The id of its turn, once there is one."""
        return self.turn.id if self.turn is not None else self.turn_id


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
        self._others = OtherTurns(screen)

    def go_on(
        self, inputs: Mapping[str, ConversationInput], mine: Kind = "user", *, is_shown: bool = True
    ) -> None:
        """Show the turns so far, and a running one as it goes on.

        Args:
            inputs: The user's inputs so far, by their ids.
            mine: Kind of the lines with the user's own words.
            is_shown: Whether to show them; without, they can still be taken back.
        """
        if is_shown:
            show_history(self._screen, self._session.history, inputs, mine)
        for state in self._session.history:
            if (given := inputs.get(state.input_id or "")) is not None:
                self._sent.append(_Sent(given.text, turn_id=state.turn_id, has_lost_files=bool(given.files)))
        for turn in self._session.turns if is_shown else ():
            given = inputs.get(turn.input_id)
            text, files = ("", False) if given is None else (given.text, bool(given.files))
            self._screen.gap()
            show_input(self._screen, given, mine)
            if given is not None:
                self._sent.append(_Sent(text, turn=turn, has_lost_files=files))
            self._begin(turn, text, ())

    async def run(self) -> None:
        """Show notices, or print events, until the session is over.

        Raises the reason unless the session was closed on purpose.
        """
        stream = self._session.events()
        notices = Notices(self._screen)
        with suppress(SessionClosed):
            async for event in stream:
                if self._as_json:
                    print_event(event)
                else:
                    notices.show(event)
                    self._others.take(event)
        await self._session.closed()

    @property
    def busy(self) -> bool:
        """Whether a turn is running or waiting."""
        return self._others.running or self._is_showing

    @property
    def _is_showing(self) -> bool:
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
        self._cut()
        self._screen.gap()
        self._pressed_at = float("-inf")  # the next press stops this turn
        self._screen.line("user", f"> {text}")
        try:
            turn = self._session.send(text, on_busy="interrupt", attachments=files)
        except (SessionClosed, TooLarge, TooManyPending) as error:
            self.refused = True
            self._screen.line("mark", str(error))
            return
        self._sent.append(_Sent(text, files, turn))
        self._begin(turn, text, files)

    def _begin(self, turn: ClientTurn, text: str, files: Sequence[Attachment]) -> None:
        self._others.is_own(turn.input_id)
        self._shown = self._spawn(self._show(turn, text, files, self._shown))

    def _cut(self) -> None:
        """Mark where the user interrupts a running turn."""
        self._others.cut()
        if self._is_showing and self._view is not None:
            self._view.cut()

    def _take_back(self, word: str, text: str) -> None:
        """Rewind the last turn, and ask again for it."""
        sent = self._sent[-1] if self._sent else None
        if sent is None:
            self._screen.line("mark", "there is no message to take back")
        elif sent.has_lost_files and word == "/again":
            self._screen.line("mark", "the files of that message are not here: /edit it, and /attach them")
        elif word == "/edit" and not text and self._prefill is not None:
            self._prefill(f"/edit {sent.text}")
        elif word == "/edit" and not text:
            self._screen.line("mark", "expected the new message: /edit TEXT")
        else:
            self._cut()
            again = {"/again": sent.text, "/edit": text}.get(word)
            self._rewinding = self._spawn(self._rewind(sent, again))

    async def _rewind(self, sent: _Sent, again: str | None) -> None:
        try:
            turn_id = sent.turn_id or (await sent.turn.accepted()).turn_id  # type: ignore[union-attr]
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
        gone = {sent.id, *(rewound.turns if rewound is not None else ())}
        left = [kept for kept in self._sent if kept.id not in gone]
        self._sent.clear()
        self._sent.extend(left)
        if again is None:
            self._screen.line("note", f"taken back: {sent.text}")
        else:
            files, self._files = [*sent.files, *self._files], []
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
            self._cut()
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
                self._others.is_own(turn.input_id)
                self._sent.append(_Sent(text, files, turn))
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
